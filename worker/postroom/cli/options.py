"""Options that several commands share, and how the desk prints.

A worker's pod says the same in its environment, so that a command run there needs none of them.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from postroom.local.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

NO_WRAP_COLUMNS = 4_000
"""Columns where nobody's terminal folds: more than the longest reply that is kept."""
DATA = Path(".postroom")
"""The data folder where none is named; the one that `postroom up` takes."""

Data = Annotated[Path, Option("--data", help="The data folder of `postroom up`.", metavar="DIR")]
Connections = Annotated[
    Path | None,
    Option(
        help="The folder of the connections Secret; in a worker's pod it is known.",
        metavar="DIR",
        envvar="POSTROOM_CONNECTIONS",
    ),
]
Namespace = Annotated[
    str, Option(help="Whose ledger, where the Secret names no schema.", envvar="POSTROOM_NAMESPACE")
]
Bootstrap = Annotated[
    str | None,
    Option(
        "--bootstrap-servers",
        help="The Kafka brokers, where neither a run nor a Secret says them.",
        metavar="HOST:PORT,…",
        envvar="POSTROOM_BOOTSTRAP_SERVERS",
    ),
]
Topic = Annotated[str | None, Option(help="The topic of events. Default: that of each profile here.")]
ProfileFile = Annotated[
    Path | None,
    Option("--profile-file", help="The profile's manifest.", metavar="FILE", envvar="POSTROOM_PROFILE"),
]
Bundles = Annotated[
    Path | None,
    Option(help="The folder of the profile's templates.", metavar="DIR", envvar="POSTROOM_BUNDLES"),
]
Sandbox = Annotated[
    str | None,
    Option(help="The sandbox's mail server.", metavar="HOST:PORT", envvar="POSTROOM_SANDBOX"),
]
Reveal = Annotated[bool, Option("--reveal", help="Show addresses and contents: personal data.")]
Json = Annotated[bool, Option("--json", help="For programs: JSON.")]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would be done; do nothing.")]

_DURATION = re.compile(r"(\d{1,6})(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_time(text: str, now: datetime) -> datetime | None:
    """A point in time as people write it: `2h` ago, or RFC 3339; None for nothing. Raises Trouble."""
    if not text:
        return None
    if span := _DURATION.fullmatch(text):
        return now - timedelta(**{_UNITS[span[2]]: int(span[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{text} is no time.", "Write 30m, 2h, 3d, or 2026-11-23T16:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def console() -> "Console":
    """Where people read; a program reads it line by line, so nothing is folded for it."""
    from rich.console import Console

    found = Console(highlight=False)
    if not found.is_terminal:
        found.width = NO_WRAP_COLUMNS
    return found


def print_json(value: Any) -> None:
    """One document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
