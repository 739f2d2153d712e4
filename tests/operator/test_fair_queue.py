"""The order of validations: each namespace in its turn, also with later requests."""

import asyncio

from postroom_operator.validation import FairQueue


def test_a_namespace_that_asks_repeatedly_does_not_always_go_first() -> None:
    async def test() -> None:
        turns = FairQueue()
        whose = {turns.enqueue("many", urgent=True): f"many-{number}" for number in range(4)}
        given = []
        for number in range(3):
            whose[turns.enqueue("again", urgent=True)] = f"again-{number}"
            given += [whose[await turns.next()] for _ in range(2)]
        assert given == ["many-0", "again-0", "many-1", "again-1", "many-2", "again-2"]

    asyncio.run(test())


def test_a_namespace_that_comes_later_begins_in_the_current_round() -> None:
    async def test() -> None:
        turns = FairQueue()
        whose = {turns.enqueue("many", urgent=False): f"many-{number}" for number in range(5)}
        given = [whose[await turns.next()] for _ in range(3)]
        whose |= {turns.enqueue("late", urgent=False): f"late-{number}" for number in range(2)}
        whose[turns.enqueue("late", urgent=True)] = "urgent"
        given += [whose[await turns.next()] for _ in range(5)]
        assert given == ["many-0", "many-1", "many-2", "urgent", "late-0", "many-3", "late-1", "many-4"]

    asyncio.run(test())
