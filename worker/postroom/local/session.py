"""A `postroom up` from start to exit: start the run, show it or send its samples, stop it in order.

Input: `UpOptions` and a console. Output: the exit status. `run_until_stopped` shows the run until Ctrl-C or
SIGTERM; a second Ctrl-C does not shorten the shutdown, in which workers finish their letters.
`run_once` (`--once`) sends the samples of every live template as events and prints a table: a letter arrived
when the ledger has it in a final state and, if the sandbox took it, the inbox has it under its Message-ID.
Each letter that did not arrive is printed with its reason. Failure: `UserError` when the run cannot start.
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
from postroom.local.display import Notes, letter_totals, letters_by_state, show_run
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
from postroom.local.terminal import STATE_COLOURS, plain_table
from postroom.local.up import LocalRun
from postroom.local.watch import EditListener, watch_manifests

WIDE = 130
"""Terminal width from which a letter fits on one line."""


@dataclass(frozen=True, slots=True)
class SampleDelivery:
    """A sample that was sent as a message, and the state of its letter."""

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
        """Whether the letter was delivered or captured without a problem."""
        return self.state in SUCCESS_STATES and not self.reasons


async def send_samples(run: LocalRun, console: Console) -> bool:
    """Send all samples, wait for their letters, print the results; returns whether every letter arrived."""
    messages = list(samples(run))
    if not messages:
        console.print("No live template has a sample; nothing was sent.", style="red")
        return False
    with console.status(f"sending {len(messages)} letters") as status:
        sent = []
        for number, (sample, message) in enumerate(messages, 1):
            status.update(f"letter {number} of {len(messages)}: {sample.event_type}")
            sent.append(await _send_sample(run, sample, message))
    console.print(results_table(sent, console.width))
    for delivery in sent:
        for why in delivery.reasons:
            line = f"{delivery.event_type} ({delivery.sample}): {why}"
            console.print(line, style="red", markup=False)
    arrived = sum(delivery.arrived for delivery in sent)
    console.print(f"\n{arrived} of {len(sent)} letters arrived.", highlight=False)
    return arrived == len(sent)


def samples(run: LocalRun) -> Iterator[tuple[SampleDelivery, dict[str, Any]]]:
    """Return each sample of each live template, with the message built from it."""
    sources = {
        (item.metadata.namespace, item.metadata.name): item
        for item in run.manifest_set.objects
        if isinstance(item, EmailTemplate)
    }
    for profile in run.served:
        for compiled in profile.templates:
            source = sources.get((compiled.namespace, compiled.name))
            if source is None or compiled.suspend or compiled.name in profile.held_back:
                continue
            for sample in source.spec.samples:
                yield _message(profile, compiled, sample)


def _message(
    profile: ServedProfile, compiled: CompiledTemplate, sample: SampleSpec
) -> tuple[SampleDelivery, dict[str, Any]]:
    message: dict[str, Any] = {
        "event_type": compiled.event_types[0],
        "recipient": sample.recipient or SAMPLE_RECIPIENT,
        "data": dict(sample.data),
    }
    if sample.locale:
        message["locale"] = sample.locale
    return SampleDelivery(
        message["event_type"], message["recipient"], sample.name, profile.profile_dir
    ), message


async def _send_sample(run: LocalRun, sample: SampleDelivery, message: dict[str, Any]) -> SampleDelivery:
    begin = SystemClock().now()
    profile = next(
        profile.manifest.metadata.name for profile in run.served if profile.profile_dir == sample.profile_dir
    )
    url = f"{run.gateway}/v1/messages?{urlencode({'profile': profile})}"
    try:
        answer = await asyncio.to_thread(http_client.post, url, message)
    except http_client.RequestFailed as error:
        return replace(sample, reasons=(str(error),))
    if not answer.ok:
        return replace(sample, reasons=rejection_lines(answer))
    letter = await wait_until_final(run.folder.ledger(sample.profile_dir), answer.body["id"])
    if letter is None:
        late = f"no worker claimed it within {ARRIVAL_SECONDS:.0f} s; see {run.folder.path / 'logs'}"
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
        return replace(known, reasons=(f"{letter.state}: {why or 'no reason recorded'}",))
    if letter.state != "captured":
        return replace(known, subject=f"({letter.reply or letter.state})")
    try:
        answer = await wait_in_inbox(run.inbox, letter.message_id or "")
    except http_client.RequestFailed as error:
        return replace(known, reasons=(str(error),))
    if not answer.ok:
        return replace(known, reasons=(f"captured, but not in the inbox: {answer.detail}",))
    return replace(known, subject=str(answer.body["subject"]))


def results_table(sent: list[SampleDelivery], width: int) -> Table:
    """Return the letters as a table; on a narrow terminal the details go on lines of their own."""
    return _wide(sent) if width >= WIDE else _narrow(sent)


def _wide(sent: list[SampleDelivery]) -> Table:
    shown = plain_table()
    shown.add_column("state", no_wrap=True, min_width=8)
    shown.add_column("ms", justify="right", no_wrap=True, min_width=5)
    for name, ratio in (("event", 3), ("recipient", 3), ("subject", 4), ("template@revision", 4)):
        shown.add_column(name, ratio=ratio, overflow="ellipsis", no_wrap=True)
    for delivery in sent:
        shown.add_row(
            _state(delivery),
            _milliseconds(delivery),
            delivery.event_type,
            delivery.recipient,
            Text(delivery.subject),
            delivery.template,
        )
    return shown


def _narrow(sent: list[SampleDelivery]) -> Table:
    shown = plain_table()
    shown.add_column("state", no_wrap=True, min_width=8)
    shown.add_column("ms", justify="right", no_wrap=True, min_width=5)
    shown.add_column("event → recipient, subject, template@revision")
    for delivery in sent:
        lines = Text(f"{delivery.event_type} → {delivery.recipient}")
        for detail in filter(None, (delivery.subject, delivery.template)):
            lines.append(f"\n{detail}", style="dim")
        shown.add_row(_state(delivery), _milliseconds(delivery), lines)
    return shown


def _state(letter: SampleDelivery) -> Text:
    return Text(letter.state, style=STATE_COLOURS.get(letter.state, "red"))


def _milliseconds(letter: SampleDelivery) -> str:
    return "" if letter.milliseconds is None else f"{letter.milliseconds:,}"


async def run_until_stopped(options: UpOptions, console: Console) -> int:
    """Show the run until Ctrl-C or SIGTERM; returns the exit status. Raises UserError on a failed start."""
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
    console.print(f"Stopped. Letters: {sums}. To continue:", highlight=False, soft_wrap=True)
    console.print(f"  {up_command(options)}", highlight=False, markup=False, soft_wrap=True)
    return 0


async def run_once(options: UpOptions, console: Console) -> int:
    """Send every sample and wait for its letter; returns 0 when all arrived and every manifest passed."""
    stopping = _stop_event()
    run = LocalRun(replace(options, studio=False), Notes(console))
    manifest_set = await run.validate()
    _print_errors(manifest_set, console)
    if not any(result.compiled for result in manifest_set.validation.results.values()):
        console.print("No template passes validation; nothing was started.")
        return 1
    if not await _start_run(run, console, stopping):
        return 130
    sending = asyncio.create_task(send_samples(run, console))
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({sending, stopped}, return_when=asyncio.FIRST_COMPLETED)
        all_arrived = sending.done() and sending.result()
    finally:
        sending.cancel()
        stopped.cancel()
        await asyncio.gather(sending, stopped, return_exceptions=True)
        await _stop_run(run, console)
    if stopping.is_set():
        return 130
    console.print("The letters stay in the inbox. To look at them:", highlight=False)
    console.print(f"  {up_command(options)}", highlight=False, markup=False, soft_wrap=True)
    return 0 if all_arrived and not run.manifest_set.errors else 1


async def _start_run(run: LocalRun, console: Console, stopping: asyncio.Event) -> bool:
    """Start the run; returns False when it was stopped before it was ready."""
    starting = asyncio.create_task(run.start())
    stopped = asyncio.create_task(stopping.wait())
    with console.status("starting") as status:
        run.on_progress = _ProgressLine(console, status)
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    starting.result()
    return True


class _ProgressLine:
    """Shows progress in a terminal's status line; elsewhere prints a line for steps that take long."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status

    def __call__(self, line: str) -> None:
        if self._console.is_terminal:
            self._status.update(escape(line))
        elif "Kafka at" in line or ("broker" in line and not line.startswith(("starting", "waiting"))):
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


async def _stop_run(run: LocalRun, console: Console) -> None:
    with console.status("stopping: workers finish the letters in flight"):
        await run.stop()


def _print_errors(manifest_set: ManifestSet, console: Console) -> None:
    for finding in manifest_set.errors:
        console.print(str(finding), style="red", markup=False, highlight=False, soft_wrap=True)


def _stop_event() -> asyncio.Event:
    """Return an event that Ctrl-C, SIGTERM and SIGHUP set."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    return stopping
