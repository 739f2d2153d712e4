"""The status of an EmailTemplate: where it stands, and how many workers have its newest revision.

Standing and the workers' reports in; conditions Compiled, ProfileResolved and Ready, revision, sizes,
samples, warnings and problems out. Workers are counted while a new revision is on its way to them, and where
there were none at first once one has it; not afterwards: a worker that starts anew must not touch every one.

The status of an EmailLayout: whether it can be read, and whether its templates pass with it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from postroom.letter.problems import Problem
from postroom_operator.models import SampleSizes, TemplateState, ValidationResult, WorkerReport
from postroom_operator.status.conditions import (
    ROLLING_OUT,
    StatusCondition,
    build_conditions,
    generation,
    problem_condition,
    problem_entries,
    ready_condition,
    without_empty,
)

SAMPLES = 64


def template_status(
    standing: TemplateState, reports: Sequence[WorkerReport], now: datetime
) -> dict[str, Any]:
    """The template's next status. `reports` are of the workers that answered."""
    manifest = standing.manifest
    before = manifest.get("status") or {}
    if _is_unchanged(standing, before):
        return dict(before)
    workers = _workers(standing, reports, before)
    found = _conditions(standing, workers)
    samples = _samples(standing)
    return without_empty(
        {
            "observedGeneration": generation(manifest),
            "conditions": build_conditions(found, manifest, now),
            "revision": standing.serving.revision if standing.serving else "",
            "sizes": _sizes(standing.validation.samples),
            "samples": samples[:SAMPLES],
            "problems": problem_entries(standing.problems),
            "warnings": problem_entries(standing.validation.warnings),
        }
    ) | dict(zip(("workersCurrent", "workersTotal"), workers or (), strict=False))


def is_rolling_out(status: Mapping[str, Any]) -> bool:
    """Whether some worker does not have the newest revision yet, so that it is worth asking again soon."""
    return bool(ready_condition(status).get("reason") == ROLLING_OUT)


def _is_unchanged(standing: TemplateState, before: Mapping[str, Any]) -> bool:
    """Whether what was proved is proved again: an operator that has just started begins anew."""
    serving = standing.serving.revision if standing.serving else ""
    return (
        standing.validation.in_progress
        and before.get("observedGeneration") == generation(standing.manifest)
        and before.get("revision", "") == serving
    )


def _workers(
    standing: TemplateState, reports: Sequence[WorkerReport], before: Mapping[str, Any]
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


def _conditions(standing: TemplateState, workers: tuple[int, int] | None) -> list[StatusCondition]:
    compiled, resolved = _template_compiled(standing), _resolved(standing)
    return [compiled, resolved, _template_ready(standing, (compiled, resolved), workers)]


def _template_compiled(standing: TemplateState) -> StatusCondition:
    proved = standing.validation
    if proved.problems:
        return problem_condition("Compiled", proved.problems)
    if proved.compiled is None:
        return StatusCondition("Compiled", None, "Validating", "the proof is under way")
    return StatusCondition("Compiled", True, "Valid", f"revision {proved.compiled.revision}")


def _resolved(standing: TemplateState) -> StatusCondition:
    profile = standing.manifest["spec"]["smtpProfileRef"]["name"]
    outside = [each for each in standing.problems if each not in standing.validation.problems]
    if outside:
        return problem_condition("ProfileResolved", outside)
    if standing.validation.compiled and standing.serving != standing.validation.compiled:
        message = f"SmtpProfile {profile} is not valid itself, or not applied; its own status says why"
        return StatusCondition("ProfileResolved", False, "ProfileInvalid", message)
    return StatusCondition("ProfileResolved", True, "Resolved", f"SmtpProfile {profile}")


def _template_ready(
    standing: TemplateState, parts: tuple[StatusCondition, StatusCondition], workers: tuple[int, int] | None
) -> StatusCondition:
    serving = standing.serving
    broken = next((each for each in parts if each.ok is not True), None)
    if broken:
        meanwhile = f"; revision {serving.revision} serves on" if serving else ""
        if broken.ok is False and standing.problems:
            return problem_condition("Ready", standing.problems, meanwhile)
        return StatusCondition("Ready", broken.ok, broken.reason, broken.message + meanwhile)
    assert serving is not None  # it is the newest, or ProfileResolved would be false
    if serving.suspend:
        message = "spec.suspend is set: letters of this template wait until it is lifted"
        return StatusCondition("Ready", False, "Suspended", message)
    if workers and workers[0] < workers[1]:
        message = f"{workers[0]} of {workers[1]} workers write with revision {serving.revision}"
        return StatusCondition("Ready", False, ROLLING_OUT, message)
    return StatusCondition("Ready", True, "Serving", f"letters are written with revision {serving.revision}")


def _sizes(samples: Sequence[SampleSizes]) -> dict[str, int]:
    if not samples:
        return {}
    return {
        "htmlBytes": max(sample.html_bytes for sample in samples),
        "textBytes": max(sample.text_bytes for sample in samples),
    }


def _samples(standing: TemplateState) -> list[dict[str, Any]]:
    """One line a sample: its largest letter, or why it could not be written."""
    lines: dict[str, dict[str, Any]] = {}
    for sample in sorted(standing.validation.samples, key=lambda each: -each.html_bytes):
        lines.setdefault(sample.name, _rendered(sample))
    names = [each["name"] for each in standing.manifest["spec"].get("samples", [])]
    for name in names:
        if problem := _failure(name, standing.validation.problems):
            lines[name] = {
                "name": name,
                "result": "Failed",
                "message": problem_entries([problem])[0]["message"],
            }
    return [lines[name] for name in dict.fromkeys(names) if name in lines]


def _rendered(sample: SampleSizes) -> dict[str, Any]:
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


NAMED = 5
"""So many of the templates that do not pass are named."""


def layout_status(
    manifest: Mapping[str, Any],
    proved: ValidationResult | None,
    templates: int,
    failing: Sequence[str],
    now: datetime,
) -> dict[str, Any]:
    """The layout's next status.

    `proved` None: the proof is under way. `templates` is how many use it; `failing` are those whose newest
    revision does not pass with it, for a problem that is the layout's too and not the template's own.
    """
    before = manifest.get("status") or {}
    if proved is None and before.get("observedGeneration") == generation(manifest):
        return {**before, "templates": templates}
    problems = proved.problems if proved else ()
    compiled = _layout_compiled(proved)
    found = [compiled, _layout_ready(compiled, templates, sorted(failing))]
    return {
        **without_empty(
            {
                "observedGeneration": generation(manifest),
                "conditions": build_conditions(found, manifest, now),
                "problems": problem_entries(problems),
            }
        ),
        "templates": templates,
    }


def _layout_compiled(proved: ValidationResult | None) -> StatusCondition:
    if proved is None:
        return StatusCondition("Compiled", None, "Validating", "the proof is under way")
    if proved.problems:
        return problem_condition("Compiled", proved.problems)
    return StatusCondition("Compiled", True, "Valid")


def _layout_ready(compiled: StatusCondition, templates: int, failing: Sequence[str]) -> StatusCondition:
    if not compiled.ok:
        return compiled.as_type("Ready")
    if failing:
        return StatusCondition("Ready", False, "TemplatesFail", _failing(failing))
    used = "1 template uses it" if templates == 1 else f"{templates} templates use it"
    return StatusCondition("Ready", True, "Valid", used)


def _failing(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} does not pass with it; its own status says why"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more} do not pass with it; their own statuses say why"
