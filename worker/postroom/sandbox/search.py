"""Search the inbox: a line of words and operators → a filter → SQL; and the full-text index (FTS5) behind it.

`to:mira template:receipt is:unread has:attachment order 20418` gives four conditions and two words. An
operator that does not exist is reported with the nearest operator, never searched as a word.

The store's writer indexes letters while it is idle and before a search for words, not at the capture, since
the sender of a letter waits for the capture.
"""

import difflib
import re
import shlex
import sqlite3
from dataclasses import dataclass, replace

from postroom.sandbox.extract import plain_text
from postroom.sandbox.mime import parse_letter

OPERATORS = ("to", "from", "subject", "template", "is", "has")
INDEX_BATCH = 50
_VALUES = {"is": ("unread", "read"), "has": ("attachment",)}
_OPERATOR = re.compile(r"([a-z]{2,12}):(.*)\Z", re.DOTALL)
_FTS_TABLE = """
    CREATE VIRTUAL TABLE IF NOT EXISTS words
    USING fts5 (subject, sender, recipients, template, body, tokenize = 'unicode61 remove_diacritics 2')
"""


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Conditions that a letter must all meet. Texts match regardless of case; None sets no condition."""

    to: str | None = None
    sender: str | None = None
    subject: str | None = None
    template: str | None = None
    message_id: str | None = None
    words: tuple[str, ...] = ()
    read: bool | None = None
    attachments: bool | None = None
    since: int | None = None
    after: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class UnknownOperator:
    """An operator or value that does not exist, the nearest one that does, and the line corrected with it."""

    text: str
    nearest: str | None
    corrected: str


def parse_query(line: str, start: LetterFilter | None = None) -> LetterFilter | UnknownOperator:
    """Parse a search line; the result extends `start`, or is the first operator that does not exist."""
    found = start or LetterFilter()
    words = list(found.words)
    for token in _tokens(line):
        operator = _OPERATOR.match(token)
        if operator is None or operator.group(2).startswith("//"):
            words.append(token)
            continue
        name, value = operator.group(1), operator.group(2)
        if name not in OPERATORS:
            return _unknown_operator(line, f"{name}:", tuple(f"{known}:" for known in OPERATORS))
        if name in _VALUES and value not in _VALUES[name]:
            return _unknown_operator(line, token, tuple(f"{name}:{known}" for known in _VALUES[name]))
        if value:
            found = _with_operator(found, name, value)
    return replace(found, words=tuple(words))


def where_clause(letter_filter: LetterFilter, full_text: bool) -> tuple[str, list[object]]:
    """The WHERE clause of a filter over the table `letters`, and its parameters."""
    clauses, values = ["deleted_at IS NULL"], list[object]()
    for clause, value in _column_clauses(letter_filter):
        if value is not None:
            clauses.append(clause)
            values.append(value)
    if letter_filter.to is not None:
        whole = "@" in letter_filter.to.strip("@")
        clauses.append("instr(lower(recipients), ?) > 0")
        values.append(f"\n{letter_filter.to.lower()}\n" if whole else letter_filter.to.lower())
    for clause, text in (("sender", letter_filter.sender), ("subject", letter_filter.subject)):
        if text is not None:
            clauses.append(f"{clause} LIKE ? ESCAPE '\\'")
            values.append(_like_pattern(text))
    if letter_filter.attachments is not None:
        clauses.append("attachments > 0" if letter_filter.attachments else "attachments = 0")
    for word in letter_filter.words:
        clause, more = _word_clause(word, full_text)
        clauses.append(clause)
        values.extend(more)
    return " AND ".join(clauses), values


def create_index(connection: sqlite3.Connection) -> bool:
    """Create the full-text index unless it exists; false where SQLite has no FTS5."""
    try:
        connection.execute(_FTS_TABLE)
    except sqlite3.OperationalError:
        return False
    return True


def index_batch(connection: sqlite3.Connection) -> bool:
    """Index the next letters that are not indexed yet; true when there may be more."""
    query = (
        "SELECT id, subject, sender, recipients, template, raw FROM letters JOIN contents USING (id) "
        "WHERE indexed = 0 ORDER BY id LIMIT ?"
    )
    rows = connection.execute(query, (INDEX_BATCH,)).fetchall()
    for number, subject, sender, recipients, template, raw in rows:
        connection.execute(
            "INSERT OR REPLACE INTO words (rowid, subject, sender, recipients, template, body) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (number, subject, sender, recipients, template, _body_text(raw)),
        )
    connection.executemany("UPDATE letters SET indexed = 1 WHERE id = ?", [(row[0],) for row in rows])
    return len(rows) == INDEX_BATCH


def purge_erased_words(connection: sqlite3.Connection) -> None:
    """Rebuild the index without the words of erased letters; a DELETE alone only marks them as removed."""
    connection.execute("INSERT INTO words (words) VALUES ('optimize')")


def _body_text(raw: bytes) -> str:
    try:
        return plain_text(parse_letter(raw))
    except Exception:  # noqa: BLE001 - an unreadable letter must not stop the index of the others
        return ""


def _column_clauses(letter_filter: LetterFilter) -> tuple[tuple[str, object | None], ...]:
    read = None if letter_filter.read is None else int(letter_filter.read)
    return (
        ("template = ?", letter_filter.template),
        ("message_id = ?", letter_filter.message_id),
        ("read = ?", read),
        ("received_at >= ?", letter_filter.since),
        ("id > ?", letter_filter.after),
        ("id < ?", letter_filter.before),
    )


def _word_clause(word: str, full_text: bool) -> tuple[str, list[object]]:
    like = _like_pattern(word)
    columns = "subject LIKE ? ESCAPE '\\' OR sender LIKE ? ESCAPE '\\' OR recipients LIKE ? ESCAPE '\\'"
    if not full_text or not any(c.isalnum() for c in word):
        return f"({columns})", [like, like, like]
    phrase = '"' + word.replace('"', '""') + '"*'
    clauses, values = (
        ["id IN (SELECT rowid FROM words WHERE words MATCH ?)", columns],
        [phrase, like, like, like],
    )
    if not word.isascii():
        # The index takes a text without spaces between its words, as in Japanese, for a single word.
        clauses.append("id IN (SELECT rowid FROM words WHERE body LIKE ? ESCAPE '\\')")
        values.append(like)
    return f"({' OR '.join(clauses)})", list[object](values)


def _like_pattern(text: str) -> str:
    return "%" + re.sub(r"([\\%_])", r"\\\1", text) + "%"


def _with_operator(found: LetterFilter, name: str, value: str) -> LetterFilter:
    match name:
        case "to":
            return replace(found, to=value)
        case "from":
            return replace(found, sender=value)
        case "subject":
            return replace(found, subject=value)
        case "template":
            return replace(found, template=value)
        case "is":
            return replace(found, read=value == "read")
        case _:
            return replace(found, attachments=True)


def _unknown_operator(line: str, text: str, known: tuple[str, ...]) -> UnknownOperator:
    nearest = next(iter(difflib.get_close_matches(text, known, n=1)), known[0] if len(known) == 1 else None)
    return UnknownOperator(text, nearest, line.replace(text, nearest, 1) if nearest else "")


def _tokens(line: str) -> list[str]:
    clean = line.replace("\0", " ")[:500]
    try:
        return shlex.split(clean, posix=True)
    except ValueError:
        return clean.replace('"', " ").replace("'", " ").split()
