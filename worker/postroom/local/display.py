"""Look at a run from outside: how its programs are, what became of its letters.

Input: a `Run`. Output: a `Snapshot` for the live view. The workers tell through /statusz, the ledgers are
read through read-only connections. Nothing here can disturb a run; what does not answer is shown as such.

The page that `postroom up` shows: addresses, letters by state, what is wrong, the last letters.

Input: a `Page`. Output: something rich can print, made for 80 columns and 24 lines and better where there
is more: what is wrong comes before the letters, which fill the lines that are left. Pure: it looks at
nothing and decides nothing. Addresses of people are masked.

Show a run until it is asked to end: a live page on a terminal, plain lines anywhere else.

Input: a `Run` and the console. Output: what a person sees. Lines that programs tell (`Notes`) are kept for
the page, and printed at once where there is none.
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
from rich.table import Table
from rich.text import Text

from postroom.adapters.ledger.reader import FileLedgerReader, LetterView
from postroom.letter.address import mask_address
from postroom.letter.profile import dead_letter_topic
from postroom.letter.template import EmailTemplate
from postroom.local import http_client
from postroom.local.manifests import Finding
from postroom.local.plan import command_line, wrap_command
from postroom.local.up import LocalRun

LATEST = 40
"""Letters that are looked at for the list."""


@dataclass(frozen=True, slots=True)
class ProfileStatus:
    """One profile's worker and letters."""

    profile_dir: str
    topic: str
    mode: str
    """What takes effect; empty where the worker does not answer."""
    problems: tuple[str, ...]
    lag: int | None
    letters: Mapping[str, int]
    templates: int
    held_back: tuple[str, ...] = ()
    rejected: int = 0
    """Records since the worker began that are no events."""
    last_rejection: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment."""

    at: float
    """Seconds of the event loop's clock."""
    profiles: tuple[ProfileStatus, ...] = ()
    latest: tuple[LetterView, ...] = ()
    duration: float = 0.0
    """Seconds that the look took."""

    @property
    def letters(self) -> Counter[str]:
        """Letters of all profiles by state."""
        total: Counter[str] = Counter()
        for profile in self.profiles:
            total.update(profile.letters)
        return total


async def take_snapshot(run: LocalRun) -> Snapshot:
    """Look once; takes milliseconds, and as long as two seconds for a worker that hangs."""
    loop = asyncio.get_running_loop()
    begin, served = loop.time(), list(run.served)
    statuses = await asyncio.gather(
        *(asyncio.to_thread(_worker_status, run.worker_address(stand.profile_dir)) for stand in served)
    )
    profiles, latest = [], []
    for stand, status in zip(served, statuses, strict=True):
        counts, newest = await asyncio.to_thread(_ledger_counts, run.folder.ledger(stand.profile_dir))
        latest += newest
        profiles.append(
            ProfileStatus(
                profile_dir=stand.profile_dir,
                topic=next(iter(status.get("partitions", [])), "").rpartition("/")[0],
                mode=str(status.get("mode", "")),
                problems=tuple(status.get("problems", ["the worker does not answer"])),
                lag=status.get("lag"),
                letters=counts,
                templates=len(stand.templates),
                held_back=stand.held_back,
                rejected=int(status.get("letters", {}).get("dead_letters", 0)),
                last_rejection=str(status.get("last_refusal") or ""),
            )
        )
    latest.sort(key=lambda letter: letter.received, reverse=True)
    return Snapshot(loop.time(), tuple(profiles), tuple(latest[:LATEST]), loop.time() - begin)


def letter_totals(run: LocalRun) -> Counter[str]:
    """Letters of all profiles by state, from the ledgers alone: the programs may have ended."""
    total: Counter[str] = Counter()
    for stand in run.served:
        total.update(_ledger_counts(run.folder.ledger(stand.profile_dir))[0])
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
    except sqlite3.Error:  # being created at this very moment; the next look sees it
        return {}, []


STATE_COLOURS = {
    "claimed": "cyan",
    "sending": "cyan",
    "accepted": "green",
    "delivered": "green",
    "captured": "green",
    "scheduled": "blue",
    "deferred": "yellow",
    "in_doubt": "yellow",
    "suppressed": "dim",
    "expired": "dim",
    "failed": "red",
    "render_failed": "red",
    "bounced": "red",
}
"""Every state of the ledger and its colour, in the order of a letter's life."""
NOT_KNOWN = "–"
SHOWN_FINDINGS = 6
SHOWN_NOTES = 4


@dataclass(frozen=True, slots=True)
class StatusPage:
    """Everything that is shown at one moment."""

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
    """A command that tells every finding."""


@dataclass(frozen=True, slots=True)
class _FittedPage:
    """A page on a terminal of some size."""

    page: StatusPage

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown, left = SHOWN_FINDINGS + 1, -1
        while left < 0 and shown > 1:  # with fewer findings, until the way out is in sight
            shown -= 1
            head = Group(*_head(self.page, shown, options.max_width))
            left = options.max_height - len(console.render_lines(head, options, pad=False)) - 1
        yield from _head(self.page, shown, options.max_width)
        if self.page.snapshot.latest and left > 0:
            yield Text()
            yield _letter_table(self.page.snapshot.latest[:left])


def draw_page(page: StatusPage) -> RenderableType:
    """The whole page."""
    return _FittedPage(page)


def _head(page: StatusPage, findings: int, width: int) -> Iterator[RenderableType]:
    """Everything but the letters."""
    yield _addresses(page.addresses)
    yield Text()
    yield _profile_table(page.snapshot.profiles, page.rates)
    if trouble := _problem_lines(page, findings):
        yield Text()
        yield from trouble
    if not page.snapshot.latest:
        yield Text()
        yield Text("No letter yet. In another terminal:", style="dim")
        yield Text(wrap_command(page.example, width), no_wrap=True, overflow="ignore")
    yield Text()
    yield Text("Ctrl-C ends it. Letters and inbox stay in the data folder.", style="dim")


def _addresses(places: Iterable[tuple[str, str]]) -> RenderableType:
    table = _plain_table()
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, address in places:
        table.add_row(name, Text(address, style="bold" if address.startswith("http") else ""))
    return table


def _profile_table(profiles: Sequence[ProfileStatus], rates: Mapping[str, float]) -> RenderableType:
    if not profiles:
        return Text("No SmtpProfile yet: add one to the manifests.", style="yellow")
    table = _plain_table(show_header=True)
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
    """How many events wait, where every worker can tell."""
    lags = [profile.lag for profile in profiles if profile.lag is not None]
    return f"{sum(lags):,}" if len(lags) == len(profiles) else NOT_KNOWN


def letters_by_state(counts: Iterable[tuple[str, int]]) -> Text:
    """`14 captured, 1 deferred`, in the order of a letter's life."""
    found = dict(counts)
    parts = [
        Text(f"{found[state]:,} {state}", style=colour)
        for state, colour in STATE_COLOURS.items()
        if found.get(state)
    ]
    return Text(", ").join(parts) if parts else Text("none yet", style="dim")


def _letter_table(letters: Sequence[LetterView]) -> RenderableType:
    table = _plain_table()
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
    """That records were refused: how many since the worker began, where they are, why the last one was."""
    records = "1 record is" if profile.rejected == 1 else f"{profile.rejected:,} records are"
    where = dead_letter_topic(profile.topic) if profile.topic else "the dead-letter topic"
    why = f"; the last one: {profile.last_rejection}" if profile.last_rejection else ""
    return f"{profile.profile_dir}: {records} refused, on {where}{why}"


def _plain_table(*, show_header: bool = False) -> Table:
    return Table(
        box=None,
        show_header=show_header,
        header_style="dim",
        padding=(0, 2, 0, 0),
        pad_edge=False,
        expand=False,
    )


REFRESH_SECONDS = 1.0
LINE_SECONDS = 5.0
"""Plain lines about letters are at least this far apart."""
RATE_SNAPSHOTS = 6
"""Looks over which the rate is taken."""
UNFINISHED_STATES = frozenset({"claimed", "sending", "scheduled"})


class Notes:
    """Lines about the run: printed as they come, or kept for the live page."""

    def __init__(self, console: Console) -> None:
        self.lines: deque[str] = deque(maxlen=50)
        self._console = console
        self._live = False

    def __call__(self, line: str) -> None:
        """Take a line; safe from any thread."""
        self.lines.append(line)
        if not self._live:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def finding(self, line: str) -> None:
        """Take a finding: a live page shows it by itself as long as it stands."""
        if not self._live:
            self(line)

    @contextmanager
    def page_shown(self) -> Iterator[None]:
        """Only keep lines: a page shows them."""
        self._live = True
        self.lines.clear()
        try:
            yield
        finally:
            self._live = False


class Rates:
    """Letters per second of each profile, over the last few looks."""

    def __init__(self) -> None:
        self._seen: deque[Snapshot] = deque(maxlen=RATE_SNAPSHOTS)

    def update(self, snapshot: Snapshot) -> dict[str, float]:
        """The rates up to this look, by profile."""
        self._seen.append(snapshot)
        first = self._seen[0]
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
    """The addresses a person needs."""
    return [
        ("inbox", run.inbox),
        *([("studio", run.studio_address)] if run.studio_address else []),
        ("gateway", f"{run.gateway}/v1/messages"),
        ("Kafka", run.bootstrap),
        *(
            (f"worker {stand.profile_dir}", f"{run.worker_address(stand.profile_dir)}/statusz")
            for stand in run.served
        ),
        ("manifests", str(run.options.manifests)),
        ("data", str(run.options.data)),
    ]


def example_command(run: LocalRun) -> str:
    """A command that sends a letter of one of the live templates, ready to be copied."""
    sources = (item for item in run.manifest_set.objects if isinstance(item, EmailTemplate))
    commands = [line for source in sources if (line := _send_command(source, run.options.data))]
    return min(commands, key=len, default=command_line("send", "--help"))


def _send_command(source: EmailTemplate, data: Path) -> str | None:
    """The first sample's required variables on a command line; None when they are no plain texts."""
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
    told = ""
    rejected: dict[str, int] = {}
    while not stopping.is_set():
        snapshot = await take_snapshot(run)
        line = f"letters: {letters_by_state(snapshot.letters.items())}; lag {total_lag(snapshot.profiles)}"
        if line != told:
            console.print(line, highlight=False, soft_wrap=True)
            told = line
        for profile in snapshot.profiles:
            if profile.rejected > rejected.get(profile.profile_dir, 0):
                console.print(rejected_records(profile), highlight=False, markup=False, soft_wrap=True)
            rejected[profile.profile_dir] = profile.rejected
        await _wait(stopping, max(LINE_SECONDS, _refresh_delay(snapshot)))


def _refresh_delay(snapshot: Snapshot) -> float:
    """How long to look away: a large ledger takes long to count, and looking may not become its main work."""
    return max(REFRESH_SECONDS, snapshot.duration * 10)


async def _wait(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
