"""`postroom up --once`: send the samples of every live template as events and see them arrive.

Input: a run that is ready. Output: a table of the letters and whether all of them came: each in the ledger
with a final state and, where the sandbox took it, in the inbox under its Message-ID. A letter that did not
come is told with its reason.

One `postroom up` from start to end: come to life, show or send, end in order.

Input: what the user asked for and a console. Output: the exit code. Ctrl-C and SIGTERM end it in order; a
second one while it ends is answered with patience, since workers settle their letters then.
"""

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table
from rich.text import Text

from postroom.adapters.ledger.reader import LetterView
from postroom.clock import SystemClock
from postroom.letter.bundle import CompiledTemplate
from postroom.letter.template import EmailTemplate, SampleSpec
from postroom.local import http_client
from postroom.local.bundles import ServedProfile
from postroom.local.display import STATE_COLOURS, Notes, letter_totals, letters_by_state, show_run
from postroom.local.manifests import ManifestSet
from postroom.local.plan import UpOptions, up_command
from postroom.local.send import (
    ARRIVAL_SECONDS,
    SAMPLE_RECIPIENT,
    SUCCESS_STATES,
    letter_reason,
    rejection_lines,
    wait_in_inbox,
    wait_until_final,
)
from postroom.local.up import LocalRun
from postroom.local.watch import EditListener, watch_manifests

WIDE = 130
"""Columns from which a letter fits on a line."""


@dataclass(frozen=True, slots=True)
class SampleDelivery:
    """A sample on its way, and what came of it."""

    event_type: str
    recipient: str
    sample: str
    profile_dir: str
    id: str = ""
    state: str = "not accepted"
    subject: str = ""
    template: str = ""
    milliseconds: int | None = None
    reasons: tuple[str, ...] = field(default=())

    @property
    def arrived(self) -> bool:
        """Whether the letter is where it should be."""
        return self.state in SUCCESS_STATES and not self.reasons


async def send_samples(run: LocalRun, console: Console) -> bool:
    """Send, wait, tell; whether every letter came."""
    asked = list(samples(run))
    if not asked:
        console.print("No live template has a sample: there is nothing to send.", style="red")
        return False
    with console.status(f"sending {len(asked)} letters") as status:
        sent = []
        for number, (sample, message) in enumerate(asked, 1):
            status.update(f"letter {number} of {len(asked)}: {sample.event_type}")
            sent.append(await _send_sample(run, sample, message))
    console.print(results_table(sent, console.width))
    for each in sent:
        for why in each.reasons:
            console.print(f"{each.event_type} ({each.sample}): {why}", style="red", markup=False)
    came = sum(each.arrived for each in sent)
    console.print(f"\n{came} of {len(sent)} letters arrived.", highlight=False)
    return came == len(sent)


def samples(run: LocalRun) -> Iterator[tuple[SampleDelivery, dict[str, Any]]]:
    """Every sample of every live template, and the message that it makes."""
    sources = {
        (item.metadata.namespace, item.metadata.name): item
        for item in run.manifest_set.objects
        if isinstance(item, EmailTemplate)
    }
    for stand in run.served:
        for compiled in stand.templates:
            source = sources.get((compiled.namespace, compiled.name))
            if source is None or compiled.suspend or compiled.name in stand.held_back:
                continue
            for sample in source.spec.samples:
                yield _message(stand, compiled, sample)


def _message(
    stand: ServedProfile, compiled: CompiledTemplate, sample: SampleSpec
) -> tuple[SampleDelivery, dict[str, Any]]:
    message: dict[str, Any] = {
        "event_type": compiled.event_types[0],
        "recipient": sample.recipient or SAMPLE_RECIPIENT,
        "data": dict(sample.data),
    }
    if sample.locale:
        message["locale"] = sample.locale
    return SampleDelivery(
        message["event_type"], message["recipient"], sample.name, stand.profile_dir
    ), message


async def _send_sample(run: LocalRun, sample: SampleDelivery, message: dict[str, Any]) -> SampleDelivery:
    begin = SystemClock().now()
    profile = next(
        stand.profile.metadata.name for stand in run.served if stand.profile_dir == sample.profile_dir
    )
    url = f"{run.gateway}/v1/messages?{urlencode({'profile': profile})}"
    try:
        answer = await asyncio.to_thread(http_client.post, url, message)
    except http_client.RequestFailed as silence:
        return replace(sample, reasons=(str(silence),))
    if not answer.ok:
        return replace(sample, reasons=rejection_lines(answer))
    letter = await wait_until_final(run.folder.ledger(sample.profile_dir), answer.body["id"])
    if letter is None:
        late = f"no worker has taken it after {ARRIVAL_SECONDS:.0f} s; see {run.folder.path / 'logs'}"
        return replace(sample, id=answer.body["id"], state="on the topic", reasons=(late,))
    return await _arrived(run, replace(sample, id=answer.body["id"]), letter, begin)


async def _arrived(
    run: LocalRun, sent: SampleDelivery, letter: LetterView, begin: datetime
) -> SampleDelivery:
    took = round((letter.updated - begin).total_seconds() * 1000)
    template = f"{letter.template}@{letter.revision}" if letter.template else ""
    known = replace(sent, state=letter.state, template=template, milliseconds=took)
    if letter.state not in SUCCESS_STATES:
        why = letter_reason(letter) or letter.reply
        return replace(known, reasons=(f"{letter.state}: {why or 'no reason on record'}",))
    if letter.state != "captured":
        return replace(known, subject=f"({letter.reply or letter.state})")
    try:
        answer = await wait_in_inbox(run.inbox, letter.message_id or "")
    except http_client.RequestFailed as silence:
        return replace(known, reasons=(str(silence),))
    if not answer.ok:
        return replace(known, reasons=(f"captured, but not in the inbox: {answer.detail}",))
    return replace(known, subject=str(answer.body["subject"]))


def results_table(sent: list[SampleDelivery], width: int) -> Table:
    """The letters as a table: a line each where the terminal is wide, two lines each where it is not."""
    return _wide(sent) if width >= WIDE else _narrow(sent)


def _wide(sent: list[SampleDelivery]) -> Table:
    shown = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    shown.add_column("state", no_wrap=True, min_width=8)
    shown.add_column("ms", justify="right", no_wrap=True, min_width=5)
    for name, ratio in (("event", 3), ("recipient", 3), ("subject", 4), ("template@revision", 4)):
        shown.add_column(name, ratio=ratio, overflow="ellipsis", no_wrap=True)
    for each in sent:
        shown.add_row(
            _state(each),
            _milliseconds(each),
            each.event_type,
            each.recipient,
            Text(each.subject),
            each.template,
        )
    return shown


def _narrow(sent: list[SampleDelivery]) -> Table:
    shown = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    shown.add_column("state", no_wrap=True, min_width=8)
    shown.add_column("ms", justify="right", no_wrap=True, min_width=5)
    shown.add_column("event → recipient, subject, template@revision")
    for each in sent:
        lines = Text(f"{each.event_type} → {each.recipient}")
        for detail in filter(None, (each.subject, each.template)):
            lines.append(f"\n{detail}", style="dim")
        shown.add_row(_state(each), _milliseconds(each), lines)
    return shown


def _state(letter: SampleDelivery) -> Text:
    return Text(letter.state, style=STATE_COLOURS.get(letter.state, "red"))


def _milliseconds(letter: SampleDelivery) -> str:
    return "" if letter.milliseconds is None else f"{letter.milliseconds:,}"


async def run_until_stopped(options: UpOptions, console: Console) -> int:
    """Run until asked to end; raises Trouble when it cannot start."""
    notes, stopping = Notes(console), _stop_event()
    run = LocalRun(options, notes)
    _print_errors(await run.validate(), console)
    if not await _start_run(run, console, stopping):
        return 130
    following = asyncio.create_task(watch_manifests(run, EditListener(notes, notes.finding), stopping))
    try:
        await show_run(run, console, notes, stopping)
    finally:
        stopping.set()
        await following
        await _stop_run(run, console)
    sums = letters_by_state(letter_totals(run).items()).plain
    console.print(f"Ended. Letters: {sums}. To go on:", highlight=False, soft_wrap=True)
    console.print(f"  {up_command(options)}", highlight=False, markup=False, soft_wrap=True)
    return 0


async def run_once(options: UpOptions, console: Console) -> int:
    """Send every sample, see it arrive, end; 0 when all came and every manifest passed."""
    stopping = _stop_event()
    run = LocalRun(replace(options, studio=False), Notes(console))
    manifest_set = await run.validate()
    _print_errors(manifest_set, console)
    if not any(proof.compiled for proof in manifest_set.validation.results.values()):
        console.print("No template is live: nothing was started and nothing sent.")
        return 1
    if not await _start_run(run, console, stopping):
        return 130
    sending = asyncio.create_task(send_samples(run, console))
    ended = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({sending, ended}, return_when=asyncio.FIRST_COMPLETED)
        came = sending.done() and sending.result()
    finally:
        sending.cancel()
        ended.cancel()
        await asyncio.gather(sending, ended, return_exceptions=True)
        await _stop_run(run, console)
    if stopping.is_set():
        return 130
    console.print("They stay in the inbox; to look at them:", highlight=False)
    console.print(f"  {up_command(options)}", highlight=False, markup=False, soft_wrap=True)
    return 0 if came and not run.manifest_set.errors else 1


async def _start_run(run: LocalRun, console: Console, stopping: asyncio.Event) -> bool:
    """Start it; False when it was asked to end before it was ready."""
    starting = asyncio.create_task(run.start())
    ended = asyncio.create_task(stopping.wait())
    with console.status("starting") as status:
        run.on_progress = _ProgressLine(console, status)
        await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    starting.result()
    return True


class _ProgressLine:
    """What is being done now: in a terminal's status line, else a line for what takes long."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status

    def __call__(self, line: str) -> None:
        if self._console.is_terminal:
            self._status.update(escape(line))
        elif "Kafka at" in line or ("broker" in line and not line.startswith(("starting", "waiting"))):
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


async def _stop_run(run: LocalRun, console: Console) -> None:
    with console.status("ending: letters under way are settled first"):
        await run.stop()


def _print_errors(manifest_set: ManifestSet, console: Console) -> None:
    for finding in manifest_set.errors:
        console.print(str(finding), style="red", markup=False, highlight=False, soft_wrap=True)


def _stop_event() -> asyncio.Event:
    """An event that Ctrl-C and SIGTERM set."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(ending, stopping.set)
    return stopping
