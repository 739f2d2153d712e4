"""`postroom letter`: what became of a letter, from the ledgers of a data folder.

Input: an event id, Message-ID, request id, user id or address, and the ledgers to look in. Output: every
row that fits, with its attempts, as something rich can print. There is no index on these on purpose, so
that a look takes about a second a million letters. Failure: `Trouble` when there is no ledger.

`postroom letter --connections`: what became of a letter, from the ledger that workers share.

Input: what is looked for, and the folder of the connections Secret, which says where the ledger is. Output:
every row that fits. Failure: `Trouble` when the folder says nothing usable or the server is away. It works
where the Secret is mounted: in a worker's pod.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from postroom.adapters.ledger.reader import FileLedgerReader, LetterView, ReportView, ServerLedgerReader
from postroom.connections import ConnectionsSecret, read_ledger
from postroom.letter.problems import Rejected
from postroom.letter.profile import SmtpProfile, dead_letter_topic, topic_of
from postroom.local.data_folder import DataFolder
from postroom.local.display import STATE_COLOURS
from postroom.local.errors import UserError
from postroom.local.send import letter_reason
from postroom.ports.world import LedgerUnavailable
from postroom.secret_files import read_folder


def find_letters(wanted: str, ledgers: Sequence[Path]) -> list[LetterView]:
    """The letters that fit, oldest first; raises Trouble."""
    if not ledgers:
        raise UserError(
            "There is no ledger to look in.",
            "Name the data folder of `postroom up` with --data, or a ledger file with --ledger.",
        )
    found: list[LetterView] = []
    for path in ledgers:
        if not path.exists():
            raise UserError(f"There is no ledger {path}.")
        try:
            with FileLedgerReader(path) as ledger:
                found += ledger.find(wanted)
        except sqlite3.Error as error:
            raise UserError(f"{path} cannot be read as a ledger: {error}.") from None
    return sorted(found, key=lambda letter: letter.received)


def draw_letters(letters: Iterable[LetterView]) -> RenderableType:
    """Every letter, one after the other."""
    return Group(*(part for letter in letters for part in (_letter(letter), Text())))


def _letter(letter: LetterView) -> RenderableType:
    head = Text.assemble(
        (letter.state, f"bold {STATE_COLOURS.get(letter.state, '')}"), "  ", (letter.event_type, "bold"),
        "  to ", letter.recipient,
    )  # fmt: skip
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(letter):
        facts.add_row(name, Text(value))
    parts: list[RenderableType] = [head, Padding(facts, (0, 0, 0, 2), expand=False)]
    if letter.attempts:
        parts.append(Padding(_attempts(letter), (0, 0, 0, 2), expand=False))
    if letter.reports:
        parts.append(Padding(_reports(letter.reports), (0, 0, 0, 2), expand=False))
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
            "doubts",
            f"{letter.in_doubt_count}: so often the relay's answer stayed unknown; a copy may have arrived",
        )
    if letter.user_id:
        yield "user id", letter.user_id
    if letter.request_id:
        yield "request id", letter.request_id


def _attempts(letter: LetterView) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("attempt", "at", "result", "stage"):
        table.add_column(name, no_wrap=True)
    table.add_column("relay of", overflow="fold")
    table.add_column("answer", overflow="fold")
    for number, attempt in enumerate(letter.attempts, 1):
        answer = " ".join(part for part in (str(attempt.code or ""), attempt.text or "") if part)
        relay = attempt.relay(letter.profile) + (" (fallback)" if attempt.fallback else "")
        stage = attempt.stage or ""
        table.add_row(str(number), _time(attempt.at), attempt.result, stage, relay, Text(answer))
    return table


def _reports(reports: Sequence[ReportView]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("came back", "at", "status", "from"):
        table.add_column(name, no_wrap=True)
    table.add_column("words", overflow="fold")
    for one in reports:
        table.add_row(one.kind, _time(one.at), one.status, Text(one.mta or ""), Text(one.text or ""))
    return table


def dead_letter_topics(folder: DataFolder) -> list[str]:
    """Where the records that are no events are, for every profile of a data folder."""
    found = []
    for file in sorted(folder.bundles.glob("*/profile.yaml")):
        try:
            profile = SmtpProfile.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        found.append(dead_letter_topic(topic_of(profile)))
    return found


def _time(moment: datetime) -> str:
    """RFC 3339 in UTC, as events and the gateway write times."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def find_letters_on_server(wanted: str, folder: Path, namespace: str) -> list[LetterView]:
    """The letters that fit, oldest first; raises Trouble."""
    try:
        mounted = ConnectionsSecret(read_folder(folder), folder, f"the Secret mounted at {folder}")
        where = read_ledger(mounted, namespace)
        with ServerLedgerReader(where.url, where.schema) as ledger:
            return list(ledger.find(wanted))
    except Rejected as rejected:
        raise UserError(str(rejected)) from None
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error}.") from None
    except LedgerUnavailable as unreachable:
        raise UserError(f"The ledger's server does not answer: {unreachable}.") from None
