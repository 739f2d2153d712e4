"""Show a run until it is asked to end: a live page on a terminal, plain lines anywhere else.

Input: a `Run` and the console. Output: what a person sees. Lines that programs tell (`Notes`) are kept for
the page, and printed at once where there is none.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live

from postroom.letter.template import EmailTemplate
from postroom.local.commands import command
from postroom.local.observe import ProfileView, Snapshot, observe
from postroom.local.up import Run
from postroom.local.view import Page, draw, letters_by_state, refusals, waiting

LOOK_SECONDS = 1.0
QUIET_SECONDS = 5.0
"""Plain lines about letters are at least this far apart."""
WINDOW = 6
"""Looks over which the rate is taken."""
UNDER_WAY = frozenset({"claimed", "dotting", "scheduled"})


class Notes:
    """Lines about the run: printed as they come, or kept for the live page."""

    def __init__(self, console: Console) -> None:
        self.kept: deque[str] = deque(maxlen=50)
        self._console = console
        self._live = False

    def __call__(self, line: str) -> None:
        """Take a line; safe from any thread."""
        self.kept.append(line)
        if not self._live:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def finding(self, line: str) -> None:
        """Take a finding: a live page shows it by itself as long as it stands."""
        if not self._live:
            self(line)

    @contextmanager
    def behind_a_page(self) -> Iterator[None]:
        """Only keep lines: a page shows them."""
        self._live = True
        self.kept.clear()
        try:
            yield
        finally:
            self._live = False


class Rates:
    """Letters per second of each profile, over the last few looks."""

    def __init__(self) -> None:
        self._seen: deque[Snapshot] = deque(maxlen=WINDOW)

    def of(self, snapshot: Snapshot) -> dict[str, float]:
        """The rates up to this look, by profile."""
        self._seen.append(snapshot)
        first = self._seen[0]
        seconds = snapshot.at - first.at
        before = {profile.home: _done(profile) for profile in first.profiles}
        return {
            profile.home: max(0.0, (_done(profile) - before.get(profile.home, 0)) / seconds)
            if seconds
            else 0.0
            for profile in snapshot.profiles
        }


def _done(profile: ProfileView) -> int:
    return sum(count for state, count in profile.letters.items() if state not in UNDER_WAY)


def places(run: Run) -> list[tuple[str, str]]:
    """The addresses a person needs."""
    return [
        ("inbox", run.inbox),
        *([("studio", run.studio_address)] if run.studio_address else []),
        ("gateway", f"{run.gateway}/v1/messages"),
        ("Kafka", run.bootstrap),
        *((f"worker {stand.home}", f"{run.worker_address(stand.home)}/statusz") for stand in run.stands),
        ("manifests", str(run.wishes.manifests)),
        ("data", str(run.wishes.data)),
    ]


def example(run: Run) -> str:
    """A command that sends a letter of one of the live templates, ready to be copied."""
    sources = (item for item in run.reading.objects if isinstance(item, EmailTemplate))
    commands = [line for source in sources if (line := _command(source, run.wishes.data))]
    return min(commands, key=len, default=command("send", "--help"))


def _command(source: EmailTemplate, data: Path) -> str | None:
    """The first sample's required variables on a command line; None when they are no plain texts."""
    sample = source.spec.samples[0].data
    needed = {name: sample.get(name) for name in source.spec.variables.get("required", [])}
    if not all(isinstance(value, str) for value in needed.values()):
        return None
    pairs = (f"{name}={value}" for name, value in needed.items())
    return command("send", source.spec.event_types[0], "--to", "mira@example.com", *pairs, data=data)


async def show(run: Run, console: Console, notes: Notes, stopping: asyncio.Event) -> None:
    """Show the run until `stopping` is set."""
    if console.is_terminal:
        await _show_page(run, console, notes, stopping)
    else:
        await _print_lines(run, console, stopping)


async def _show_page(run: Run, console: Console, notes: Notes, stopping: asyncio.Event) -> None:
    rates = Rates()
    with notes.behind_a_page(), Live(console=console, auto_refresh=False, transient=True) as live:
        while not stopping.is_set():
            snapshot = await observe(run)
            page = Page(
                places(run),
                snapshot,
                rates.of(snapshot),
                example=example(run),
                findings=run.reading.findings,
                notes=tuple(notes.kept),
                check=command("check", str(run.wishes.manifests)),
            )
            live.update(draw(page), refresh=True)
            await _pause(stopping, _rest(snapshot))


async def _print_lines(run: Run, console: Console, stopping: asyncio.Event) -> None:
    width = max(10, *(len(name) for name, _ in places(run)))
    for name, address in places(run):
        console.print(f"{name:<{width}} {address}", highlight=False, soft_wrap=True)
    told = ""
    refused: dict[str, int] = {}
    while not stopping.is_set():
        snapshot = await observe(run)
        line = f"letters: {letters_by_state(snapshot.letters.items())}; lag {waiting(snapshot.profiles)}"
        if line != told:
            console.print(line, highlight=False, soft_wrap=True)
            told = line
        for profile in snapshot.profiles:
            if profile.refused > refused.get(profile.home, 0):
                console.print(refusals(profile), highlight=False, markup=False, soft_wrap=True)
            refused[profile.home] = profile.refused
        await _pause(stopping, max(QUIET_SECONDS, _rest(snapshot)))


def _rest(snapshot: Snapshot) -> float:
    """How long to look away: a large ledger takes long to count, and looking may not become its main work."""
    return max(LOOK_SECONDS, snapshot.took * 10)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
