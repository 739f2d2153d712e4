"""`postroom letter`: find letters in ledger files, or in the PostgreSQL ledger that workers share.

Input: an event id, Message-ID, request id, user id or address, and where to look: ledger files, or the folder
of the connections Secret (mounted in a worker's pod). Output: every matching row with its attempts and
reports, as a rich renderable. These columns have no index, to keep writes cheap; a search takes about a
second for a million letters. Failure: `UserError` when no ledger exists, the Secret is not usable, or the
server does not answer.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from postroom.adapters.ledger.reader import FileLedgerReader, LetterView, ReportView, ServerLedgerReader
from postroom.connections import ConnectionsSecret, read_ledger
from postroom.letter.problems import Rejected
from postroom.letter.profile import dead_letter_topic, topic_of
from postroom.local.bundles import read_profiles
from postroom.local.data_folder import DataFolder
from postroom.local.errors import UserError
from postroom.local.send import letter_reason
from postroom.local.terminal import STATE_COLOURS, facts_table, indented, plain_table
from postroom.ports.world import LedgerUnavailable
from postroom.secret_files import read_folder


def find_letters(wanted: str, ledgers: Sequence[Path]) -> list[LetterView]:
    """Return the matching letters of ledger files, oldest first; raises UserError."""
    if not ledgers:
        raise UserError(
            "There is no ledger to search.",
            "Set the data folder of `postroom up` with --data, or a ledger file with --ledger.",
        )
    found: list[LetterView] = []
    for path in ledgers:
        if not path.exists():
            raise UserError(f"The ledger {path} does not exist.")
        try:
            with FileLedgerReader(path) as ledger:
                found += ledger.find(wanted)
        except sqlite3.Error as error:
            raise UserError(f"{path} cannot be read as a ledger: {error}.") from None
    return sorted(found, key=lambda letter: letter.received)


def find_letters_on_server(wanted: str, folder: Path, namespace: str) -> list[LetterView]:
    """Return the matching letters of the PostgreSQL ledger, oldest first; raises UserError."""
    try:
        location = read_ledger(read_connections_secret(folder), namespace)
        with ServerLedgerReader(location.url, location.schema) as ledger:
            return list(ledger.find(wanted))
    except Rejected as rejected:
        raise UserError(str(rejected)) from None
    except LedgerUnavailable as unreachable:
        raise UserError(f"The ledger's server does not answer: {unreachable}.") from None


def read_connections_secret(folder: Path) -> ConnectionsSecret:
    """Read a folder with the connections Secret; raises UserError."""
    try:
        return ConnectionsSecret(read_folder(folder), folder, f"the Secret mounted at {folder}")
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error}.") from None
    except Rejected as rejected:
        raise UserError(str(rejected)) from None


def draw_letters(letters: Iterable[LetterView]) -> RenderableType:
    """Return all letters, each with its facts, attempts and reports."""
    return Group(*(part for letter in letters for part in (_letter(letter), Text())))


def _letter(letter: LetterView) -> RenderableType:
    head = Text.assemble(
        (letter.state, f"bold {STATE_COLOURS.get(letter.state, '')}"), "  ", (letter.event_type, "bold"),
        "  to ", letter.recipient,
    )  # fmt: skip
    parts: list[RenderableType] = [head, facts_table(_facts(letter))]
    if letter.attempts:
        parts.append(indented(_attempts(letter)))
    if letter.reports:
        parts.append(indented(_reports(letter.reports)))
    return Group(*parts)


def _facts(letter: LetterView) -> Iterator[tuple[str, str]]:
    yield "id", letter.event_id
    yield "source", letter.source
    yield "profile", letter.profile
    if letter.template:
        yield "template", f"{letter.template}@{letter.revision}" if letter.revision else letter.template
    if letter.message_id:
        yield "Message-ID", letter.message_id
    yield "record", f"{letter.topic} partition {letter.partition} offset {letter.offset}"
    yield "received", _time(letter.received)
    yield "updated", _time(letter.updated)
    if letter.due:
        yield "due", _time(letter.due)
    if letter.code or letter.reason:
        yield "reason", letter_reason(letter)
    if letter.reply:
        yield "reply", letter.reply
    if letter.in_doubt_count:
        yield (
            "in doubt",
            f"{letter.in_doubt_count} attempts without a reply from the relay; copies may have arrived",
        )
    if letter.user_id:
        yield "user id", letter.user_id
    if letter.request_id:
        yield "request id", letter.request_id


def _attempts(letter: LetterView) -> Table:
    table = plain_table()
    for name in ("attempt", "at", "result", "stage"):
        table.add_column(name, no_wrap=True)
    table.add_column("relay of", overflow="fold")
    table.add_column("reply", overflow="fold")
    for number, attempt in enumerate(letter.attempts, 1):
        reply = " ".join(part for part in (str(attempt.code or ""), attempt.text or "") if part)
        relay = attempt.relay(letter.profile) + (" (fallback)" if attempt.fallback else "")
        stage = attempt.stage or ""
        table.add_row(str(number), _time(attempt.at), attempt.result, stage, relay, Text(reply))
    return table


def _reports(reports: Sequence[ReportView]) -> Table:
    table = plain_table()
    for name in ("report", "at", "status", "from"):
        table.add_column(name, no_wrap=True)
    table.add_column("text", overflow="fold")
    for report in reports:
        mta, text = Text(report.mta or ""), Text(report.text or "")
        table.add_row(report.kind, _time(report.at), report.status, mta, text)
    return table


def dead_letter_topics(folder: DataFolder) -> list[str]:
    """Return the dead-letter topics of the profiles of a data folder."""
    profiles = read_profiles(folder.bundles).values()
    return [dead_letter_topic(topic_of(profile)) for profile in profiles]


def _time(moment: datetime) -> str:
    """Format a time as events and the gateway do: RFC 3339, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
