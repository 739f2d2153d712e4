"""The page of bad inputs: each input, the exact response, and the tests that check it."""

import sys
from itertools import groupby
from pathlib import Path

from writers.tables import Words, table

sys.path.append(str(Path(__file__).parents[2]))  # the table belongs to the tests

from tests.badinputs.row import Answers, BadInput
from tests.badinputs.table import ROWS, kept

TEST = "`test_a_bad_input_is_answered_as_the_reference_says`"


def bad_inputs(words: Words) -> str:
    """Every bad input, grouped by its interface."""
    answers = kept()
    lines = ["# Bad inputs\n", words.of("bad_inputs", "introduction") + "\n"]
    for where, rows in groupby(ROWS, lambda row: row.where):
        lines.append(f"## {where}\n")
        lines.append(words.of("bad_inputs", where) + "\n")
        shown = [
            (row.given, _response(row, answers[row.name]), _tests(row, answers[row.name])) for row in rows
        ]
        lines.append(table(("Input", "Response", "Tests"), shown))
    return "\n".join(lines)


def _response(row: BadInput, answers: Answers) -> str:
    responses = [f"{who}: {_literal(line)}" for who, lines in answers.items() for line in lines]
    return "<br>".join(responses) or row.note


def _literal(line: str) -> str:
    """A line as code in Markdown, even with backticks in it."""
    return f"`` {line} ``" if "`" in line else f"`{line}`"


def _tests(row: BadInput, answers: Answers) -> str:
    if not answers:
        return "none yet"
    names = [f"`{test.partition('::')[2]}`" for test in row.tests]
    server = ["`test_the_api_server_answers_a_bad_manifest_as_the_reference_says`"]
    return ", ".join([*names, *(server if "API server" in answers else [])]) or TEST
