"""The words of letters, put into the full-text index while the writer has nothing better to do.

A letter is taken apart here and not when it is captured: a sender waits for the capture.
"""

import re
import sqlite3
from html import unescape

from postroom.sandbox.mime import Letter, take_apart

BATCH = 50
MAX_BODY = 200_000

_UNSEEN = re.compile(r"(?is)<(style|script|head|title)\b[^>]{0,1000}>.{0,200000}?</\1\s*>|<!--.{0,20000}?-->")
_BREAK = re.compile(r"(?i)<(?:br|p|div|tr|li|h[1-6]|table|/p|/div|/tr|/li|/h[1-6]|/td)\b[^<>]{0,2000}>")
_TAG = re.compile(r"<[^<>]{0,5000}>")


def index_some(connection: sqlite3.Connection) -> bool:
    """Index a batch of the letters that wait for it; true when there may be more."""
    query = (
        "SELECT id, subject, sender, recipients, template, raw FROM letters JOIN contents USING (id) "
        "WHERE indexed = 0 ORDER BY id LIMIT ?"
    )
    rows = connection.execute(query, (BATCH,)).fetchall()
    for number, subject, sender, recipients, template, raw in rows:
        body = readable_text(take_apart(raw))
        connection.execute(
            "INSERT OR REPLACE INTO words (rowid, subject, sender, recipients, template, body) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (number, subject, sender, recipients, template, body),
        )
    connection.executemany("UPDATE letters SET indexed = 1 WHERE id = ?", [(row[0],) for row in rows])
    return len(rows) == BATCH


def readable_text(letter: Letter) -> str:
    """What a person reads in the letter: its text part, or its HTML without the markup."""
    text = letter.first("text/plain")
    if text is not None:
        return text.text()[:MAX_BODY]
    html = letter.first("text/html")
    return strip_markup(html.text()[:MAX_BODY]) if html is not None else ""


def strip_markup(html: str) -> str:
    """HTML → its visible text, roughly: for searching and for finding codes, never for showing as HTML."""
    seen = _TAG.sub("", _BREAK.sub("\n", _UNSEEN.sub(" ", html)))
    return unescape(seen)
