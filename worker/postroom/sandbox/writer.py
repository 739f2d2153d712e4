"""One thread that writes, and commits in groups.

Work goes in as a function of a connection and comes out as a future that is done only when the work is on
disk. Everything that was waiting when a commit began shares the next one, so that many letters cost one
fsync. Work that raises is undone alone; when the commit itself fails, all of its group fail with that error.
"""

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
Idle = Callable[[sqlite3.Connection], bool]
Undone = Callable[[sqlite3.Connection], None]
_Job = tuple[Work[Any], "Future[Any]"]

MAX_GROUP = 500
_IDLE_AFTER = 0.05
_LOOK_AGAIN = 60.0


class Writer:
    """Owns the writing connection.

    `idle` is called while nothing waits, until it returns false, and then once a minute; `undone` after work
    was rolled back, so that what is remembered beside the database can be read again.
    """

    def __init__(self, connection: sqlite3.Connection, idle: Idle, undone: Undone) -> None:
        self._connection = connection
        self._idle = idle
        self._undone = undone
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sandbox-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T]) -> "Future[T]":
        """Queue work; the future's result is what the work returned, and by then it is durable."""
        future: Future[T] = Future()
        self._jobs.put((work, future))
        return future

    def close(self) -> None:
        """Finish what was queued, then close the connection."""
        self._jobs.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        more_to_do = True
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_AFTER if more_to_do else _LOOK_AGAIN)
            except queue.Empty:
                more_to_do = self._do_idle_work()
                continue
            group, last = self._group(job)
            if group:
                self._commit(group)
                more_to_do = True
            if last:
                return

    def _group(self, first: _Job | None) -> tuple[list[_Job], bool]:
        group: list[_Job] = []
        job = first
        while job is not None:
            group.append(job)
            if len(group) >= MAX_GROUP:
                return group, False
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _commit(self, group: list[_Job]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        failed: list[tuple[Future[Any], Exception]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for work, future in group:
                try:
                    done.append((future, self._alone(work)))
                except Exception as fault:
                    if not self._connection.in_transaction:
                        raise  # SQLite has undone everything by itself, as it does on a full disk
                    failed.append((future, fault))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            self._undone(self._connection)
            for _, future in group:
                future.set_exception(error)
            return
        for future, result in done:
            future.set_result(result)
        for future, reason in failed:
            future.set_exception(reason)

    def _alone(self, work: Work[T]) -> T:
        self._connection.execute("SAVEPOINT work")
        try:
            result = work(self._connection)
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO work")
            self._undone(self._connection)
            raise
        self._connection.execute("RELEASE work")
        return result

    def _do_idle_work(self) -> bool:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            more = self._idle(self._connection)
            self._connection.execute("COMMIT")
        except Exception:  # noqa: BLE001 - whatever it is, captures must go on; tried again in a minute
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            return False
        return more
