"""The order of validations: each namespace in its turn, also with later requests."""

import asyncio

from postroom_operator.validation import FairQueue


def test_who_asks_again_and_again_is_not_always_before_who_asked_much_at_once() -> None:
    async def test() -> None:
        turns = FairQueue()
        whose = {turns.enqueue("many", urgent=True): f"many-{number}" for number in range(4)}
        given = []
        for number in range(3):
            whose[turns.enqueue("again", urgent=True)] = f"again-{number}"
            given += [whose[await turns.next()] for _ in range(2)]
        assert given == ["many-0", "again-0", "many-1", "again-1", "many-2", "again-2"]

    asyncio.run(test())


def test_who_came_later_begins_in_the_round_that_is_on() -> None:
    async def test() -> None:
        turns = FairQueue()
        whose = {turns.enqueue("many", urgent=False): f"many-{number}" for number in range(5)}
        given = [whose[await turns.next()] for _ in range(3)]
        whose |= {turns.enqueue("late", urgent=False): f"late-{number}" for number in range(2)}
        whose[turns.enqueue("late", urgent=True)] = "urgent"
        given += [whose[await turns.next()] for _ in range(5)]
        assert given == ["many-0", "many-1", "many-2", "urgent", "late-0", "many-3", "late-1", "many-4"]

    asyncio.run(test())
