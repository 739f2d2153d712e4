"""Ledgers in files for tests: copies of one prepared file."""

import tempfile
from functools import cache
from pathlib import Path

from postroom.adapters.ledger import sqlite


def prepared(path: Path) -> Path:
    """The path, after an empty ledger was copied to it if there was none."""
    if not path.exists():
        path.write_bytes(_made())
    return path


@cache
def _made() -> bytes:
    """The bytes of an empty ledger; to create one takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.sqlite")
        engine = sqlite._engine(path)
        with engine.begin() as connection:
            sqlite._prepare(connection, path)
        engine.dispose()
        return path.read_bytes()
