"""One row of the table of bad inputs."""

from collections.abc import Callable
from dataclasses import dataclass

Answers = dict[str, list[str]]
"""Component → its literal answer."""


@dataclass(frozen=True, slots=True)
class BadInput:
    """One bad input; `run` passes it to the real code and returns the answers.

    `tests` are tests of its further effects, as `path::name` below tests/.
    """

    name: str
    where: str
    given: str
    """The input, in Markdown."""
    run: Callable[[], Answers]
    tests: tuple[str, ...] = ()
    note: str = ""
    """An unexpected property of the answer, and its reason."""


def only(component: str, *lines: object) -> Answers:
    """The answer of one component; each statement is a line."""
    return {component: [str(line) for line in lines]}
