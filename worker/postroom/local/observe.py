"""Look at a run from outside: how its programs are, what became of its letters.

Input: a `Run`. Output: a `Snapshot` for the live view. The workers tell through /statusz, the ledgers are
read through read-only connections. Nothing here can disturb a run; what does not answer is shown as such.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postroom.adapters.ledger.reader import LedgerReader, LetterView
from postroom.local import client
from postroom.local.up import Run

LATEST = 40
"""Letters that are looked at for the list."""


@dataclass(frozen=True, slots=True)
class ProfileView:
    """One profile's worker and letters."""

    home: str
    topic: str
    mode: str
    """What takes effect; empty where the worker does not answer."""
    problems: tuple[str, ...]
    lag: int | None
    letters: Mapping[str, int]
    templates: int
    held: tuple[str, ...] = ()
    refused: int = 0
    """Records since the worker began that are no events."""
    last_refusal: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment."""

    at: float
    """Seconds of the event loop's clock."""
    profiles: tuple[ProfileView, ...] = ()
    latest: tuple[LetterView, ...] = ()
    took: float = 0.0
    """Seconds that the look took."""

    @property
    def letters(self) -> Counter[str]:
        """Letters of all profiles by state."""
        total: Counter[str] = Counter()
        for profile in self.profiles:
            total.update(profile.letters)
        return total


async def observe(run: Run) -> Snapshot:
    """Look once; takes milliseconds, and as long as two seconds for a worker that hangs."""
    loop = asyncio.get_running_loop()
    begin, stands = loop.time(), list(run.stands)
    statuses = await asyncio.gather(
        *(asyncio.to_thread(_status, run.worker_address(stand.home)) for stand in stands)
    )
    profiles, latest = [], []
    for stand, status in zip(stands, statuses, strict=True):
        counts, newest = await asyncio.to_thread(_ledger, run.folder.ledger(stand.home))
        latest += newest
        profiles.append(
            ProfileView(
                home=stand.home,
                topic=next(iter(status.get("partitions", [])), "").rpartition("/")[0],
                mode=str(status.get("mode", "")),
                problems=tuple(status.get("problems", ["the worker does not answer"])),
                lag=status.get("lag"),
                letters=counts,
                templates=len(stand.templates),
                held=stand.held,
                refused=int(status.get("letters", {}).get("dead_letters", 0)),
                last_refusal=str(status.get("last_refusal") or ""),
            )
        )
    latest.sort(key=lambda letter: letter.received, reverse=True)
    return Snapshot(loop.time(), tuple(profiles), tuple(latest[:LATEST]), loop.time() - begin)


def totals(run: Run) -> Counter[str]:
    """Letters of all profiles by state, from the ledgers alone: the programs may have ended."""
    total: Counter[str] = Counter()
    for stand in run.stands:
        total.update(_ledger(run.folder.ledger(stand.home))[0])
    return total


def _status(address: str) -> dict[str, Any]:
    try:
        answer = client.get(f"{address}/statusz", timeout=2)
    except client.Unanswered:
        return {}
    return answer.body if answer.ok and isinstance(answer.body, dict) else {}


def _ledger(path: Path) -> tuple[dict[str, int], list[LetterView]]:
    if not path.exists():
        return {}, []
    try:
        with LedgerReader(path) as ledger:
            return ledger.counts(), list(ledger.latest(LATEST))
    except sqlite3.Error:  # being created at this very moment; the next look sees it
        return {}, []
