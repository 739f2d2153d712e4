"""The values of the chart: values.yaml in, with its comments, a table out.

A comment that begins with `# --` describes the key below it, including its nested values; a key without
such a comment is a heading. A value without a description is an error.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import yaml

from writers.tables import Words, table

CHART = Path(__file__).parents[2] / "charts" / "postroom"
MARK = "# --"
LONGEST_DEFAULT = 60
BEGIN = "<!-- The values: written by docs/generate.py from values.yaml. -->\n"
END = "<!-- The end of the values. -->\n"

Row = tuple[str, str, str]


def values_page(_: Words) -> str:
    """The reference page."""
    head = (
        "# The chart's values\n\n"
        "For `helm install -f`; see [](../how-to/install-with-helm.md). A name that is not listed is an "
        "error, and so is a value of another type.\n\n"
    )
    return head + values_table()


def readme() -> str:
    """The README of the chart with its table replaced."""
    text = (CHART / "README.md").read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{values_table()}\n{END}{after}"


def values_table() -> str:
    """Every value with its default and its comment."""
    text = (CHART / "values.yaml").read_text()
    whole = yaml.compose(text)
    assert whole
    return table(("Value", "Default", "Meaning"), _rows(whole, text.splitlines(), ""))


def _rows(node: yaml.Node, lines: list[str], above: str) -> Iterator[Row]:
    assert isinstance(node, yaml.MappingNode)
    for key, value in node.value:
        name = f"{above}{key.value}"
        comment = _comment(lines, key.start_mark.line)
        if comment:
            yield f"`{name}`", _default(value), comment
        elif isinstance(value, yaml.MappingNode):
            yield from _rows(value, lines, f"{name}.")
        else:
            raise ValueError(f"{name} in values.yaml has no comment that begins with `{MARK}`")


def _comment(lines: list[str], line: int) -> str:
    """The comment directly above a line, joined; empty without a `# --` mark."""
    found: list[str] = []
    while line and (text := lines[line - 1].strip()).startswith("#"):
        line -= 1
        found.insert(0, text)
    if not any(each.startswith(MARK) for each in found):
        return ""
    return " ".join(each.removeprefix(MARK).removeprefix("#").strip() for each in found)


def _default(node: yaml.Node) -> str:
    text = json.dumps(yaml.safe_load(yaml.serialize(node)))
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else "see `values.yaml`"
