"""When a callback is tried again, and when it is given up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.policy.notifications import (
    GIVEN_UP_SECONDS,
    LONGEST_SECONDS,
    callback_pause,
    is_delivered,
    next_callback_in,
)
from postroom.ports.notifications import CallbackResponse

BUSY, GONE, AWAY = CallbackResponse(503), CallbackResponse(410), CallbackResponse(reason="refused")


@pytest.mark.parametrize(
    ("status", "done"), [(200, True), (204, True), (301, False), (404, False), (0, False)]
)
def test_only_2xx_is_an_arrival(status: int, done: bool) -> None:
    assert is_delivered(CallbackResponse(status)) is done


def test_the_waits_grow_and_are_tried_for_a_day() -> None:
    waits = [next_callback_in(AWAY, tries, 0, 0.5) for tries in range(8)]
    assert waits == [5, 20, 80, 320, 1280, 5120, LONGEST_SECONDS, LONGEST_SECONDS]
    assert next_callback_in(AWAY, 9, GIVEN_UP_SECONDS - 1, 0.5) is None


@given(st.integers(0, 1000), st.floats(0, 2e5), st.floats(0, 1, exclude_max=True), st.floats(0, 1e9))
def test_no_wait_is_endless_and_nothing_is_tried_after_a_day(
    tries: int, age: float, chance: float, asked: float
) -> None:
    wait = next_callback_in(CallbackResponse(503, retry_after=asked), tries, age, chance)
    assert wait is None or (4 <= wait <= LONGEST_SECONDS * 1.2 and age + wait <= GIVEN_UP_SECONDS)


def test_a_server_that_asks_for_time_gets_it() -> None:
    assert next_callback_in(CallbackResponse(429, retry_after=600), 0, 0, 0.5) == 600


def test_one_that_says_gone_rests_for_an_hour_and_loses_nothing() -> None:
    assert next_callback_in(GONE, 0, 0, 0.5) == 3600
    assert callback_pause(GONE, 1) == 3600


def test_one_that_fails_again_and_again_rests_a_little() -> None:
    assert [callback_pause(BUSY, failures) for failures in (1, 2, 3, 4, 6, 99)] == [0, 0, 1, 2, 8, 60]
