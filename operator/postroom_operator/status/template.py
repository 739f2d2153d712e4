"""The status of an EmailTemplate: where it stands, and how many workers have its newest revision.

Standing and the workers' reports in; conditions Compiled, ProfileResolved and Ready, revision, sizes,
samples, warnings and problems out. Workers are counted while a new revision is on its way to them, and where
there were none at first once one has it; not afterwards: a worker that starts anew must not touch every one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from postroom.letter.problems import Problem
from postroom_operator.facts import Report, Sample, Standing
from postroom_operator.status.conditions import Found, blame, conditions, generation, listed, said
from postroom_operator.status.ready import ready_of

ROLLING_OUT = "RollingOut"
SAMPLES = 64


def template_status(standing: Standing, reports: Sequence[Report], now: datetime) -> dict[str, Any]:
    """The template's next status. `reports` are of the workers that answered."""
    manifest = standing.manifest
    before = manifest.get("status") or {}
    if _stands(standing, before):
        return dict(before)
    workers = _workers(standing, reports, before)
    found = _found(standing, workers)
    samples = _samples(standing)
    return said(
        {
            "observedGeneration": generation(manifest),
            "conditions": conditions(found, manifest, now),
            "revision": standing.serving.revision if standing.serving else "",
            "sizes": _sizes(standing.proved.samples),
            "samples": samples[:SAMPLES],
            "problems": listed(standing.problems),
            "warnings": listed(standing.proved.warnings),
        }
    ) | dict(zip(("workersCurrent", "workersTotal"), workers or (), strict=False))


def is_rolling_out(status: Mapping[str, Any]) -> bool:
    """Whether some worker does not have the newest revision yet, so that it is worth asking again soon."""
    return bool(ready_of(status).get("reason") == ROLLING_OUT)


def _stands(standing: Standing, before: Mapping[str, Any]) -> bool:
    """Whether what was proved is proved again: an operator that has just started begins anew."""
    serving = standing.serving.revision if standing.serving else ""
    return (
        standing.proved.under_way
        and before.get("observedGeneration") == generation(standing.manifest)
        and before.get("revision", "") == serving
    )


def _workers(
    standing: Standing, reports: Sequence[Report], before: Mapping[str, Any]
) -> tuple[int, int] | None:
    """How many workers have the revision, of how many; as it was once the roll-out is done.

    None while nobody has answered: none of none would say that nobody serves.
    """
    if standing.serving is None:
        return None
    name, revision = standing.manifest["metadata"]["name"], standing.serving.revision
    current = sum(report.templates.get(name) == revision for report in reports)
    if before.get("revision") != revision or is_rolling_out(before):
        return (current, len(reports)) if reports else None
    if before.get("workersTotal"):
        return before.get("workersCurrent", 0), before["workersTotal"]
    # those that start answer before they have read a template: that is no roll-out
    return (current, len(reports)) if current else None


def _found(standing: Standing, workers: tuple[int, int] | None) -> list[Found]:
    compiled, resolved = _compiled(standing), _resolved(standing)
    return [compiled, resolved, _ready(standing, (compiled, resolved), workers)]


def _compiled(standing: Standing) -> Found:
    proved = standing.proved
    if proved.problems:
        return blame("Compiled", proved.problems)
    if proved.compiled is None:
        return Found("Compiled", None, "Proving", "the proof is under way")
    return Found("Compiled", True, "Proved", f"revision {proved.compiled.revision}")


def _resolved(standing: Standing) -> Found:
    profile = standing.manifest["spec"]["smtpProfileRef"]["name"]
    outside = [each for each in standing.problems if each not in standing.proved.problems]
    if outside:
        return blame("ProfileResolved", outside)
    if standing.proved.compiled and standing.serving != standing.proved.compiled:
        message = f"SmtpProfile {profile} is not valid itself, or not applied; its own status says why"
        return Found("ProfileResolved", False, "ProfileInvalid", message)
    return Found("ProfileResolved", True, "Resolved", f"SmtpProfile {profile}")


def _ready(standing: Standing, parts: tuple[Found, Found], workers: tuple[int, int] | None) -> Found:
    serving = standing.serving
    broken = next((each for each in parts if each.ok is not True), None)
    if broken:
        meanwhile = f"; revision {serving.revision} serves on" if serving else ""
        if broken.ok is False and standing.problems:
            return blame("Ready", standing.problems, meanwhile)
        return Found("Ready", broken.ok, broken.reason, broken.message + meanwhile)
    assert serving is not None  # it is the newest, or ProfileResolved would be false
    if serving.suspend:
        message = "spec.suspend is set: letters of this template wait until it is lifted"
        return Found("Ready", False, "Suspended", message)
    if workers and workers[0] < workers[1]:
        message = f"{workers[0]} of {workers[1]} workers write with revision {serving.revision}"
        return Found("Ready", False, ROLLING_OUT, message)
    return Found("Ready", True, "Serving", f"letters are written with revision {serving.revision}")


def _sizes(samples: Sequence[Sample]) -> dict[str, int]:
    if not samples:
        return {}
    return {
        "htmlBytes": max(sample.html_bytes for sample in samples),
        "textBytes": max(sample.text_bytes for sample in samples),
    }


def _samples(standing: Standing) -> list[dict[str, Any]]:
    """One line a sample: its largest letter, or why it could not be written."""
    lines: dict[str, dict[str, Any]] = {}
    for sample in sorted(standing.proved.samples, key=lambda each: -each.html_bytes):
        lines.setdefault(sample.name, _rendered(sample))
    names = [each["name"] for each in standing.manifest["spec"].get("samples", [])]
    for name in names:
        if problem := _failure(name, standing.proved.problems):
            lines[name] = {"name": name, "result": "Failed", "message": listed([problem])[0]["message"]}
    return [lines[name] for name in dict.fromkeys(names) if name in lines]


def _rendered(sample: Sample) -> dict[str, Any]:
    return {
        "name": sample.name,
        "result": "Rendered",
        "locale": sample.locale,
        "htmlBytes": sample.html_bytes,
        "textBytes": sample.text_bytes,
    }


def _failure(name: str, problems: Sequence[Problem]) -> Problem | None:
    """The proof names the sample at the beginning of what it says."""
    return next((each for each in problems if each.message.startswith(f"sample `{name}`: ")), None)
