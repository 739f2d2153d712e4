"""The letters on disk: raw bytes, the line that the list shows, and words to search.

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

from postroom.sandbox import words
from postroom.sandbox.schema import connect, connect_for_reading, migrate
from postroom.sandbox.search import Filter, conditions
from postroom.sandbox.summary import Envelope, Summary, summarize
from postroom.sandbox.writer import Writer

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


_TO = "SELECT id FROM letters WHERE instr(lower(recipients), ?)"
"""Letters to a recipient; recipients stand one a line, with a line end before and behind."""


class AlreadyOpen(Exception):
    """Another process has this database open for writing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept; whichever is reached first counts."""

    letters: int = 10_000
    bytes: int = 1 << 30
    days: int = 30


@dataclass(frozen=True, slots=True)
class Counts:
    """How many letters there are, how many of them nobody has opened, and how many bytes they take."""

    letters: int
    unread: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Pile:
    """The letters of one template: how many there are, and how many of them nobody has opened."""

    template: str
    letters: int
    unread: int


class Store:
    """Open the file, or make it. `now` gives milliseconds since 1970, UTC."""

    def __init__(
        self, path: Path, limits: Limits | None = None, now: Callable[[], int] | None = None
    ) -> None:
        self._path = path
        self._limits = limits or Limits()
        self.now = now or (lambda: time.time_ns() // 1_000_000)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path)
        try:
            connection = connect(path)
            self.full_text = migrate(connection)
        except BaseException:
            self._lock.close()
            raise
        self._count_again(connection)
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._writer = Writer(connection, self._while_idle, self._count_again)

    def close(self) -> None:
        """Finish what is being written and let go of the file."""
        self._writer.close()
        with contextlib.suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()
        self._lock.close()

    # -- writing: each returns a future that is done when the change is on disk

    def capture(self, envelope: Envelope, raw: bytes) -> "Future[Summary]":
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

    def catch_up(self) -> None:
        """Wait until every stored letter's words can be searched."""
        if self.full_text:
            while self._writer.submit(words.index_some).result():
                pass

    # -- reading

    def find(self, wanted: Filter, limit: int, *, oldest_first: bool = False) -> list[Summary]:
        """Letters that meet the filter, newest first; with `oldest_first` those that came first."""
        if wanted.words:
            self.catch_up()
        clause, values = conditions(wanted, self.full_text)
        order = "ASC" if oldest_first else "DESC"
        query = f"SELECT {_COLUMNS} FROM letters WHERE {clause} ORDER BY id {order} LIMIT ?"  # noqa: S608 - made of constants; every value is a parameter
        with self._reading() as connection:
            return [_summary(row) for row in connection.execute(query, [*values, limit])]

    def count(self, wanted: Filter) -> int:
        """How many letters meet the filter."""
        if wanted.words:
            self.catch_up()
        clause, values = conditions(wanted, self.full_text)
        query = f"SELECT count(*) FROM letters WHERE {clause}"  # noqa: S608 - made of constants; every value is a parameter
        with self._reading() as connection:
            return int(connection.execute(query, values).fetchone()[0])

    def letter(self, letter: int) -> Summary | None:
        """One letter's summary, or None."""
        with self._reading() as connection:
            query = f"SELECT {_COLUMNS} FROM letters WHERE id = ? AND deleted_at IS NULL"  # noqa: S608 - made of constants; every value is a parameter
            row = connection.execute(query, (letter,)).fetchone()
        return _summary(row) if row else None

    def raw(self, letter: int) -> bytes | None:
        """One letter's bytes as they came after DATA, without dot-stuffing, or None."""
        query = "SELECT raw FROM contents JOIN letters USING (id) WHERE id = ? AND deleted_at IS NULL"
        with self._reading() as connection:
            row = connection.execute(query, (letter,)).fetchone()
        return bytes(row[0]) if row else None

    def templates(self) -> list[Pile]:
        """The templates that letters came from, by name; letters without one are not among them."""
        query = (
            "SELECT template, count(*), sum(read = 0) FROM letters "
            "WHERE deleted_at IS NULL AND template != '' GROUP BY template ORDER BY template"
        )
        with self._reading() as connection:
            return [Pile(*row) for row in connection.execute(query)]

    def count_to(self, address: str) -> int:
        """How many letters to a recipient there are, deleted ones too."""
        with self._reading() as connection:
            return len(connection.execute(_TO, (_framed(address),)).fetchall())

    def counts(self) -> Counts:
        """The figures that the page and the metrics show."""
        query = (
            "SELECT count(*), coalesce(sum(read = 0), 0), coalesce(sum(size), 0) "
            "FROM letters WHERE deleted_at IS NULL"
        )
        with self._reading() as connection:
            return Counts(*connection.execute(query).fetchone())

    # -- inside the writer's thread

    def _insert(self, connection: sqlite3.Connection, envelope: Envelope, raw: bytes) -> Summary:
        letter = summarize(envelope, raw, self.now())
        framed = "\n" + "\n".join(letter.recipients) + "\n"
        row = (
            letter.received_at, letter.mail_from, framed, letter.sender, letter.subject, letter.message_id,
            letter.date, letter.template, letter.revision, letter.size, letter.attachments, letter.peer,
        )  # fmt: skip
        number = connection.execute(_INSERT, row).lastrowid or 0
        connection.execute("INSERT INTO contents (id, raw) VALUES (?, ?)", (number, raw))
        self._kept += 1
        self._kept_bytes += letter.size
        self._trim(connection, newest=number)
        return replace(letter, id=number)

    def _trim(self, connection: sqlite3.Connection, newest: int) -> None:
        while self._kept > self._limits.letters or self._kept_bytes > self._limits.bytes:
            query = "SELECT id, size FROM letters WHERE deleted_at IS NULL AND id < ? ORDER BY id LIMIT 1"
            oldest = connection.execute(query, (newest,)).fetchone()
            if oldest is None:
                return
            self._kept -= 1
            self._kept_bytes -= oldest[1]
            self._erase(connection, [oldest[0]])

    def _delete(self, connection: sqlite3.Connection, letter: int | None) -> tuple[int, int]:
        (last,) = connection.execute("SELECT coalesce(max(deleted_at), 0) FROM letters").fetchone()
        deletion = max(self.now(), last + 1)
        change = "UPDATE letters SET deleted_at = ? WHERE deleted_at IS NULL AND id = coalesce(?, id)"
        number = connection.execute(change, (deletion, letter)).rowcount
        self._count_again(connection)
        return deletion, number

    def _restore(self, connection: sqlite3.Connection, deletion: int) -> int:
        number = connection.execute(
            "UPDATE letters SET deleted_at = NULL WHERE deleted_at = ?", (deletion,)
        ).rowcount
        self._count_again(connection)
        return number

    def _erase_to(self, connection: sqlite3.Connection, address: str) -> int:
        gone = [row[0] for row in connection.execute(_TO, (_framed(address),))]
        self._erase(connection, gone)
        if gone and self.full_text:
            words.forget(connection)
        self._count_again(connection)
        return len(gone)

    def _count_again(self, connection: sqlite3.Connection) -> None:
        self._kept, self._kept_bytes = connection.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM letters WHERE deleted_at IS NULL"
        ).fetchone()

    def _while_idle(self, connection: sqlite3.Connection) -> bool:
        deleted = "SELECT id FROM letters WHERE deleted_at < ? LIMIT 2000"
        gone = [row[0] for row in connection.execute(deleted, (self.now() - UNDO_MS,))]
        # numbers are given in the order of arrival, so that the oldest need no index on their times
        oldest = "SELECT id, received_at FROM letters ORDER BY id LIMIT 2000"
        old = f"SELECT id FROM ({oldest}) WHERE received_at < ?"  # noqa: S608 - made of constants
        gone += [row[0] for row in connection.execute(old, (self.now() - self._limits.days * DAY_MS,))]
        self._erase(connection, gone)
        if gone:
            self._count_again(connection)
        if gone and self.full_text:
            words.forget(connection)
        more = self.full_text and words.index_some(connection)
        return bool(gone) or more

    def _erase(self, connection: sqlite3.Connection, letters: Sequence[int]) -> None:
        rows = [(letter,) for letter in letters]
        if self.full_text:
            connection.executemany("DELETE FROM words WHERE rowid = ?", rows)
        connection.executemany("DELETE FROM letters WHERE id = ?", rows)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._readers.get_nowait()
        except queue.Empty:
            connection = connect_for_reading(self._path)
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
        raise AlreadyOpen(f"{path} is open in another sandbox: stop that one, or name another file") from None
    return handle


def _framed(address: str) -> str:
    return f"\n{address.lower()}\n"


def _summary(row: Sequence[object]) -> Summary:
    fields = list(row)
    fields[3] = tuple(str(fields[3]).strip("\n").split("\n"))
    fields[12] = bool(fields[12])
    return Summary(*fields)  # type: ignore[arg-type]
