"""How often one recipient is written to: (letters of late, how many wish to go, rate, moment) → who may.

Letters are counted where they are handed to the relay, over all workers, in any window of the rate's period.
Moments close to each other are kept as one, the later one, so that the record stays small however high the
rate; that can only make a letter wait a little longer, never send one too many.
"""

import json

from postroom.ports.relay import Rate

GRAINS = 100
"""So many moments a period are told apart."""
SOON_SECONDS = 0.5
"""No letter is put off for less."""

Marks = list[tuple[float, int]]
"""Moments of the ledger's time and how many letters went then, oldest first."""


def admit(marks: Marks, wanted: int, rate: Rate, now: float) -> tuple[Marks, int, float]:
    """The record afterwards, how many of the wanted may go, and seconds until the next may."""
    recent = [(at, count) for at, count in marks if at > now - rate.seconds]
    free = max(0, rate.count - sum(count for _, count in recent))
    going = min(wanted, free)
    if going:
        recent = _note(recent, going, rate, now)
    if going == wanted:
        return recent, going, 0.0
    return recent, going, max(SOON_SECONDS, _next(recent, rate) + rate.seconds - now)


def write(marks: Marks) -> str:
    """The record as an accord's text."""
    return json.dumps(marks) if marks else ""


def read(text: str) -> Marks:
    """The record of an accord's text."""
    return [(at, count) for at, count in json.loads(text or "[]")]


def _note(marks: Marks, count: int, rate: Rate, now: float) -> Marks:
    if marks and now - marks[-1][0] < rate.seconds / GRAINS:
        return [*marks[:-1], (now, marks[-1][1] + count)]
    return [*marks, (now, count)]


def _next(marks: Marks, rate: Rate) -> float:
    """The moment whose passing out of the window makes room for one more."""
    left = sum(count for _, count in marks)
    for at, count in marks:
        left -= count
        if left < rate.count:
            return at
    return marks[-1][0]
