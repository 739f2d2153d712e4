"""The words of letters, put into the full-text index while the writer has nothing better to do.

A letter is taken apart here and not when it is captured: a sender waits for the capture.
"""

import re
import sqlite3
from html import unescape

from postroom.sandbox.mime import ParsedLetter, parse_letter

INDEX_BATCH = 50
MAX_INDEXED_CHARACTERS = 200_000

_TAG = re.compile(r"<!--|<(/?)([a-zA-Z][a-zA-Z0-9]{0,20})[^<>]{0,5000}>|<[!?][^<>]{0,5000}>")
_HIDDEN_TAGS = frozenset({"style", "script", "title"})
_BLOCK_TAGS = frozenset({"br", "p", "div", "tr", "td", "li", "table", "h1", "h2", "h3", "h4", "h5", "h6"})


def index_batch(connection: sqlite3.Connection) -> bool:
    """Index a batch of the letters that wait for it; true when there may be more."""
    query = (
        "SELECT id, subject, sender, recipients, template, raw FROM letters JOIN contents USING (id) "
        "WHERE indexed = 0 ORDER BY id LIMIT ?"
    )
    rows = connection.execute(query, (INDEX_BATCH,)).fetchall()
    for number, subject, sender, recipients, template, raw in rows:
        body = _body_text(raw)
        connection.execute(
            "INSERT OR REPLACE INTO words (rowid, subject, sender, recipients, template, body) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (number, subject, sender, recipients, template, body),
        )
    connection.executemany("UPDATE letters SET indexed = 1 WHERE id = ?", [(row[0],) for row in rows])
    return len(rows) == INDEX_BATCH


def _body_text(raw: bytes) -> str:
    try:
        return plain_text(parse_letter(raw))
    except Exception:  # noqa: BLE001 - one unreadable letter must not keep the others from being found
        return ""


def purge_erased_words(connection: sqlite3.Connection) -> None:
    """Write the index anew without the words of erased letters: erasing alone only marks them as gone."""
    connection.execute("INSERT INTO words (words) VALUES ('optimize')")


def plain_text(letter: ParsedLetter) -> str:
    """What a person reads in the letter: its text part, or its HTML without the markup."""
    text = letter.first("text/plain")
    if text is not None:
        return text.text()[:MAX_INDEXED_CHARACTERS]
    html = letter.first("text/html")
    return strip_markup(html.text()[:MAX_INDEXED_CHARACTERS]) if html is not None else ""


def strip_markup(html: str) -> str:
    """HTML → its visible text, roughly: for searching and for finding codes, never for showing as HTML.

    One pass over the tags, so that an unclosed one costs no more than a closed one.
    """
    visible, position, hidden_tag = list[str](), 0, ""
    while tag := _TAG.search(html, position):
        name = (tag.group(2) or "").lower()
        if not hidden_tag:
            visible.append(html[position : tag.start()])
        if tag.group() == "<!--":
            end = html.find("-->", tag.end())
            position = len(html) if end < 0 else end + 3
            continue
        if hidden_tag:
            hidden_tag = "" if tag.group(1) and name == hidden_tag else hidden_tag
        elif name in _HIDDEN_TAGS and not tag.group(1):
            hidden_tag = name
        elif name in _BLOCK_TAGS:
            visible.append("\n")
        position = tag.end()
    return unescape("".join(visible) + ("" if hidden_tag else html[position:]))
