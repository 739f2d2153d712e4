"""Options that several commands share, and the parsing of their values.

A worker's pod has the same values in its environment, so that a command in the pod needs none of the options.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from postroom.local.errors import UserError

DATA = Path(".postroom")
"""The default data folder, the same as for `postroom up`."""

Data = Annotated[Path, Option("--data", help="The data folder of `postroom up`.", metavar="DIR")]
Connections = Annotated[
    Path | None,
    Option(
        help="The folder of the connections Secret; a worker's pod sets it.",
        metavar="DIR",
        envvar="POSTROOM_CONNECTIONS",
    ),
]
Namespace = Annotated[
    str,
    Option(help="The namespace of the ledger, if the Secret names no schema.", envvar="POSTROOM_NAMESPACE"),
]
Bootstrap = Annotated[
    str | None,
    Option(
        "--bootstrap-servers",
        help="The Kafka brokers, without a local run or a connections Secret.",
        metavar="HOST:PORT,…",
        envvar="POSTROOM_BOOTSTRAP_SERVERS",
    ),
]
Topic = Annotated[str | None, Option(help="The topic of events. Default: the topics of all profiles found.")]
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
Reveal = Annotated[bool, Option("--reveal", help="Show addresses and contents, which are personal data.")]
Json = Annotated[bool, Option("--json", help="Print JSON, for programs.")]
DryRun = Annotated[bool, Option("--dry-run", help="Print what would be done, without doing it.")]

_DURATION = re.compile(r"(\d{1,6})(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_time(text: str, now: datetime) -> datetime | None:
    """Parse a time: `2h` for two hours ago, or RFC 3339; None for an empty text. Raises UserError."""
    if not text:
        return None
    if span := _DURATION.fullmatch(text):
        return now - timedelta(**{_UNITS[span[2]]: int(span[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{text} is not a time.", "Write 30m, 2h, 3d, or 2026-11-23T16:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def print_json(value: Any) -> None:
    """Print a JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
