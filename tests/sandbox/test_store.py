"""The store: durability, retention, deletion and undo."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from postroom.sandbox import store
from postroom.sandbox.mime import StoredLetter
from postroom.sandbox.search import LetterFilter
from postroom.sandbox.store import (
    DAY_MS,
    UNDO_MS,
    DatabaseInUse,
    DatabaseTooNew,
    LetterStore,
    RetentionLimits,
    migrate,
    open_for_writing,
)
from tests.sandbox.conftest import ENVELOPE
from tests.sandbox.sample_letters import letter, raw

Capture = Callable[..., StoredLetter]


def ids(store: LetterStore, letter_filter: LetterFilter | None = None) -> list[int]:
    return [found.id for found in store.find(letter_filter or LetterFilter(), 1000)]


def test_a_captured_letter_is_there_after_reopening(tmp_path: Path) -> None:
    store = LetterStore(tmp_path / "s.sqlite")
    summary = store.capture(ENVELOPE, raw(letter("Kept"))).result(5)
    store.close()
    store = LetterStore(tmp_path / "s.sqlite")
    assert store.letter(summary.id) == summary
    assert store.raw(summary.id) == raw(letter("Kept"))
    assert store.counts().letters == 1
    store.close()


def test_a_letter_is_on_disk_before_its_future_is_done(store: LetterStore, tmp_path: Path) -> None:
    summary = store.capture(ENVELOPE, b"Subject: x\r\n\r\n").result(5)
    other = sqlite3.connect(tmp_path / "sandbox.sqlite")
    assert other.execute("SELECT id FROM letters").fetchall() == [(summary.id,)]
    other.close()


def test_queued_letters_share_a_commit(store: LetterStore, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "sandbox.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # blocks the writer, so that the other letters queue
    waiting = [store.capture(ENVELOPE, b"Subject: %d\r\n\r\n" % number) for number in range(50)]
    before = other.execute("PRAGMA data_version").fetchone()
    other.execute("COMMIT")
    other.close()
    assert [future.result(10).id for future in waiting] == list(range(1, 51))
    assert before is not None


def test_a_failing_job_does_not_affect_its_group(store: LetterStore) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE letters SET read = 1")
        raise ValueError("no")

    good = store.capture(ENVELOPE, b"Subject: good\r\n\r\n")
    bad = store._writer.submit(fail)
    other = store.capture(ENVELOPE, b"Subject: other\r\n\r\n")
    assert good.result(5).id == 1
    assert other.result(5).id == 2
    with pytest.raises(ValueError, match="no"):
        bad.result(5)
    assert store.counts().unread == 2


def test_a_full_disk_is_an_error_and_the_store_recovers(store: LetterStore) -> None:
    pages = store._writer.submit(lambda c: c.execute("PRAGMA page_count").fetchone()[0]).result(5)
    store._writer.submit(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 4}").fetchone()).result(5)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.capture(ENVELOPE, b"x" * 100_000).result(5)
    store._writer.submit(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone()).result(5)
    store.capture(ENVELOPE, b"x" * 100_000).result(5)
    assert store.counts().letters == 1


def test_the_oldest_letters_are_erased_at_the_limit(tmp_path: Path) -> None:
    store = LetterStore(tmp_path / "s.sqlite", RetentionLimits(letters=3))
    for number in range(5):
        store.capture(ENVELOPE, b"Subject: %d\r\n\r\n" % number).result(5)
    assert ids(store) == [5, 4, 3]
    assert store.raw(1) is None
    store.close()


def test_the_byte_limit_erases_all_but_the_newest_letter(tmp_path: Path) -> None:
    store = LetterStore(tmp_path / "s.sqlite", RetentionLimits(bytes=1000))
    for _ in range(4):
        store.capture(ENVELOPE, b"x" * 400).result(5)
    assert ids(store) == [4, 3]
    store.capture(ENVELOPE, b"x" * 5000).result(5)
    assert ids(store) == [5]
    store.close()


def test_letters_older_than_the_limit_are_erased(tmp_path: Path) -> None:
    clock = [1_000_000]
    store = LetterStore(tmp_path / "s.sqlite", RetentionLimits(days=2), now=lambda: clock[0])
    for number in range(3):
        store.capture(ENVELOPE, b"Subject: secretword%d\r\n\r\n" % number).result(5)
        clock[0] += DAY_MS
    store.finish_indexing()
    store.delete(2).result(5)
    store._writer.submit(store._idle_work).result(5)
    assert ids(store) == [3]
    assert (store.counts().letters, store.raw(1)) == (1, None)
    clock[0] += 2 * DAY_MS
    while store._writer.submit(store._idle_work).result(5):
        pass
    assert ids(store) == []
    store.close()
    assert b"secretword" not in (tmp_path / "s.sqlite").read_bytes()


def test_a_deleted_letter_is_gone_and_comes_back_when_undone(store: LetterStore, capture: Capture) -> None:
    first, second = capture(b"Subject: one\r\n\r\n"), capture(b"Subject: two\r\n\r\n")
    deletion, number = store.delete(first.id).result(5)
    assert number == 1
    assert ids(store) == [second.id]
    assert store.raw(first.id) is None
    assert store.restore(deletion).result(5) == 1
    assert ids(store) == [second.id, first.id]
    assert store.restore(deletion).result(5) == 0


def test_each_deletion_is_undone_separately(store: LetterStore, capture: Capture) -> None:
    kept = [capture(b"Subject: x\r\n\r\n").id for _ in range(4)]
    first, _ = store.delete(kept[0]).result(5)
    rest, number = store.delete().result(5)
    assert (number, first != rest) == (3, True)
    store.restore(rest).result(5)
    assert ids(store) == kept[:0:-1]


def test_a_deletion_is_final_after_ten_minutes(tmp_path: Path) -> None:
    clock = [1_000_000]
    store = LetterStore(tmp_path / "s.sqlite", now=lambda: clock[0])
    first = store.capture(ENVELOPE, b"Subject: secretword\r\n\r\nother secretword").result(5)
    store.finish_indexing()
    deletion, _ = store.delete(first.id).result(5)
    clock[0] += UNDO_MS + 1
    store._writer.submit(store._idle_work).result(5)
    assert store.restore(deletion).result(5) == 0
    store.close()
    assert b"secretword" not in (tmp_path / "s.sqlite").read_bytes()


def test_failing_idle_work_does_not_stop_captures(
    store: LetterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_raw: bytes) -> None:
        raise RecursionError

    monkeypatch.setattr("postroom.sandbox.search.parse_letter", fail)
    store.capture(ENVELOPE, b"Subject: one\r\n\r\nwords").result(5)
    assert ids(store, LetterFilter(words=("one",))) == [1]
    failed = threading.Event()

    def fail_idly(connection: sqlite3.Connection) -> bool:
        failed.set()
        raise RecursionError

    monkeypatch.setattr(store, "_idle_work", fail_idly)
    assert store.capture(ENVELOPE, b"Subject: two\r\n\r\n").result(5).id == 2
    assert failed.wait(5)
    assert store.capture(ENVELOPE, b"Subject: three\r\n\r\n").result(5).id == 3


def test_marking_as_read_lowers_the_unread_count(store: LetterStore, capture: Capture) -> None:
    first = capture(b"Subject: one\r\n\r\n")
    capture(b"Subject: two\r\n\r\n")
    assert store.mark(first.id, read=True).result(5)
    assert not store.mark(99, read=True).result(5)
    assert store.counts().unread == 1
    assert store.mark_all_read().result(5) == 1
    assert store.counts().unread == 0


def test_groups_count_the_letters_of_each_template(store: LetterStore, capture: Capture) -> None:
    for template in ("welcome@1", "receipt@2", "welcome@3"):
        capture(raw(letter(template=template)))
    capture(b"Subject: none\r\n\r\n")
    groups = [(group.template, group.letters, group.unread) for group in store.templates()]
    assert groups == [("receipt", 1, 1), ("welcome", 2, 2)]


def test_a_second_sandbox_on_the_file_is_refused(store: LetterStore, tmp_path: Path) -> None:
    with pytest.raises(DatabaseInUse, match="is open in another sandbox"):
        LetterStore(tmp_path / "sandbox.sqlite")


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path / "s.sqlite")
    assert migrate(connection)
    before = connection.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()
    assert migrate(connection)
    assert connection.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall() == before
    assert connection.execute("PRAGMA user_version").fetchone() == (len(store.MIGRATIONS),)
    connection.close()


def test_a_failing_migration_leaves_the_file_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = open_for_writing(tmp_path / "s.sqlite")
    migrate(connection)
    monkeypatch.setattr(
        store, "MIGRATIONS", (*store.MIGRATIONS, "CREATE TABLE more (id); CREATE TABLE letters (id)")
    )
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(connection)
    connection.close()
    connection = open_for_writing(tmp_path / "s.sqlite")
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT name FROM sqlite_schema WHERE name = 'more'").fetchall() == []
    connection.close()


def test_a_file_from_a_newer_postroom_is_refused(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path / "s.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DatabaseTooNew, match="schema 99"):
        LetterStore(tmp_path / "s.sqlite")
    Path(tmp_path / "s.sqlite").unlink()
    LetterStore(tmp_path / "s.sqlite").close()
