"""Follow a folder of manifests: an edit is proved and served within a second, a bad one is shown.

A file that vanishes may be back in a moment (editors and git move files away and write them anew), so
nothing stops before it has stayed away for `AWAY_SECONDS`; then what stopped is told, and why.

Input: a `Run`. Output: the run's workers serve what the folder says. A bad edit changes nothing that is
live; its findings are told once and stand on the page until they are mended. Files that a manifest names
(`htmlFile`) are followed as the manifests are.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from watchfiles import Change, awatch

from postroom.letter.references import ObjectKey
from postroom.local.bundles import ServedProfile
from postroom.local.errors import UserError
from postroom.local.manifests import SUFFIXES, Finding, ManifestSet
from postroom.local.supervisor import Notify
from postroom.local.up import LocalRun

DEBOUNCE_MS = 200
"""How long changes are gathered at most: editors write a file in several steps."""
STEP_MS = 20
"""Without another change for so long, what was gathered is taken: a save is to show within 300 ms."""
MISSING_SECONDS = 1.5
"""A file that is away for longer is gone."""


@dataclass(frozen=True, slots=True)
class EditListener:
    """Who hears what an edit came to: `tell` of news, `finding` of what is wrong."""

    notify: Notify
    finding: Notify


async def watch_manifests(run: LocalRun, listener: EditListener, stopping: asyncio.Event) -> None:
    """Apply every edit until `stopping` is set."""
    folder = run.options.manifests

    def concerns(_: Change, path: str) -> bool:
        return _is_manifest(path) or not run.manifest_set.referenced_files.isdisjoint(
            (Path(path), Path(path).resolve())
        )

    edits = awatch(folder, watch_filter=concerns, debounce=DEBOUNCE_MS, step=STEP_MS, stop_event=stopping)
    try:
        async for changes in edits:
            if _has_missing_file(changes):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), MISSING_SECONDS)
                    return
            await apply_edit(run, listener, _names(folder, changes))
    except (OSError, RuntimeError) as error:  # the system's watcher gave up, as when the folder was removed
        listener.notify(f"{folder} is not followed any more ({error}); start again to follow it")


async def apply_edit(run: LocalRun, listener: EditListener, what: str) -> None:
    """Read the folder again and serve what passes; `what` names the files that changed."""
    before, stood = run.manifest_set, list(run.served)
    try:
        manifest_set = await run.reread()
        await run.apply(manifest_set)
    except UserError as trouble:
        listener.notify(f"{what}: {trouble.problem}")
        return
    except OSError as error:
        listener.notify(f"{what}: not served, {error}")
        return
    for finding in manifest_set.errors:
        if finding not in before.errors:
            listener.finding(str(finding))
    for line in withdrawn(before, stood, run.served):
        listener.notify(line)
    if news := _change_summary(before, manifest_set):
        listener.notify(f"{what}: {news}")


def _has_missing_file(changes: Iterable[tuple[Change, str]]) -> bool:
    """Whether a file is away, or empty: an editor that truncates a file writes it in the next moment."""
    return any(_is_missing(Path(path)) for _, path in changes)


def _is_missing(file: Path) -> bool:
    try:
        return file.stat().st_size == 0
    except OSError:
        return True


def withdrawn(
    before: ManifestSet, stood: Iterable[ServedProfile], served: Iterable[ServedProfile]
) -> Iterator[str]:
    """What is served no more, and why: its file is gone, or does not declare it any more."""
    homes = {stand.profile_dir for stand in served}
    live = {(each.namespace, each.name) for stand in served for each in stand.templates}
    for stand in stood:
        metadata = stand.profile.metadata
        if stand.profile_dir not in homes:
            why = _missing_reason(before, ObjectKey("SmtpProfile", metadata.namespace, metadata.name))
            count = len(stand.templates)
            templates = "1 template" if count == 1 else f"{count} templates"
            yield f"profile {stand.profile_dir} stopped with its {templates}: {why}; letters stay on topic"
            continue
        for each in stand.templates:
            if (each.namespace, each.name) not in live:  # else it has moved to another profile
                why = _missing_reason(before, ObjectKey("EmailTemplate", each.namespace, each.name))
                yield f"template {each.name} stopped: {why}"


def _missing_reason(before: ManifestSet, key: ObjectKey) -> str:
    file = before.places.get(key)
    if file is None:
        return "no file declares it any more"
    return f"{file} does not declare it any more" if Path(file).exists() else f"{file} is gone"


def _change_summary(before: ManifestSet, now: ManifestSet) -> str:
    """What an edit came to, when it is more than new findings."""
    old = {key: proof.compiled for key, proof in before.validation.results.items()}
    changed = [
        f"{key.name}@{proof.compiled.revision}"
        for key, proof in now.validation.results.items()
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


def _is_manifest(path: str) -> bool:
    """A manifest, or a folder: of one that is moved only the folder's own name is told."""
    file = Path(path)
    return file.suffix in SUFFIXES | {""} and not file.name.startswith(".")


def _names(folder: Path, changes: Iterable[tuple[Change, str]]) -> str:
    names = sorted({Path(path).name for _, path in changes})
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown or folder.name
