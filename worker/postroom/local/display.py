"""The status of a run for a person: a live page on a terminal, plain lines elsewhere.

Input: a `LocalRun` and a console. `take_snapshot` reads each worker's /statusz and each ledger over read-only
connections; it never blocks or changes a run, and a program that does not answer is shown as such.
`draw_page` is pure: a `StatusPage` in, a rich renderable out, made for 80 columns and 24 lines: problems come
before the letters, which fill the remaining lines. Recipients are masked.
"""

import asyncio
import sqlite3
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.text import Text

from postroom.adapters.ledger.reader import FileLedgerReader, LetterView
from postroom.letter.address import mask_address
from postroom.letter.profile import dead_letter_topic
from postroom.letter.template import EmailTemplate
from postroom.local import http_client
from postroom.local.manifests import Finding
from postroom.local.plan import command_line, wrap_command
from postroom.local.terminal import STATE_COLOURS, plain_table
from postroom.local.up import LocalRun

LATEST = 40
"""Letters that are read for the list."""


@dataclass(frozen=True, slots=True)
class ProfileStatus:
    """The worker and the letters of a profile."""

    profile_dir: str
    topic: str
    mode: str
    """The mode in effect; empty when the worker does not answer."""
    problems: tuple[str, ...]
    lag: int | None
    letters: Mapping[str, int]
    templates: int
    held_back: tuple[str, ...] = ()
    rejected: int = 0
    """Records rejected since the worker started, because they are not valid events."""
    last_rejection: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The status of a run at one time."""

    at: float
    """The time, in seconds of the event loop's clock."""
    profiles: tuple[ProfileStatus, ...] = ()
    latest: tuple[LetterView, ...] = ()
    duration: float = 0.0
    """Seconds that it took to read the status."""

    @property
    def letters(self) -> Counter[str]:
        """Letters of all profiles by state."""
        total: Counter[str] = Counter()
        for profile in self.profiles:
            total.update(profile.letters)
        return total


async def take_snapshot(run: LocalRun) -> Snapshot:
    """Read the status once; takes milliseconds, and up to two seconds when a worker hangs."""
    loop = asyncio.get_running_loop()
    begin, served = loop.time(), list(run.served)
    statuses = await asyncio.gather(
        *(asyncio.to_thread(_worker_status, run.worker_address(profile.profile_dir)) for profile in served)
    )
    profiles, latest = [], []
    for profile, status in zip(served, statuses, strict=True):
        counts, newest = await asyncio.to_thread(_ledger_counts, run.folder.ledger(profile.profile_dir))
        latest += newest
        profiles.append(
            ProfileStatus(
                profile_dir=profile.profile_dir,
                topic=next(iter(status.get("partitions", [])), "").rpartition("/")[0],
                mode=str(status.get("mode", "")),
                problems=tuple(status.get("problems", ["the worker does not answer"])),
                lag=status.get("lag"),
                letters=counts,
                templates=len(profile.templates),
                held_back=profile.held_back,
                rejected=int(status.get("letters", {}).get("dead_letters", 0)),
                last_rejection=str(status.get("last_refusal") or ""),
            )
        )
    latest.sort(key=lambda letter: letter.received, reverse=True)
    return Snapshot(loop.time(), tuple(profiles), tuple(latest[:LATEST]), loop.time() - begin)


def letter_totals(run: LocalRun) -> Counter[str]:
    """Count the letters of all profiles by state, from the ledgers alone; the programs may have exited."""
    total: Counter[str] = Counter()
    for profile in run.served:
        total.update(_ledger_counts(run.folder.ledger(profile.profile_dir))[0])
    return total


def _worker_status(address: str) -> dict[str, Any]:
    try:
        answer = http_client.get(f"{address}/statusz", timeout=2)
    except http_client.RequestFailed:
        return {}
    return answer.body if answer.ok and isinstance(answer.body, dict) else {}


def _ledger_counts(path: Path) -> tuple[dict[str, int], list[LetterView]]:
    if not path.exists():
        return {}, []
    try:
        with FileLedgerReader(path) as ledger:
            return ledger.counts(), list(ledger.latest(LATEST))
    except sqlite3.Error:  # the worker is creating it; the next snapshot reads it
        return {}, []


NOT_KNOWN = "–"
SHOWN_FINDINGS = 6
SHOWN_NOTES = 4


@dataclass(frozen=True, slots=True)
class StatusPage:
    """Everything that the page shows at one time."""

    addresses: Sequence[tuple[str, str]]
    """Name and address: inbox, gateway, Kafka, workers, manifests, data."""
    snapshot: Snapshot
    rates: Mapping[str, float]
    """Letters per second over the last seconds, by profile."""
    example: str
    """A command that sends a letter."""
    findings: Sequence[Finding] = ()
    notes: Sequence[str] = ()
    check: str = "postroom check"
    """A command that prints every finding."""


@dataclass(frozen=True, slots=True)
class _FittedPage:
    """Fits a page to the size of the terminal."""

    page: StatusPage

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown, left = SHOWN_FINDINGS + 1, -1
        while left < 0 and shown > 1:  # with fewer findings, until the last line fits
            shown -= 1
            head = Group(*_head(self.page, shown, options.max_width))
            left = options.max_height - len(console.render_lines(head, options, pad=False)) - 1
        yield from _head(self.page, shown, options.max_width)
        if self.page.snapshot.latest and left > 0:
            yield Text()
            yield _letter_table(self.page.snapshot.latest[:left])


def draw_page(page: StatusPage) -> RenderableType:
    """Return the page as a renderable."""
    return _FittedPage(page)


def _head(page: StatusPage, findings: int, width: int) -> Iterator[RenderableType]:
    """Everything above the letters."""
    yield _addresses(page.addresses)
    yield Text()
    yield _profile_table(page.snapshot.profiles, page.rates)
    if problems := _problem_lines(page, findings):
        yield Text()
        yield from problems
    if not page.snapshot.latest:
        yield Text()
        yield Text("No letter yet. In another terminal:", style="dim")
        yield Text(wrap_command(page.example, width), no_wrap=True, overflow="ignore")
    yield Text()
    yield Text("Press Ctrl-C to stop. Letters and inbox stay in the data folder.", style="dim")


def _addresses(addresses: Iterable[tuple[str, str]]) -> RenderableType:
    table = plain_table(show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, address in addresses:
        table.add_row(name, Text(address, style="bold" if address.startswith("http") else ""))
    return table


def _profile_table(profiles: Sequence[ProfileStatus], rates: Mapping[str, float]) -> RenderableType:
    if not profiles:
        return Text("No SmtpProfile yet: add one to the manifests.", style="yellow")
    table = plain_table()
    for name in ("profile", "mode"):
        table.add_column(name, no_wrap=True)
    for name in ("templates", "lag", "letters/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("letters")
    for profile in profiles:
        rate = f"{rates.get(profile.profile_dir, 0.0):.1f}"
        table.add_row(
            profile.profile_dir,
            profile.mode or NOT_KNOWN,
            str(profile.templates),
            total_lag([profile]),
            rate,
            letters_by_state(profile.letters.items()),
        )
    return table


def total_lag(profiles: Sequence[ProfileStatus]) -> str:
    """Return the consumer lag in events; unknown unless every worker reports it."""
    lags = [profile.lag for profile in profiles if profile.lag is not None]
    return f"{sum(lags):,}" if len(lags) == len(profiles) else NOT_KNOWN


def letters_by_state(counts: Iterable[tuple[str, int]]) -> Text:
    """Return counts such as `14 captured, 1 deferred`, in the order of a letter's life."""
    found = dict(counts)
    parts = [
        Text(f"{found[state]:,} {state}", style=colour)
        for state, colour in STATE_COLOURS.items()
        if found.get(state)
    ]
    return Text(", ").join(parts) if parts else Text("none yet", style="dim")


def _letter_table(letters: Sequence[LetterView]) -> RenderableType:
    table = plain_table(show_header=False)
    for ratio in (None, None, 3, 4):
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=ratio)
    for letter in letters:
        revision = f"@{letter.revision}" if letter.revision else ""
        what = f"{letter.template}{revision}" if letter.template else letter.event_type
        reason = f"  {letter.code}" if letter.code else ""
        table.add_row(
            Text(f"{letter.received.astimezone():%H:%M:%S}", style="dim"),
            Text(letter.state, style=STATE_COLOURS.get(letter.state, "")),
            mask_address(letter.recipient),
            Text(what) + Text(reason, style="yellow"),
        )
    return table


def _problem_lines(page: StatusPage, findings: int) -> list[Text]:
    lines: list[Text] = []
    errors = [finding for finding in page.findings if finding.severity == "error"]
    lines += [Text(str(finding), style="red") for finding in errors[:findings]]
    if len(errors) > findings:
        lines.append(Text(f"and {len(errors) - findings} more: {page.check}", style="red"))
    for profile in page.snapshot.profiles:
        lines += [Text(f"{profile.profile_dir}: {problem}", style="yellow") for problem in profile.problems]
        if profile.rejected:
            lines.append(Text(rejected_records(profile), style="yellow"))
        if profile.held_back:
            held = ", ".join(profile.held_back)
            lines.append(Text(f"{profile.profile_dir}: {held} serves its last good revision", style="yellow"))
    lines += [Text(note, style="dim") for note in page.notes[-SHOWN_NOTES:]]
    return lines


def rejected_records(profile: ProfileStatus) -> str:
    """Return how many records the worker rejected since its start, their topic, and the last reason."""
    records = "1 record is" if profile.rejected == 1 else f"{profile.rejected:,} records are"
    where = dead_letter_topic(profile.topic) if profile.topic else "the dead-letter topic"
    why = f"; last reason: {profile.last_rejection}" if profile.last_rejection else ""
    return f"{profile.profile_dir}: {records} rejected, on {where}{why}"


REFRESH_SECONDS = 1.0
LINE_SECONDS = 5.0
"""Minimum time between two plain lines about letters."""
RATE_SNAPSHOTS = 6
"""Snapshots over which the rate is averaged."""
UNFINISHED_STATES = frozenset({"claimed", "sending", "scheduled"})


class Notes:
    """Messages about the run: printed at once, or kept for the live page."""

    def __init__(self, console: Console) -> None:
        self.lines: deque[str] = deque(maxlen=50)
        self._console = console
        self._live = False

    def __call__(self, line: str) -> None:
        """Add a message; may be called from any thread."""
        self.lines.append(line)
        if not self._live:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def finding(self, line: str) -> None:
        """Add a finding; the live page shows findings itself until they are fixed."""
        if not self._live:
            self(line)

    @contextmanager
    def page_shown(self) -> Iterator[None]:
        """Keep messages without printing them while a page shows them."""
        self._live = True
        self.lines.clear()
        try:
            yield
        finally:
            self._live = False


class Rates:
    """Letters per second of each profile, averaged over the last snapshots."""

    def __init__(self) -> None:
        self._snapshots: deque[Snapshot] = deque(maxlen=RATE_SNAPSHOTS)

    def update(self, snapshot: Snapshot) -> dict[str, float]:
        """Add a snapshot; returns the rates by profile."""
        self._snapshots.append(snapshot)
        first = self._snapshots[0]
        seconds = snapshot.at - first.at
        before = {profile.profile_dir: _finished(profile) for profile in first.profiles}
        return {
            profile.profile_dir: max(0.0, (_finished(profile) - before.get(profile.profile_dir, 0)) / seconds)
            if seconds
            else 0.0
            for profile in snapshot.profiles
        }


def _finished(profile: ProfileStatus) -> int:
    return sum(count for state, count in profile.letters.items() if state not in UNFINISHED_STATES)


def address_rows(run: LocalRun) -> list[tuple[str, str]]:
    """Return names and addresses of the run's programs and folders."""
    return [
        ("inbox", run.inbox),
        *([("studio", run.studio_address)] if run.studio_address else []),
        ("gateway", f"{run.gateway}/v1/messages"),
        ("Kafka", run.bootstrap),
        *(
            (f"worker {profile.profile_dir}", f"{run.worker_address(profile.profile_dir)}/statusz")
            for profile in run.served
        ),
        ("manifests", str(run.options.manifests)),
        ("data", str(run.options.data)),
    ]


def example_command(run: LocalRun) -> str:
    """Return a command to copy that sends a letter of a live template."""
    sources = (item for item in run.manifest_set.objects if isinstance(item, EmailTemplate))
    commands = [line for source in sources if (line := _send_command(source, run.options.data))]
    return min(commands, key=len, default=command_line("send", "--help"))


def _send_command(source: EmailTemplate, data: Path) -> str | None:
    """Return a command with the first sample's required variables; None unless all are strings."""
    sample = source.spec.samples[0].data
    needed = {name: sample.get(name) for name in source.spec.variables.get("required", [])}
    if not all(isinstance(value, str) for value in needed.values()):
        return None
    pairs = (f"{name}={value}" for name, value in needed.items())
    return command_line("send", source.spec.event_types[0], "--to", "mira@example.com", *pairs, data=data)


async def show_run(run: LocalRun, console: Console, notes: Notes, stopping: asyncio.Event) -> None:
    """Show the run until `stopping` is set."""
    if console.is_terminal:
        await _show_page(run, console, notes, stopping)
    else:
        await _print_lines(run, console, stopping)


async def _show_page(run: LocalRun, console: Console, notes: Notes, stopping: asyncio.Event) -> None:
    rates = Rates()
    with notes.page_shown(), Live(console=console, auto_refresh=False, transient=True) as live:
        while not stopping.is_set():
            snapshot = await take_snapshot(run)
            page = StatusPage(
                address_rows(run),
                snapshot,
                rates.update(snapshot),
                example=example_command(run),
                findings=run.manifest_set.findings,
                notes=tuple(notes.lines),
                check=command_line("check", str(run.options.manifests)),
            )
            live.update(draw_page(page), refresh=True)
            await _wait(stopping, _refresh_delay(snapshot))


async def _print_lines(run: LocalRun, console: Console, stopping: asyncio.Event) -> None:
    width = max(10, *(len(name) for name, _ in address_rows(run)))
    for name, address in address_rows(run):
        console.print(f"{name:<{width}} {address}", highlight=False, soft_wrap=True)
    printed = ""
    rejected: dict[str, int] = {}
    while not stopping.is_set():
        snapshot = await take_snapshot(run)
        line = f"letters: {letters_by_state(snapshot.letters.items())}; lag {total_lag(snapshot.profiles)}"
        if line != printed:
            console.print(line, highlight=False, soft_wrap=True)
            printed = line
        for profile in snapshot.profiles:
            if profile.rejected > rejected.get(profile.profile_dir, 0):
                console.print(rejected_records(profile), highlight=False, markup=False, soft_wrap=True)
            rejected[profile.profile_dir] = profile.rejected
        await _wait(stopping, max(LINE_SECONDS, _refresh_delay(snapshot)))


def _refresh_delay(snapshot: Snapshot) -> float:
    """Return the pause until the next snapshot: long for a large ledger, whose letters take long to count."""
    return max(REFRESH_SECONDS, snapshot.duration * 10)


async def _wait(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
