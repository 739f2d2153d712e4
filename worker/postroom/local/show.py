"""Show a run until it is asked to end: a live page on a terminal, plain lines anywhere else.

Input: a `Run` and the console. Output: what a person sees. Lines that programs tell (`Notes`) are kept for
the page, and printed at once where there is none.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.padding import Padding

from postroom.local.observe import Snapshot, observe
from postroom.local.up import Run
from postroom.local.view import Page, draw, letters_by_state

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

    @contextmanager
    def behind_a_page(self) -> Iterator[None]:
        """Only keep lines: a page shows them."""
        self._live = True
        self.kept.clear()
        try:
            yield
        finally:
            self._live = False


class Rate:
    """Letters per second over the last few looks."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=WINDOW)

    def of(self, snapshot: Snapshot) -> float:
        """The rate up to this look."""
        done = sum(count for state, count in snapshot.letters.items() if state not in UNDER_WAY)
        self._seen.append((snapshot.at, done))
        (begin, first), (end, last) = self._seen[0], self._seen[-1]
        return max(0.0, (last - first) / (end - begin)) if end > begin else 0.0


def places(run: Run) -> list[tuple[str, str]]:
    """The addresses a person needs."""
    return [
        ("inbox", run.inbox),
        ("gateway", f"{run.gateway}/v1/messages"),
        ("Kafka", run.bootstrap),
        ("manifests", str(run.wishes.manifests)),
        ("data", str(run.wishes.data)),
    ]


async def show(run: Run, console: Console, notes: Notes, stopping: asyncio.Event) -> None:
    """Show the run until `stopping` is set."""
    if console.is_terminal:
        await _show_page(run, console, notes, stopping)
    else:
        await _print_lines(run, console, stopping)


async def _show_page(run: Run, console: Console, notes: Notes, stopping: asyncio.Event) -> None:
    rate = Rate()
    with notes.behind_a_page(), Live(console=console, auto_refresh=False, transient=True) as live:
        while not stopping.is_set():
            snapshot = await observe(run)
            page = Page(places(run), snapshot, rate.of(snapshot), run.reading.findings, tuple(notes.kept))
            live.update(Padding(draw(page), (1, 1, 0, 1)), refresh=True)
            await _pause(stopping, LOOK_SECONDS)


async def _print_lines(run: Run, console: Console, stopping: asyncio.Event) -> None:
    for name, address in places(run):
        console.print(f"{name:<10} {address}", highlight=False, soft_wrap=True)
    told = ""
    while not stopping.is_set():
        snapshot = await observe(run)
        lag = sum(profile.lag or 0 for profile in snapshot.profiles)
        line = f"letters: {letters_by_state(snapshot.letters.items())}; lag {lag:,}"
        if line != told:
            console.print(line, highlight=False, soft_wrap=True)
            told = line
        await _pause(stopping, QUIET_SECONDS)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
