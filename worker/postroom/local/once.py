"""`postroom up --once`: send the samples of every live template as events and see them arrive.

Input: a run that is ready. Output: a table of the letters and whether all of them came: each in the ledger
with a final state and, where the sandbox took it, in the inbox under its Message-ID. A letter that did not
come is told with its reason.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from rich.console import Console
from rich.table import Table
from rich.text import Text

from postroom.adapters.ledger.reader import LetterView
from postroom.clock import SystemClock
from postroom.letter.bundle import CompiledTemplate
from postroom.letter.template import EmailTemplate, SampleSpec
from postroom.local import client
from postroom.local.arrival import ARRIVAL_SECONDS, GOOD, READER, broken_rules, in_inbox, reason, settled
from postroom.local.bundles import Stand
from postroom.local.up import Run
from postroom.local.view import STATES

WIDE = 130
"""Columns from which a letter fits on a line."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A sample on its way, and what came of it."""

    event_type: str
    recipient: str
    sample: str
    home: str
    id: str = ""
    state: str = "not accepted"
    subject: str = ""
    template: str = ""
    milliseconds: int | None = None
    reasons: tuple[str, ...] = field(default=())

    @property
    def arrived(self) -> bool:
        """Whether the letter is where it should be."""
        return self.state in GOOD and not self.reasons


async def send_samples(run: Run, console: Console) -> bool:
    """Send, wait, tell; whether every letter came."""
    asked = list(samples(run))
    if not asked:
        console.print("No live template has a sample: there is nothing to send.", style="red")
        return False
    with console.status(f"sending {len(asked)} letters") as status:
        sent = []
        for number, (sample, message) in enumerate(asked, 1):
            status.update(f"letter {number} of {len(asked)}: {sample.event_type}")
            sent.append(await _one(run, sample, message))
    console.print(table(sent, console.width))
    for each in sent:
        for why in each.reasons:
            console.print(f"{each.event_type} ({each.sample}): {why}", style="red", markup=False)
    came = sum(each.arrived for each in sent)
    console.print(f"\n{came} of {len(sent)} letters arrived.", highlight=False)
    return came == len(sent)


def samples(run: Run) -> Iterator[tuple[Sent, dict[str, Any]]]:
    """Every sample of every live template, and the message that it makes."""
    sources = {
        (item.metadata.namespace, item.metadata.name): item
        for item in run.reading.objects
        if isinstance(item, EmailTemplate)
    }
    for stand in run.stands:
        for compiled in stand.templates:
            source = sources.get((compiled.namespace, compiled.name))
            if source is None or compiled.suspend or compiled.name in stand.held:
                continue
            for sample in source.spec.samples:
                yield _sample(stand, compiled, sample)


def _sample(stand: Stand, compiled: CompiledTemplate, sample: SampleSpec) -> tuple[Sent, dict[str, Any]]:
    message: dict[str, Any] = {
        "event_type": compiled.event_types[0],
        "recipient": sample.recipient or READER,
        "data": dict(sample.data),
    }
    if sample.locale:
        message["locale"] = sample.locale
    return Sent(message["event_type"], message["recipient"], sample.name, stand.home), message


async def _one(run: Run, sample: Sent, message: dict[str, Any]) -> Sent:
    begin = SystemClock().now()
    profile = next(stand.profile.metadata.name for stand in run.stands if stand.home == sample.home)
    url = f"{run.gateway}/v1/messages?{urlencode({'profile': profile})}"
    try:
        answer = await asyncio.to_thread(client.post, url, message)
    except client.Unanswered as silence:
        return replace(sample, reasons=(str(silence),))
    if not answer.ok:
        return replace(sample, reasons=broken_rules(answer))
    letter = await settled(run.folder.ledger(sample.home), answer.body["id"])
    if letter is None:
        late = f"no worker has taken it after {ARRIVAL_SECONDS:.0f} s; see {run.folder.path / 'logs'}"
        return replace(sample, id=answer.body["id"], state="on the topic", reasons=(late,))
    return await _arrived(run, replace(sample, id=answer.body["id"]), letter, begin)


async def _arrived(run: Run, sent: Sent, letter: LetterView, begin: datetime) -> Sent:
    took = round((letter.updated - begin).total_seconds() * 1000)
    template = f"{letter.template}@{letter.revision}" if letter.template else ""
    known = replace(sent, state=letter.state, template=template, milliseconds=took)
    if letter.state not in GOOD:
        why = reason(letter) or letter.reply
        return replace(known, reasons=(f"{letter.state}: {why or 'no reason on record'}",))
    if letter.state != "captured":
        return replace(known, subject=f"({letter.reply or letter.state})")
    try:
        answer = await in_inbox(run.inbox, letter.message_id or "")
    except client.Unanswered as silence:
        return replace(known, reasons=(str(silence),))
    if not answer.ok:
        return replace(known, reasons=(f"captured, but not in the inbox: {answer.detail}",))
    return replace(known, subject=str(answer.body["subject"]))


def table(sent: list[Sent], width: int) -> Table:
    """The letters as a table: a line each where the terminal is wide, two lines each where it is not."""
    return _wide(sent) if width >= WIDE else _narrow(sent)


def _wide(sent: list[Sent]) -> Table:
    shown = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    shown.add_column("state", no_wrap=True, min_width=8)
    shown.add_column("ms", justify="right", no_wrap=True, min_width=5)
    for name, ratio in (("event", 3), ("recipient", 3), ("subject", 4), ("template@revision", 4)):
        shown.add_column(name, ratio=ratio, overflow="ellipsis", no_wrap=True)
    for each in sent:
        shown.add_row(
            _state(each), _took(each), each.event_type, each.recipient, Text(each.subject), each.template
        )
    return shown


def _narrow(sent: list[Sent]) -> Table:
    shown = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    shown.add_column("state", no_wrap=True, min_width=8)
    shown.add_column("ms", justify="right", no_wrap=True, min_width=5)
    shown.add_column("event → recipient, subject, template@revision")
    for each in sent:
        lines = Text(f"{each.event_type} → {each.recipient}")
        for detail in filter(None, (each.subject, each.template)):
            lines.append(f"\n{detail}", style="dim")
        shown.add_row(_state(each), _took(each), lines)
    return shown


def _state(letter: Sent) -> Text:
    return Text(letter.state, style=STATES.get(letter.state, "red"))


def _took(letter: Sent) -> str:
    return "" if letter.milliseconds is None else f"{letter.milliseconds:,}"
