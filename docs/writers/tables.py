"""Tables in Markdown, and the descriptions that the code does not hold."""

import tomllib
from collections.abc import Iterable
from pathlib import Path


class Words:
    """The descriptions in words.toml; records which were used and which were missing."""

    def __init__(self, path: Path) -> None:
        self.tables: dict[str, dict[str, str]] = tomllib.loads(path.read_text())
        self.used: set[tuple[str, str]] = set()
        self.missing: list[str] = []

    def of(self, table: str, name: str) -> str:
        """The description of a name. A missing one is recorded; `complaints` reports all of them."""
        text = self.find(table, name)
        if not text:
            self.missing.append(f"words.toml: [{table}] lacks {name}")
        return text

    def find(self, table: str, name: str) -> str:
        """The description of a name, or an empty text."""
        self.used.add((table, name))
        return self.tables.get(table, {}).get(name, "")

    def complaints(self) -> list[str]:
        """The missing descriptions, and those of names that do not exist."""
        known = {(table, name) for table, names in self.tables.items() for name in names}
        stale = [
            f"words.toml: [{table}] describes {name}, which does not exist"
            for table, name in known - self.used
        ]
        return sorted([*self.missing, *stale])


def row(*cells: str) -> str:
    """One line of a table, with pipes escaped and line breaks removed."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    return "\n".join([row(*head), row(*("---" for _ in head)), *(row(*each) for each in rows)]) + "\n"
