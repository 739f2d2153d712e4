"""Under overload of a rate, letters that waited go before those that come new."""

import heapq
from collections import deque
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.policy.rates import NEW_SECONDS, RECALLED_SECONDS, RETRY_SECONDS, admission_limit
from postroom.policy.retry import NOT_ATTEMPTED_SPREAD_SECONDS
from postroom.ports.relay import Rate
from postroom.worker.maintenance import RECALL_INTERVAL_SECONDS

TICK = 0.1
LOOK_TICKS = round(RECALL_INTERVAL_SECONDS / TICK)
BOUND_SECONDS = RETRY_SECONDS + NOT_ATTEMPTED_SPREAD_SECONDS + RECALL_INTERVAL_SECONDS + 2 * TICK
"""A letter without room is due after so long, and seen at the next look: from then on new ones wait."""


def test_while_nobody_waits_in_the_ledger_new_letters_have_some_room() -> None:
    assert admission_limit(Rate(50, 1.0), 0, recalled=False) == 100
    assert admission_limit(Rate(50, 1.0), 60, recalled=False) == 40
    assert admission_limit(Rate(50, 1.0), 250, recalled=False) == 0


def test_letters_from_the_ledger_keep_the_room_too_full_for_new_ones() -> None:
    full = admission_limit(Rate(50, 1.0), 0, recalled=True)
    sent_between_looks = 50 * RECALL_INTERVAL_SECONDS
    assert full - sent_between_looks > admission_limit(Rate(50, 1.0), 0, recalled=False)
    assert NEW_SECONDS + RECALL_INTERVAL_SECONDS < RECALLED_SECONDS
    assert RETRY_SECONDS + NOT_ATTEMPTED_SPREAD_SECONDS <= NEW_SECONDS, "they come before the room is empty"


@given(st.integers(0, 500), st.floats(0.1, 86_400), st.integers(0, 3000))
def test_a_rate_always_has_a_turn_for_one_and_none_where_it_is_nothing(
    count: int, seconds: float, waiting: int
) -> None:
    rate = Rate(count, seconds)
    new, recalled = (admission_limit(rate, 0, recalled=which) for which in (False, True))
    assert (new >= 1, recalled > new) == ((True, True) if count else (False, False))
    assert admission_limit(rate, waiting, recalled=True) == max(0, recalled - waiting)


@dataclass
class Office:
    """A worker as it is seen from here: a room, a ledger, and a relay that takes so many letters a second."""

    rate: Rate
    chances: list[float]
    now: int = 0
    """In ticks, as everything here."""
    waiting: deque[int] = field(default_factory=deque)
    """When the letters in memory came, in the order they leave."""
    ledger: list[tuple[float, int]] = field(default_factory=list)
    """When they are due, and when they came."""
    sent: list[tuple[int, int]] = field(default_factory=list)
    """When they left, and when they came."""
    owed: float = 0.0

    def tick(self, arrivals: int) -> None:
        free = admission_limit(self.rate, len(self.waiting), recalled=False)
        self.waiting.extend([self.now] * min(free, arrivals))
        for number in range(max(0, arrivals - free)):
            chance = self.chances[(self.now + number) % len(self.chances)]
            due = self.now * TICK + RETRY_SECONDS + chance * NOT_ATTEMPTED_SPREAD_SECONDS
            heapq.heappush(self.ledger, (due, self.now))
        if self.now % LOOK_TICKS == 0:
            self.recall()
        self.leave()
        self.now += 1

    def recall(self) -> None:
        for _ in range(admission_limit(self.rate, len(self.waiting), recalled=True)):
            if not self.ledger or self.ledger[0][0] > self.now * TICK:
                return
            self.waiting.append(heapq.heappop(self.ledger)[1])

    def leave(self) -> None:
        self.owed += self.rate.count / self.rate.seconds * TICK
        while self.owed >= 1 and self.waiting:
            self.sent.append((self.now, self.waiting.popleft()))
            self.owed -= 1
        self.owed = min(self.owed, 1.0)  # what nobody used is lost

    @property
    def left(self) -> list[int]:
        """When those came that have not left yet."""
        return [*self.waiting, *(came for _, came in self.ledger)]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(2, 60),
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 12)), min_size=1, max_size=25),
    st.lists(st.floats(0, 1), min_size=1, max_size=7),
)
def test_no_letter_is_overtaken_by_one_that_came_much_later(
    count: int, spells: list[tuple[int, int]], chances: list[float]
) -> None:
    """Spells of so many ticks with so many arrivals each, from none to many times the rate."""
    office = Office(Rate(count, 1.0), chances)
    for ticks, arrivals in spells:
        for _ in range(ticks):
            office.tick(arrivals)
    oldest_after: list[int] = [min(office.left, default=office.now)]
    for _, came in reversed(office.sent):
        oldest_after.append(min(oldest_after[-1], came))
    for (_, came), oldest in zip(office.sent, reversed(oldest_after[:-1]), strict=True):
        assert (came - oldest) * TICK <= BOUND_SECONDS


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), st.integers(1, 20), st.floats(0, 1))
def test_the_rate_is_used_while_letters_wait(count: int, times: int, chance: float) -> None:
    """A burst of so many times the rate is gone in little more than so many seconds."""
    office = Office(Rate(count, 1.0), [chance])
    office.tick(count * times)
    while office.left:
        office.tick(0)
    assert office.now * TICK <= times + 2 * RECALL_INTERVAL_SECONDS + 2 * TICK
