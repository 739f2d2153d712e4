"""The group commit that the ledger and the sandbox share: groups, futures, idle work, the end."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from postroom import group_commit
from postroom.group_commit import GroupCommit, Job
from tests.delivery.async_test import async_test


def look_up_missing(_: int) -> str:
    names: dict[str, str] = {}
    return names["missing"]


class Recorder:
    """A database that counts its transactions; work gets the number of its transaction."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.may_commit = threading.Event()
        self.may_commit.set()

    def commit(self, jobs: Sequence[Job[int]]) -> None:
        for job in jobs:
            try:
                job.result = job.work(len(self.groups))
            except KeyError as error:
                job.error = error
        self.may_commit.wait()
        self.groups.append(len(jobs))


def test_work_that_is_queued_during_a_commit_shares_the_next_one() -> None:
    database = Recorder()
    database.may_commit.clear()
    writer = GroupCommit(database.commit, name="test", max_group=3)
    begun = threading.Event()

    def begin(number: int) -> int:
        begun.set()
        return number

    first = writer.submit(begin)
    begun.wait()
    rest = [writer.submit(lambda number: number) for _ in range(5)]
    assert not first.done()
    database.may_commit.set()
    assert [future.result(timeout=5) for future in (first, *rest)] == [0, 1, 1, 1, 2, 2]
    writer.close()
    assert database.groups == [1, 3, 2]


def test_a_job_that_fails_alone_leaves_the_others_their_results() -> None:
    writer = GroupCommit(Recorder().commit, name="test", max_group=8)
    failed, done = writer.submit(look_up_missing), writer.submit(lambda _: "done")
    with pytest.raises(KeyError):
        failed.result(timeout=5)
    assert done.result(timeout=5) == "done"
    writer.close()


@async_test
async def test_an_error_of_the_transaction_reaches_every_caller_and_the_thread_goes_on() -> None:
    writer = GroupCommit(Recorder().commit, name="test", max_group=8)
    with pytest.raises(ZeroDivisionError):
        await writer.run(lambda _: 1 // 0)
    assert await writer.run(lambda number: number) == 0
    await asyncio.to_thread(writer.close)


@async_test
async def test_a_caller_that_was_cancelled_does_not_stop_the_others() -> None:
    database = Recorder()
    database.may_commit.clear()
    writer = GroupCommit(database.commit, name="test", max_group=8)
    cancelled, other = asyncio.ensure_future(writer.run(int)), asyncio.ensure_future(writer.run(int))
    await asyncio.sleep(0)
    cancelled.cancel()
    database.may_commit.set()
    assert await other in (0, 1)
    await asyncio.to_thread(writer.close)


def test_idle_work_runs_while_the_queue_is_empty_until_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "IDLE_AFTER_SECONDS", 0.001)
    left = [True, True, False]
    finished = threading.Event()

    def idle() -> bool:
        more = left.pop(0)
        if not left:
            finished.set()
        return more

    writer = GroupCommit(Recorder().commit, name="test", max_group=8, idle=idle)
    assert finished.wait(timeout=5)
    writer.close()
    assert left == []


def test_closing_finishes_what_is_queued() -> None:
    writer = GroupCommit(Recorder().commit, name="test", max_group=1)
    queued = [writer.submit(lambda _: "done") for _ in range(4)]
    writer.close()
    assert [future.result(timeout=0) for future in queued] == ["done"] * 4
