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
    """Every problem code, what it means and what to do."""
    introduction = (
        "A problem code is the same string in the ledger, in a dead letter, on a metric's label, in an HTTP "
        "problem of the gateway and in what `postroom check` prints. Codes are added, never renamed.\n"
    )
    lines = ["# Problem codes\n", introduction]
    for head, codes in headings(Code):
        lines.append(f"## {head[0].upper()}{head[1:]}\n")
        rows = [(f"`{code}`", *_meaning(code, words)) for code in codes]
        lines.append(table(("Code", "What it means", "What to do"), rows))
    return "\n".join(lines)


def _meaning(code: str, words: Words) -> tuple[str, str]:
    """What a code means and what to do: of a manifest's, as `postroom check` says it."""
    if rule := RULES.get(Code(code)):
        return f"{rule.title} See [](rules.md)." if rule.is_lint else rule.title, rule.help
    return words.of("problems", code), words.of("ways_out", code)


def states(words: Words) -> str:
    """Every state of a ledger row."""
    rows = [(f"`{state.value}`", words.of("states", state.value)) for state in State]
    return (
        "# Ledger states\n\n"
        "The ledger holds one row a letter. `postroom letter` shows it, with every attempt.\n\n"
        + table(("State", "What it says"), rows)
        + "\n`accepted` is what a relay said, not what a mailbox did: `delivered` is not a state, because "
        "nothing that Postroom reads today is evidence of it.\n"
    )
