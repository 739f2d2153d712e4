"""What one row of the table of bad inputs is."""

from collections.abc import Callable
from dataclasses import dataclass

Answers = dict[str, list[str]]
"""Who answers → what they say, literally."""


@dataclass(frozen=True, slots=True)
class Row:
    """One bad input; `ask` gives it to the real code and returns what that says.

    `proofs` are tests of what becomes of it besides, as `path::name` below tests/.
    """

    name: str
    where: str
    given: str
    """The input, in Markdown."""
    ask: Callable[[], Answers]
    proofs: tuple[str, ...] = ()
    note: str = ""
    """What is not as one might expect, and why."""


def only(who: str, *said: object) -> Answers:
    """One who answers; each thing said as a line."""
    return {who: [str(each) for each in said]}
