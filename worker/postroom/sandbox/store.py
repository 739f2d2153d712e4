"""The database of captured letters, a SQLite file: raw bytes, summaries and the full-text index.

Captures, marks and deletions go through one writer thread that commits in groups; reads have connections of
their own and never wait for it. The oldest letters are erased when more are stored than `RetentionLimits`
allow, or when they are older. A deletion can be undone for ten minutes; then the bytes are overwritten.

A lock file beside the database admits one process. `PRAGMA user_version` counts the migrations of the file;
opening it runs the missing migrations, each in its own transaction. Failure: `DatabaseInUse` when another
process has the lock, `DatabaseTooNew` for a file of a newer Postroom, sqlite3.Error for everything else.
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

from postroom.group_commit import GroupCommit, Job
from postroom.sandbox.mime import SmtpEnvelope, StoredLetter, summarize_letter
from postroom.sandbox.search import (
    LetterFilter,
    create_index,
    index_batch,
    purge_erased_words,
    where_clause,
)

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

MAX_GROUP = 500
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
"""Letters to a recipient; the column has a line per recipient, with a line end before and after each."""


class DatabaseTooNew(Exception):
    """The file was written by a newer Postroom."""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the file for writing: in WAL mode, durable at each commit, with erased bytes overwritten."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the file for reading only."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA query_only = ON")
    return connection


def migrate(connection: sqlite3.Connection) -> bool:
    """Run the missing migrations; returns whether full-text search (FTS5) is available."""
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done > len(MIGRATIONS):
        raise DatabaseTooNew(
            f"the sandbox's database has schema {done}, this Postroom has {len(MIGRATIONS)}: "
            "start the newer Postroom, or set another file in POSTROOM_SANDBOX_DATABASE"
        )
    for number, step in enumerate(MIGRATIONS[done:], start=done + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {step}; PRAGMA user_version = {number}; COMMIT;")
    return create_index(connection)


class DatabaseInUse(Exception):
    """Another process has the database open for writing."""


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """The limits of letters, bytes and days that are kept; the first limit that is reached applies."""

    letters: int = 10_000
    bytes: int = 1 << 30
    days: int = 30


@dataclass(frozen=True, slots=True)
class InboxCounts:
    """The number of letters and of unread letters, and their bytes."""

    letters: int
    unread: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TemplateGroup:
    """The letters of one template: their number, and the number of unread letters."""

    template: str
    letters: int
    unread: int


class LetterStore:
    """The database; the constructor opens or creates the file. `now` returns milliseconds since 1970."""

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
        self._connection = connection
        self._recount(connection)
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._writer = GroupCommit[sqlite3.Connection](
            self._commit, name="sandbox-writer", max_group=MAX_GROUP, idle=self._commit_idle_work
        )

    def close(self) -> None:
        """Finish the queued writes, close all connections and release the lock."""
        self._writer.close()
        self._connection.close()
        with contextlib.suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()
        self._lock.close()

    # -- writes: each returns a future that is done when the change is on disk

    def capture(self, envelope: SmtpEnvelope, raw: bytes) -> "Future[StoredLetter]":
        """Store a letter; the future's result is its summary with its new id."""
        return self._writer.submit(lambda connection: self._insert(connection, envelope, raw))

    def mark(self, letter: int, *, read: bool) -> "Future[bool]":
        """Mark a letter as read or unread; false when it does not exist."""
        change = "UPDATE letters SET read = ? WHERE id = ? AND deleted_at IS NULL"
        return self._writer.submit(lambda connection: connection.execute(change, (read, letter)).rowcount > 0)

    def mark_all_read(self) -> "Future[int]":
        """Mark all letters as read; the result is the number of letters that were unread."""
        change = "UPDATE letters SET read = 1 WHERE read = 0 AND deleted_at IS NULL"
        return self._writer.submit(lambda connection: connection.execute(change).rowcount)

    def delete(self, letter: int | None = None) -> "Future[tuple[int, int]]":
        """Delete one letter, or all; the result is the deletion's id, for `restore`, and the count."""
        return self._writer.submit(lambda connection: self._delete(connection, letter))

    def restore(self, deletion: int) -> "Future[int]":
        """Undo a deletion; the result is the number of restored letters."""
        return self._writer.submit(lambda connection: self._restore(connection, deletion))

    def erase(self, address: str) -> "Future[int]":
        """Erase all letters to a recipient for good, also deleted letters; the result is their number."""
        return self._writer.submit(lambda connection: self._erase_to(connection, address))

    def finish_indexing(self) -> None:
        """Wait until the words of all stored letters are in the index."""
        if self.full_text:
            while self._writer.submit(index_batch).result():
                pass

    # -- reads

    def find(
        self, letter_filter: LetterFilter, limit: int, *, oldest_first: bool = False
    ) -> list[StoredLetter]:
        """Up to `limit` letters that meet the filter, newest first or oldest first."""
        if letter_filter.words:
            self.finish_indexing()
        clause, values = where_clause(letter_filter, self.full_text)
        order = "ASC" if oldest_first else "DESC"
        query = f"SELECT {_COLUMNS} FROM letters WHERE {clause} ORDER BY id {order} LIMIT ?"  # noqa: S608 - built from constants; every value is a parameter
        with self._reader() as connection:
            return [_stored_letter(row) for row in connection.execute(query, [*values, limit])]

    def count(self, letter_filter: LetterFilter) -> int:
        """The number of letters that meet the filter."""
        if letter_filter.words:
            self.finish_indexing()
        clause, values = where_clause(letter_filter, self.full_text)
        query = f"SELECT count(*) FROM letters WHERE {clause}"  # noqa: S608 - built from constants; every value is a parameter
        with self._reader() as connection:
            return int(connection.execute(query, values).fetchone()[0])

    def letter(self, letter: int) -> StoredLetter | None:
        """One letter's summary, or None."""
        with self._reader() as connection:
            query = f"SELECT {_COLUMNS} FROM letters WHERE id = ? AND deleted_at IS NULL"  # noqa: S608 - built from constants; every value is a parameter
            row = connection.execute(query, (letter,)).fetchone()
        return _stored_letter(row) if row else None

    def raw(self, letter: int) -> bytes | None:
        """One letter's bytes as received after DATA, without dot-stuffing, or None."""
        query = "SELECT raw FROM contents JOIN letters USING (id) WHERE id = ? AND deleted_at IS NULL"
        with self._reader() as connection:
            row = connection.execute(query, (letter,)).fetchone()
        return bytes(row[0]) if row else None

    def templates(self) -> list[TemplateGroup]:
        """The templates of the letters, sorted by name; letters without a template are left out."""
        query = (
            "SELECT template, count(*), sum(read = 0) FROM letters "
            "WHERE deleted_at IS NULL AND template != '' GROUP BY template ORDER BY template"
        )
        with self._reader() as connection:
            return [TemplateGroup(*row) for row in connection.execute(query)]

    def count_to(self, address: str) -> int:
        """The number of letters to a recipient, deleted letters included."""
        with self._reader() as connection:
            return len(connection.execute(_LETTERS_TO, (_recipient_line(address),)).fetchall())

    def counts(self) -> InboxCounts:
        """The counts for pages and metrics."""
        query = (
            "SELECT count(*), coalesce(sum(read = 0), 0), coalesce(sum(size), 0) "
            "FROM letters WHERE deleted_at IS NULL"
        )
        with self._reader() as connection:
            return InboxCounts(*connection.execute(query).fetchone())

    # -- in the writer's thread

    def _commit(self, jobs: Sequence[Job[sqlite3.Connection]]) -> None:
        """Run the jobs in one transaction; a job that raises is rolled back alone."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._run_in_savepoint(job)
            self._connection.execute("COMMIT")
        except Exception:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            self._recount(self._connection)
            raise

    def _run_in_savepoint(self, job: Job[sqlite3.Connection]) -> None:
        self._connection.execute("SAVEPOINT work")
        try:
            job.result = job.work(self._connection)
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # SQLite itself has rolled back the whole transaction, as it does on a full disk
            self._connection.execute("ROLLBACK TO work")
            self._recount(self._connection)
            job.error = error
        else:
            self._connection.execute("RELEASE work")

    def _commit_idle_work(self) -> bool:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            has_more = self._idle_work(self._connection)
            self._connection.execute("COMMIT")
        except Exception:  # noqa: BLE001 - captures must go on whatever the error; tried again in a minute
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            return False
        return has_more

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
            purge_erased_words(connection)
        self._recount(connection)
        return len(erased)

    def _recount(self, connection: sqlite3.Connection) -> None:
        self._letter_count, self._byte_count = connection.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM letters WHERE deleted_at IS NULL"
        ).fetchone()

    def _idle_work(self, connection: sqlite3.Connection) -> bool:
        deleted = "SELECT id FROM letters WHERE deleted_at < ? LIMIT 2000"
        erased = [row[0] for row in connection.execute(deleted, (self.now() - UNDO_MS,))]
        # ids grow with the time of arrival, so that the oldest letters are found without an index on times
        oldest = "SELECT id, received_at FROM letters ORDER BY id LIMIT 2000"
        old = f"SELECT id FROM ({oldest}) WHERE received_at < ?"  # noqa: S608 - built from constants
        erased += [row[0] for row in connection.execute(old, (self.now() - self._limits.days * DAY_MS,))]
        self._erase(connection, erased)
        if erased:
            self._recount(connection)
        if erased and self.full_text:
            purge_erased_words(connection)
        more = self.full_text and index_batch(connection)
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
            f"{path} is open in another sandbox: stop that sandbox, or set another file"
        ) from None
    return handle


def _recipient_line(address: str) -> str:
    return f"\n{address.lower()}\n"


def _stored_letter(row: Sequence[object]) -> StoredLetter:
    fields = list(row)
    fields[3] = tuple(str(fields[3]).strip("\n").split("\n"))
    fields[12] = bool(fields[12])
    return StoredLetter(*fields)  # type: ignore[arg-type]
