"""The sandbox's database: its tables, and how an older file becomes a current one.

`PRAGMA user_version` counts the steps a file has taken; opening it takes the missing ones, each in its own
transaction, so that a step that fails leaves the file as it was. A file from a newer Postroom is refused.

The letters on disk: raw bytes, the line that the list shows, and words to search.

Captures, marks and deletions go through one writer that commits in groups; reads have connections of their
own and never wait for it. The oldest letters go when there are more than `Limits` allow, or when they are
older. A deletion can be undone for ten minutes, after which the bytes are overwritten. One process a file,
kept by a lock beside it.
"""

import contextlib
import fcntl
import queue
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from postroom.sandbox import fts_index
from postroom.sandbox.mime import SmtpEnvelope, StoredLetter, summarize_letter
from postroom.sandbox.search import LetterFilter, where_clause
from postroom.sandbox.writer import Writer

MIGRATIONS = (
    """
    CREATE TABLE letters (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      received_at INTEGER NOT NULL,
      mail_from TEXT NOT NULL,
      recipients TEXT NOT NULL,
      sender TEXT NOT NULL,
      subject TEXT NOT NULL,
      message_id TEXT NOT NULL,
      date TEXT NOT NULL,
      template TEXT NOT NULL,
      revision TEXT NOT NULL,
      size INTEGER NOT NULL,
      attachments INTEGER NOT NULL,
      read INTEGER NOT NULL DEFAULT 0,
      peer TEXT NOT NULL,
      deleted_at INTEGER,
      indexed INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE contents (
      id INTEGER PRIMARY KEY REFERENCES letters (id) ON DELETE CASCADE,
      raw BLOB NOT NULL
    );
    CREATE INDEX letters_by_message_id ON letters (message_id);
    CREATE INDEX letters_deleted ON letters (deleted_at) WHERE deleted_at IS NOT NULL;
    CREATE INDEX letters_unread ON letters (id) WHERE read = 0 AND deleted_at IS NULL;
    CREATE INDEX letters_unindexed ON letters (id) WHERE indexed = 0;
    """,
)

_FTS_TABLE = """
    CREATE VIRTUAL TABLE IF NOT EXISTS words
    USING fts5 (subject, sender, recipients, template, body, tokenize = 'unicode61 remove_diacritics 2')
"""


class DatabaseTooNew(Exception):
    """The file was written by a newer Postroom than this one."""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the file for writing: WAL, and durable at each commit."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the file so that no statement can change it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA query_only = ON")
    return connection


def migrate(connection: sqlite3.Connection) -> bool:
    """Bring the file up to date; returns whether full-text search (FTS5) is there."""
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done > len(MIGRATIONS):
        raise DatabaseTooNew(
            f"the sandbox's database has schema {done}, this Postroom knows {len(MIGRATIONS)}: "
            "start the newer Postroom, or name another file in POSTROOM_SANDBOX_DATABASE"
        )
    for number, step in enumerate(MIGRATIONS[done:], start=done + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {step}; PRAGMA user_version = {number}; COMMIT;")
    try:
        connection.execute(_FTS_TABLE)
    except sqlite3.OperationalError:
        return False
    return True


UNDO_MS = 600_000
DAY_MS = 86_400_000
_COLUMNS = (
    "id, received_at, mail_from, recipients, sender, subject, message_id, date, "
    "template, revision, size, attachments, read, peer"
)
_INSERT = (
    "INSERT INTO letters (received_at, mail_from, recipients, sender, subject, message_id, date, "
    "template, revision, size, attachments, peer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


_LETTERS_TO = "SELECT id FROM letters WHERE instr(lower(recipients), ?)"
"""Letters to a recipient; recipients stand one a line, with a line end before and behind."""


class DatabaseInUse(Exception):
    """Another process has this database open for writing."""


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """How much is kept; whichever is reached first counts."""

    letters: int = 10_000
    bytes: int = 1 << 30
    days: int = 30


@dataclass(frozen=True, slots=True)
class InboxCounts:
    """How many letters there are, how many of them nobody has opened, and how many bytes they take."""

    letters: int
    unread: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TemplateGroup:
    """The letters of one template: how many there are, and how many of them nobody has opened."""

    template: str
    letters: int
    unread: int


class LetterStore:
    """Open the file, or make it. `now` gives milliseconds since 1970, UTC."""

    def __init__(
        self, path: Path, limits: RetentionLimits | None = None, now: Callable[[], int] | None = None
    ) -> None:
        self._path = path
        self._limits = limits or RetentionLimits()
        self.now = now or (lambda: time.time_ns() // 1_000_000)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path)
        try:
            connection = open_for_writing(path)
            self.full_text = migrate(connection)
        except BaseException:
            self._lock.close()
            raise
        self._recount(connection)
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._writer = Writer(connection, self._idle_work, self._recount)

    def close(self) -> None:
        """Finish what is being written and let go of the file."""
        self._writer.close()
        with contextlib.suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()
        self._lock.close()

    # -- writing: each returns a future that is done when the change is on disk

    def capture(self, envelope: SmtpEnvelope, raw: bytes) -> "Future[StoredLetter]":
        """Keep a letter; the future gives its summary with the id it got."""
        return self._writer.submit(lambda connection: self._insert(connection, envelope, raw))

    def mark(self, letter: int, *, read: bool) -> "Future[bool]":
        """Mark a letter read or unread; false when there is no such letter."""
        change = "UPDATE letters SET read = ? WHERE id = ? AND deleted_at IS NULL"
        return self._writer.submit(lambda connection: connection.execute(change, (read, letter)).rowcount > 0)

    def mark_all_read(self) -> "Future[int]":
        """Mark every letter read; gives how many were not."""
        change = "UPDATE letters SET read = 1 WHERE read = 0 AND deleted_at IS NULL"
        return self._writer.submit(lambda connection: connection.execute(change).rowcount)

    def delete(self, letter: int | None = None) -> "Future[tuple[int, int]]":
        """Delete one letter, or all; gives the deletion's number (for `restore`) and how many it took."""
        return self._writer.submit(lambda connection: self._delete(connection, letter))

    def restore(self, deletion: int) -> "Future[int]":
        """Undo a deletion; gives how many letters are back."""
        return self._writer.submit(lambda connection: self._restore(connection, deletion))

    def erase(self, address: str) -> "Future[int]":
        """Erase every letter to a recipient for good, deleted ones too; gives how many there were."""
        return self._writer.submit(lambda connection: self._erase_to(connection, address))

    def finish_indexing(self) -> None:
        """Wait until every stored letter's words can be searched."""
        if self.full_text:
            while self._writer.submit(fts_index.index_batch).result():
                pass

    # -- reading

    def find(
        self, letter_filter: LetterFilter, limit: int, *, oldest_first: bool = False
    ) -> list[StoredLetter]:
        """Letters that meet the filter, newest first; with `oldest_first` those that came first."""
        if letter_filter.words:
            self.finish_indexing()
        clause, values = where_clause(letter_filter, self.full_text)
        order = "ASC" if oldest_first else "DESC"
        query = f"SELECT {_COLUMNS} FROM letters WHERE {clause} ORDER BY id {order} LIMIT ?"  # noqa: S608 - made of constants; every value is a parameter
        with self._reader() as connection:
            return [_stored_letter(row) for row in connection.execute(query, [*values, limit])]

    def count(self, letter_filter: LetterFilter) -> int:
        """How many letters meet the filter."""
        if letter_filter.words:
            self.finish_indexing()
        clause, values = where_clause(letter_filter, self.full_text)
        query = f"SELECT count(*) FROM letters WHERE {clause}"  # noqa: S608 - made of constants; every value is a parameter
        with self._reader() as connection:
            return int(connection.execute(query, values).fetchone()[0])

    def letter(self, letter: int) -> StoredLetter | None:
        """One letter's summary, or None."""
        with self._reader() as connection:
            query = f"SELECT {_COLUMNS} FROM letters WHERE id = ? AND deleted_at IS NULL"  # noqa: S608 - made of constants; every value is a parameter
            row = connection.execute(query, (letter,)).fetchone()
        return _stored_letter(row) if row else None

    def raw(self, letter: int) -> bytes | None:
        """One letter's bytes as they came after DATA, without dot-stuffing, or None."""
        query = "SELECT raw FROM contents JOIN letters USING (id) WHERE id = ? AND deleted_at IS NULL"
        with self._reader() as connection:
            row = connection.execute(query, (letter,)).fetchone()
        return bytes(row[0]) if row else None

    def templates(self) -> list[TemplateGroup]:
        """The templates that letters came from, by name; letters without one are not among them."""
        query = (
            "SELECT template, count(*), sum(read = 0) FROM letters "
            "WHERE deleted_at IS NULL AND template != '' GROUP BY template ORDER BY template"
        )
        with self._reader() as connection:
            return [TemplateGroup(*row) for row in connection.execute(query)]

    def count_to(self, address: str) -> int:
        """How many letters to a recipient there are, deleted ones too."""
        with self._reader() as connection:
            return len(connection.execute(_LETTERS_TO, (_recipient_line(address),)).fetchall())

    def counts(self) -> InboxCounts:
        """The figures that the page and the metrics show."""
        query = (
            "SELECT count(*), coalesce(sum(read = 0), 0), coalesce(sum(size), 0) "
            "FROM letters WHERE deleted_at IS NULL"
        )
        with self._reader() as connection:
            return InboxCounts(*connection.execute(query).fetchone())

    # -- inside the writer's thread

    def _insert(self, connection: sqlite3.Connection, envelope: SmtpEnvelope, raw: bytes) -> StoredLetter:
        letter = summarize_letter(envelope, raw, self.now())
        recipient_lines = "\n" + "\n".join(letter.recipients) + "\n"
        row = (
            letter.received_at, letter.mail_from, recipient_lines, letter.sender, letter.subject,
            letter.message_id, letter.date, letter.template, letter.revision, letter.size,
            letter.attachments, letter.peer,
        )  # fmt: skip
        number = connection.execute(_INSERT, row).lastrowid or 0
        connection.execute("INSERT INTO contents (id, raw) VALUES (?, ?)", (number, raw))
        self._letter_count += 1
        self._byte_count += letter.size
        self._trim(connection, newest=number)
        return replace(letter, id=number)

    def _trim(self, connection: sqlite3.Connection, newest: int) -> None:
        while self._letter_count > self._limits.letters or self._byte_count > self._limits.bytes:
            query = "SELECT id, size FROM letters WHERE deleted_at IS NULL AND id < ? ORDER BY id LIMIT 1"
            oldest = connection.execute(query, (newest,)).fetchone()
            if oldest is None:
                return
            self._letter_count -= 1
            self._byte_count -= oldest[1]
            self._erase(connection, [oldest[0]])

    def _delete(self, connection: sqlite3.Connection, letter: int | None) -> tuple[int, int]:
        (last,) = connection.execute("SELECT coalesce(max(deleted_at), 0) FROM letters").fetchone()
        deletion = max(self.now(), last + 1)
        change = "UPDATE letters SET deleted_at = ? WHERE deleted_at IS NULL AND id = coalesce(?, id)"
        number = connection.execute(change, (deletion, letter)).rowcount
        self._recount(connection)
        return deletion, number

    def _restore(self, connection: sqlite3.Connection, deletion: int) -> int:
        number = connection.execute(
            "UPDATE letters SET deleted_at = NULL WHERE deleted_at = ?", (deletion,)
        ).rowcount
        self._recount(connection)
        return number

    def _erase_to(self, connection: sqlite3.Connection, address: str) -> int:
        erased = [row[0] for row in connection.execute(_LETTERS_TO, (_recipient_line(address),))]
        self._erase(connection, erased)
        if erased and self.full_text:
            fts_index.purge_erased_words(connection)
        self._recount(connection)
        return len(erased)

    def _recount(self, connection: sqlite3.Connection) -> None:
        self._letter_count, self._byte_count = connection.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM letters WHERE deleted_at IS NULL"
        ).fetchone()

    def _idle_work(self, connection: sqlite3.Connection) -> bool:
        deleted = "SELECT id FROM letters WHERE deleted_at < ? LIMIT 2000"
        erased = [row[0] for row in connection.execute(deleted, (self.now() - UNDO_MS,))]
        # numbers are given in the order of arrival, so that the oldest need no index on their times
        oldest = "SELECT id, received_at FROM letters ORDER BY id LIMIT 2000"
        old = f"SELECT id FROM ({oldest}) WHERE received_at < ?"  # noqa: S608 - made of constants
        erased += [row[0] for row in connection.execute(old, (self.now() - self._limits.days * DAY_MS,))]
        self._erase(connection, erased)
        if erased:
            self._recount(connection)
        if erased and self.full_text:
            fts_index.purge_erased_words(connection)
        more = self.full_text and fts_index.index_batch(connection)
        return bool(erased) or more

    def _erase(self, connection: sqlite3.Connection, letters: Sequence[int]) -> None:
        rows = [(letter,) for letter in letters]
        if self.full_text:
            connection.executemany("DELETE FROM words WHERE rowid = ?", rows)
        connection.executemany("DELETE FROM letters WHERE id = ?", rows)

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._readers.get_nowait()
        except queue.Empty:
            connection = open_for_reading(self._path)
        try:
            yield connection
        finally:
            self._readers.put(connection)


def _lock(path: Path) -> IO[bytes]:
    handle = Path(f"{path}.lock").open("wb")  # noqa: SIM115 - held for as long as the store is open
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise DatabaseInUse(
            f"{path} is open in another sandbox: stop that one, or name another file"
        ) from None
    return handle


def _recipient_line(address: str) -> str:
    return f"\n{address.lower()}\n"


def _stored_letter(row: Sequence[object]) -> StoredLetter:
    fields = list(row)
    fields[3] = tuple(str(fields[3]).strip("\n").split("\n"))
    fields[12] = bool(fields[12])
    return StoredLetter(*fields)  # type: ignore[arg-type]
