"""Who is next in line for a process: each namespace in its turn, also of those that come again and again."""

import asyncio

from postroom_operator.adapters.turns import Turns


def test_who_asks_again_and_again_is_not_always_before_who_asked_much_at_once() -> None:
    async def test() -> None:
        turns = Turns()
        whose = {turns.ask("many", first=True): f"many-{number}" for number in range(4)}
        given = []
        for number in range(3):
            whose[turns.ask("again", first=True)] = f"again-{number}"
            given += [whose[await turns.next()] for _ in range(2)]
        assert given == ["many-0", "again-0", "many-1", "again-1", "many-2", "again-2"]

    asyncio.run(test())


def test_who_came_later_begins_in_the_round_that_is_on() -> None:
    async def test() -> None:
        turns = Turns()
        whose = {turns.ask("many", first=False): f"many-{number}" for number in range(5)}
        given = [whose[await turns.next()] for _ in range(3)]
        whose |= {turns.ask("late", first=False): f"late-{number}" for number in range(2)}
        whose[turns.ask("late", first=True)] = "urgent"
        given += [whose[await turns.next()] for _ in range(5)]
        assert given == ["many-0", "many-1", "many-2", "urgent", "late-0", "many-3", "late-1", "many-4"]

    asyncio.run(test())
