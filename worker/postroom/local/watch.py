"""Follow a folder of manifests: an edit is proved and served within a second, a bad one is shown.

Input: a `Run`. Output: the run's workers serve what the folder says. A bad edit changes nothing that is
live; its findings are told once and stand on the page until they are mended.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from watchfiles import Change, awatch

from postroom.local.manifests import SUFFIXES, Finding, Reading, read_folder
from postroom.local.supervise import Tell
from postroom.local.trouble import Trouble
from postroom.local.up import Run

DEBOUNCE_MS = 200
"""Editors write a file in several steps."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears what an edit came to: `tell` of news, `finding` of what is wrong."""

    tell: Tell
    finding: Tell


async def follow(run: Run, listener: Listener, stopping: asyncio.Event) -> None:
    """Apply every edit until `stopping` is set."""
    folder = run.wishes.manifests
    edits = awatch(folder, watch_filter=_is_manifest, debounce=DEBOUNCE_MS, step=50, stop_event=stopping)
    try:
        async for changes in edits:
            await take(run, listener, _names(folder, changes))
    except (OSError, RuntimeError) as error:  # the system's watcher gave up, as when the folder was removed
        listener.tell(f"{folder} is not followed any more ({error}); start again to follow it")


async def take(run: Run, listener: Listener, what: str) -> None:
    """Read the folder again and serve what passes; `what` names the files that changed."""
    before = run.reading
    try:
        reading = await asyncio.to_thread(read_folder, run.wishes.manifests)
        await run.apply(reading)
    except Trouble as trouble:
        listener.tell(f"{what}: {trouble.what}")
        return
    except OSError as error:
        listener.tell(f"{what}: not served, {error}")
        return
    for finding in reading.errors:
        if finding not in before.errors:
            listener.finding(str(finding))
    if news := _news(before, reading):
        listener.tell(f"{what}: {news}")


def _news(before: Reading, now: Reading) -> str:
    """What an edit came to, when it is more than new findings."""
    old = {key: proof.compiled for key, proof in before.verdict.proofs.items()}
    changed = [
        f"{key.name}@{proof.compiled.revision}"
        for key, proof in now.verdict.proofs.items()
        if proof.compiled and old.get(key) != proof.compiled
    ]
    if changed:
        return f"now serves {', '.join(sorted(changed))}"
    if len(now.errors) < len(before.errors):
        return "mended" if not now.errors else f"{_count(now.errors)} left"
    return ""


def _count(findings: Iterable[Finding]) -> str:
    number = len(list(findings))
    return "1 problem" if number == 1 else f"{number} problems"


def _is_manifest(_: Change, path: str) -> bool:
    file = Path(path)
    return file.suffix in SUFFIXES and not file.name.startswith(".")


def _names(folder: Path, changes: Iterable[tuple[Change, str]]) -> str:
    names = sorted({Path(path).name for _, path in changes})
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown or folder.name
