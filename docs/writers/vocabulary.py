"""The pages of problem codes and ledger states: enums in, tables out."""

import inspect
from collections.abc import Iterator
from enum import StrEnum

from postroom.letter.problems import Code
from postroom.letter.validation.rules import RULES
from postroom.ports.ledger import State
from writers.tables import Words, table


def headings(enum: type[StrEnum]) -> Iterator[tuple[str, list[str]]]:
    """An enum's values under the comments that head them in its source."""
    head, values = "", list[str]()
    for line in map(str.strip, inspect.getsource(enum).splitlines()):
        if line.startswith("# "):
            if values:
                yield head, values
            head, values = line.removeprefix("# "), []
        elif " = " in line:
            values.append(enum[line.split(" = ")[0]].value)
    yield head, values


def problems(words: Words) -> str:
    """Every problem code with its meaning and remedy."""
    introduction = (
        "A problem code is the same string in the ledger, in a dead letter, on a metric's label, in an HTTP "
        "problem of the gateway and in the output of `postroom check`. Codes are added, never renamed.\n"
    )
    lines = ["# Problem codes\n", introduction]
    for head, codes in headings(Code):
        lines.append(f"## {head[0].upper()}{head[1:]}\n")
        rows = [(f"`{code}`", *_meaning(code, words)) for code in codes]
        lines.append(table(("Code", "Meaning", "Remedy"), rows))
    return "\n".join(lines)


def _meaning(code: str, words: Words) -> tuple[str, str]:
    """Meaning and remedy of a code; those of a manifest's problem come from its rule."""
    if rule := RULES.get(Code(code)):
        return f"{rule.title} See [](rules.md)." if rule.is_lint else rule.title, rule.help
    return words.of("problems", code), words.of("ways_out", code)


def states(words: Words) -> str:
    """Every state of a ledger row."""
    rows = [(f"`{state.value}`", words.of("states", state.value)) for state in State]
    return (
        "# Ledger states\n\n"
        "The ledger holds one row per letter. `postroom letter` shows the row and every attempt.\n\n"
        "![The states of a letter](../diagrams/states.svg)\n\n"
        + table(("State", "Meaning"), rows)
        + "\n`accepted` is the relay's word, not evidence of delivery. `delivered` and `bounced` require a "
        "report; the [bounce intake](../how-to/take-bounces.md) reads them. A letter without a report stays "
        "`accepted`.\n"
    )
