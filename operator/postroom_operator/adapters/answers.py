"""What the prover and its processes have in common: the limits of a proof, and the form of an answer.

A process of its own proves; the operator reads what it says and knows nothing of how a letter is rendered.
"""

from typing import Any

from pydantic_core import from_json as read_json

from postroom.letter.bundle import compiled_from_json
from postroom.letter.problems import Code, Problem, Severity
from postroom_operator.facts import Proved, Sample
from postroom_operator.twins import shared

MEMORY_BYTES = 512 * 1024 * 1024
"""Address space; the process takes about 150 MB of it before its first proof."""
CPU_SECONDS = 10
"""Of one proof. The limits on each rendering (`letter.language.bounds`) come long before it."""


def to_json(proved: Proved) -> dict[str, Any]:
    """Plain JSON values."""
    return {
        "compiled": proved.compiled.to_json() if proved.compiled else None,
        "problems": [_plain(problem) for problem in proved.problems],
        "warnings": [_plain(problem) for problem in proved.warnings],
        "samples": [[each.name, each.locale, each.html_bytes, each.text_bytes] for each in proved.samples],
    }


def read_answer(text: bytes) -> Proved:
    """Read what `to_json` wrote."""
    value = read_json(text, cache_strings="all")
    return Proved(
        shared(compiled_from_json(value["compiled"])) if value["compiled"] else None,
        tuple(_problem(each) for each in value["problems"]),
        tuple(_problem(each) for each in value["warnings"]),
        tuple(Sample(*each) for each in value["samples"]),
    )


def _plain(problem: Problem) -> list[Any]:
    return [problem.code.value, problem.field, problem.message, problem.line, problem.severity.value]


def _problem(value: list[Any]) -> Problem:
    code, field, message, line, severity = value
    return Problem(Code(code), field, message, line, severity=Severity(severity))
