"""Ledgers in files for tests: one is made, and the others are copies of it."""

import tempfile
from functools import cache
from pathlib import Path

from postroom.adapters.ledger import sqlite


def prepared(path: Path) -> Path:
    """The path, where a ledger without workers or letters is if there was none."""
    if not path.exists():
        path.write_bytes(_made())
    return path


@cache
def _made() -> bytes:
    """To make one takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.sqlite")
        engine = sqlite._engine(path)
        with engine.begin() as connection:
            sqlite._prepare(connection, path)
        engine.dispose()
        return path.read_bytes()
