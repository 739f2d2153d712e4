import asyncio
from collections.abc import Awaitable, Callable

import pytest

from postroom_operator.workqueue import FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, WorkQueue

Test = Callable[[WorkQueue[str]], Awaitable[None]]


def queue() -> WorkQueue[str]:
    return WorkQueue(chance=lambda: 1.0)


def run(test: Test) -> None:
    async def begin() -> None:
        async with asyncio.timeout(10):
            await test(queue())

    asyncio.run(begin())


def test_a_waiting_key_is_queued_once_however_often_it_is_added() -> None:
    async def test(queue: WorkQueue[str]) -> None:
        for _ in range(40):
            queue.add("a")
        queue.add("b")
        assert [await queue.get(), await queue.get()] == ["a", "b"]
        assert len(queue) == 0

    run(test)


def test_a_key_that_is_added_during_its_work_is_queued_once_more() -> None:
    async def test(queue: WorkQueue[str]) -> None:
        queue.add("a", 0)
        assert await queue.get() == "a"
        queue.add("a", 0)
        queue.add("a", 0)
        queue.add("b", 0)
        assert await queue.get() == "b", "a key in work is not given to another taker"
        queue.done("a")
        assert await queue.get() == "a"
        queue.done("a")
        queue.done("b")
        assert queue.idle

    run(test)


def test_urgent_keys_go_before_repeated_ones() -> None:
    async def test(queue: WorkQueue[str]) -> None:
        for key in "abc":
            queue.add(key, 0)
        for key in "dc":
            queue.add(key, 0, urgent=True)
        await asyncio.sleep(0.01)
        assert [await queue.get() for _ in range(4)] == ["d", "c", "a", "b"]
        for key in "dc":
            queue.done(key)
            queue.add(key, 0)
        queue.add("e", 0)
        assert [await queue.get() for _ in range(3)] == ["d", "c", "e"], "it was first once"

    run(test)


def test_an_urgent_key_in_work_is_first_again_when_it_is_done() -> None:
    async def test(queue: WorkQueue[str]) -> None:
        queue.add("a", 0)
        await queue.get()
        queue.add("a", 0, urgent=True)
        queue.add("b", 0)
        await asyncio.sleep(0.01)
        queue.done("a")
        await asyncio.sleep(0.1)
        assert await queue.get() == "a"

    run(test)


def test_a_failed_key_comes_back_with_growing_delays_up_to_a_limit() -> None:
    async def test(queue: WorkQueue[str]) -> None:
        waits = []
        for _ in range(12):
            queue.add("a", 0)
            await queue.get()
            waits.append(queue.failed("a"))
        assert waits[:3] == [FIRST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2, FIRST_RETRY_SECONDS * 4]
        assert waits[-1] == LAST_RETRY_SECONDS
        queue.add("a", 0)
        await queue.get()
        queue.done("a")
        queue.add("a", 0)
        await queue.get()
        assert queue.failed("a") == FIRST_RETRY_SECONDS, "a success forgets the failures"

    run(test)


def test_a_failed_key_waits_at_least_as_long_as_the_server_asks() -> None:
    async def test(queue: WorkQueue[str]) -> None:
        queue.add("a", 0)
        await queue.get()
        assert queue.failed("a", at_least=7.0) == 7.0

    run(test)


def test_a_change_of_a_failed_key_does_not_wait_for_its_retry() -> None:
    async def test(queue: WorkQueue[str]) -> None:
        queue.add("a", 0)
        await queue.get()
        queue.failed("a", at_least=3600)
        queue.add("a", 0)
        assert await queue.get() == "a"

    run(test)


def test_first_come_first_served() -> None:
    async def test(queue: WorkQueue[str]) -> None:
        for key in ("c", "a", "b"):
            queue.add(key, 0)
        assert [await queue.get() for _ in range(3)] == ["c", "a", "b"]

    run(test)


def test_a_taker_that_is_cancelled_loses_no_key() -> None:
    async def test(queue: WorkQueue[str]) -> None:
        first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a", 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(queue) == 1
        first.cancel()
        assert await second == "a"
        with pytest.raises(asyncio.CancelledError):
            await first

    run(test)
