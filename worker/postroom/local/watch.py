"""Watch a folder of manifests: validate and serve each edit within a second, report invalid edits.

Input: a `LocalRun`. Output: the run's workers serve the folder's current content. An invalid edit changes
nothing that is live; its findings are reported once and stay on the page until they are fixed. Files that a
manifest names (`htmlFile`) are watched too. Editors and git remove files and write them again, so a removal
takes effect only after `MISSING_SECONDS`; then each stopped profile and template is reported with the reason.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from watchfiles import Change, awatch

from postroom.letter.references import ObjectKey
from postroom.local.broker import Notify
from postroom.local.bundles import ServedProfile
from postroom.local.errors import UserError
from postroom.local.manifests import SUFFIXES, Finding, ManifestSet
from postroom.local.up import LocalRun

DEBOUNCE_MS = 200
"""Maximum time to collect changes: editors write a file in several steps."""
STEP_MS = 20
"""Collected changes are applied after this time without another change; a save shows within 300 ms."""
MISSING_SECONDS = 1.5
"""A file that is missing for longer counts as removed."""


@dataclass(frozen=True, slots=True)
class EditListener:
    """Receives the results of edits: `notify` takes messages, `finding` takes new findings."""

    notify: Notify
    finding: Notify


async def watch_manifests(run: LocalRun, listener: EditListener, stopping: asyncio.Event) -> None:
    """Apply every edit until `stopping` is set."""
    folder = run.options.manifests

    def is_relevant(_: Change, path: str) -> bool:
        return _is_manifest(path) or not run.manifest_set.referenced_files.isdisjoint(
            (Path(path), Path(path).resolve())
        )

    edits = awatch(folder, watch_filter=is_relevant, debounce=DEBOUNCE_MS, step=STEP_MS, stop_event=stopping)
    try:
        async for changes in edits:
            if _has_missing_file(changes):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), MISSING_SECONDS)
                    return
            await apply_edit(run, listener, _names(folder, changes))
    except (
        OSError,
        RuntimeError,
    ) as error:  # also when the folder was removed
        listener.notify(f"watching {folder} failed ({error}); restart `postroom up` to watch it again")


async def apply_edit(run: LocalRun, listener: EditListener, changed: str) -> None:
    """Read the folder again and serve what passes; `changed` names the changed files."""
    before, served_before = run.manifest_set, list(run.served)
    try:
        manifest_set = await run.reread()
        await run.apply(manifest_set)
    except UserError as error:
        listener.notify(f"{changed}: {error.problem}")
        return
    except OSError as error:
        listener.notify(f"{changed}: not served: {error}")
        return
    for finding in manifest_set.errors:
        if finding not in before.errors:
            listener.finding(str(finding))
    for line in withdrawn(before, served_before, run.served):
        listener.notify(line)
    if summary := _change_summary(before, manifest_set):
        listener.notify(f"{changed}: {summary}")


def _has_missing_file(changes: Iterable[tuple[Change, str]]) -> bool:
    """Whether a file is missing or empty: an editor truncates a file before it writes it."""
    return any(_is_missing(Path(path)) for _, path in changes)


def _is_missing(file: Path) -> bool:
    try:
        return file.stat().st_size == 0
    except OSError:
        return True


def withdrawn(
    before: ManifestSet, served_before: Iterable[ServedProfile], served: Iterable[ServedProfile]
) -> Iterator[str]:
    """Return a line for each profile and template that is no longer served, with the reason."""
    profile_dirs = {profile.profile_dir for profile in served}
    live = {(template.namespace, template.name) for profile in served for template in profile.templates}
    for profile in served_before:
        metadata = profile.manifest.metadata
        if profile.profile_dir not in profile_dirs:
            why = _missing_reason(before, ObjectKey("SmtpProfile", metadata.namespace, metadata.name))
            count = len(profile.templates)
            templates = "1 template" if count == 1 else f"{count} templates"
            stopped = f"profile {profile.profile_dir} stopped with its {templates}"
            yield f"{stopped}: {why}; its letters stay on the topic"
            continue
        for template in profile.templates:
            if (template.namespace, template.name) not in live:  # otherwise it moved to another profile
                why = _missing_reason(before, ObjectKey("EmailTemplate", template.namespace, template.name))
                yield f"template {template.name} stopped: {why}"


def _missing_reason(before: ManifestSet, key: ObjectKey) -> str:
    file = before.places.get(key)
    if file is None:
        return "no file declares it"
    return f"{file} no longer declares it" if Path(file).exists() else f"{file} was removed"


def _change_summary(before: ManifestSet, now: ManifestSet) -> str:
    """Summarize what an edit changed besides new findings; empty when nothing did."""
    old = {key: result.compiled for key, result in before.validation.results.items()}
    changed = [
        f"{key.name}@{result.compiled.revision}"
        for key, result in now.validation.results.items()
        if result.compiled and old.get(key) != result.compiled
    ]
    if changed:
        return f"now serves {', '.join(sorted(changed))}"
    if len(now.errors) < len(before.errors):
        return "fixed" if not now.errors else f"{_count(now.errors)} left"
    return ""


def _count(findings: Iterable[Finding]) -> str:
    number = len(list(findings))
    return "1 problem" if number == 1 else f"{number} problems"


def _is_manifest(path: str) -> bool:
    """Whether a path is a manifest or a folder; a moved folder is reported by its own name alone."""
    file = Path(path)
    return file.suffix in SUFFIXES | {""} and not file.name.startswith(".")


def _names(folder: Path, changes: Iterable[tuple[Change, str]]) -> str:
    names = sorted({Path(path).name for _, path in changes})
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown or folder.name
