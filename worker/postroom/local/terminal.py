"""Terminal output that several commands share: tables, facts of one object, colours of letter states.

Input: values. Output: rich renderables for people; a program that reads a command's output gets whole lines,
because `wide_console` does not wrap them when standard output is not a terminal.
"""

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

NO_WRAP_COLUMNS = 4_000
"""A width at which nothing wraps: more than the longest reply that the ledger keeps."""
STATE_COLOURS = {
    "claimed": "cyan",
    "sending": "cyan",
    "accepted": "green",
    "delivered": "green",
    "captured": "green",
    "scheduled": "blue",
    "deferred": "yellow",
    "in_doubt": "yellow",
    "suppressed": "dim",
    "expired": "dim",
    "failed": "red",
    "render_failed": "red",
    "bounced": "red",
}
"""Every state of the ledger and its colour, in the order of a letter's life."""


def wide_console() -> Console:
    """Return a console for standard output that wraps lines only on a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = NO_WRAP_COLUMNS
    return console


def plain_table(*, show_header: bool = True) -> Table:
    """Return an empty table without borders."""
    return Table(
        box=None,
        show_header=show_header,
        header_style="dim",
        padding=(0, 2, 0, 0),
        pad_edge=False,
        expand=False,
    )


def facts_table(facts: Iterable[tuple[str, str]]) -> RenderableType:
    """Return names and values in two indented columns."""
    table = plain_table(show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(value))
    return indented(table)


def indented(table: Table) -> RenderableType:
    """Return a table that is indented below a heading."""
    return Padding(table, (0, 0, 0, 2), expand=False)
