"""Tables in Markdown, and the meanings that the code does not hold."""

import tomllib
from collections.abc import Iterable
from pathlib import Path


class Words:
    """The meanings in words.toml, with a record of which were asked for and which were missed."""

    def __init__(self, path: Path) -> None:
        self.tables: dict[str, dict[str, str]] = tomllib.loads(path.read_text())
        self.used: set[tuple[str, str]] = set()
        self.missing: list[str] = []

    def of(self, table: str, name: str) -> str:
        """The meaning of a name; a missing one is noted and all are reported together."""
        self.used.add((table, name))
        text = self.tables.get(table, {}).get(name)
        if text is None:
            self.missing.append(f"no meaning for [{table}] {name}")
        return text or ""

    def complaints(self) -> list[str]:
        """What is missing and what nobody asked for."""
        known = {(table, name) for table, names in self.tables.items() for name in names}
        stale = [f"a meaning for [{table}] {name}, which does not exist" for table, name in known - self.used]
        return sorted([*self.missing, *stale])


def row(*cells: str) -> str:
    """One line of a table; a pipe inside a cell would end it."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    return "\n".join([row(*head), row(*("---" for _ in head)), *(row(*each) for each in rows)]) + "\n"
