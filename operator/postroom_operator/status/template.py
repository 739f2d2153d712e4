"""The statuses of EmailTemplates and EmailLayouts. Pure; time is an argument.

A template: its state and the workers' reports → the conditions Compiled, ProfileResolved and Ready, revision,
sizes, samples, warnings and problems. Workers are counted during the roll-out of a revision, and where there
were none at first as soon as one has the revision. They are not counted afterwards, so that a worker's
restart does not write the status of every template.

A layout: its validation and the templates that use it → the conditions Compiled and Ready, and problems.
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

MAX_SAMPLES = 64
NAMED_TEMPLATES = 5
"""A layout's condition names this many of the templates that are invalid with it."""


def template_status(state: TemplateState, reports: Sequence[WorkerReport], now: datetime) -> dict[str, Any]:
    """The template's next status. `reports` come from the workers that answered."""
    manifest = state.manifest
    before = manifest.get("status") or {}
    if _is_unchanged(state, before):
        return dict(before)
    workers = _workers(state, reports, before)
    conditions = _conditions(state, workers)
    samples = _samples(state)
    return without_empty(
        {
            "observedGeneration": generation(manifest),
            "conditions": build_conditions(conditions, manifest, now),
            "revision": state.serving.revision if state.serving else "",
            "sizes": _sizes(state.validation.samples),
            "samples": samples[:MAX_SAMPLES],
            "problems": problem_entries(state.problems),
            "warnings": problem_entries(state.validation.warnings),
        }
    ) | dict(zip(("workersCurrent", "workersTotal"), workers or (), strict=False))


def is_rolling_out(status: Mapping[str, Any]) -> bool:
    """Whether a worker does not have the newest revision yet, so that workers should be polled soon."""
    return bool(ready_condition(status).get("reason") == ROLLING_OUT)


def _is_unchanged(state: TemplateState, before: Mapping[str, Any]) -> bool:
    """Whether the same revision is being validated again, as it is after a restart of the operator."""
    serving = state.serving.revision if state.serving else ""
    return (
        state.validation.in_progress
        and before.get("observedGeneration") == generation(state.manifest)
        and before.get("revision", "") == serving
    )


def _workers(
    state: TemplateState, reports: Sequence[WorkerReport], before: Mapping[str, Any]
) -> tuple[int, int] | None:
    """The number of workers that have the revision, and of all; unchanged after the roll-out.

    None while no worker has answered: 0 of 0 would mean that there are no workers.
    """
    if state.serving is None:
        return None
    name, revision = state.manifest["metadata"]["name"], state.serving.revision
    current = sum(report.templates.get(name) == revision for report in reports)
    if before.get("revision") != revision or is_rolling_out(before):
        return (current, len(reports)) if reports else None
    if before.get("workersTotal"):
        return before.get("workersCurrent", 0), before["workersTotal"]
    # workers that start answer before they have read templates, which is no roll-out
    return (current, len(reports)) if current else None


def _conditions(state: TemplateState, workers: tuple[int, int] | None) -> list[StatusCondition]:
    compiled, resolved = _template_compiled(state), _resolved(state)
    return [compiled, resolved, _template_ready(state, (compiled, resolved), workers)]


def _template_compiled(state: TemplateState) -> StatusCondition:
    validation = state.validation
    if validation.problems:
        return problem_condition("Compiled", validation.problems)
    if validation.compiled is None:
        return StatusCondition("Compiled", None, "Validating", "validation is in progress")
    return StatusCondition("Compiled", True, "Valid", f"revision {validation.compiled.revision}")


def _resolved(state: TemplateState) -> StatusCondition:
    profile = state.manifest["spec"]["smtpProfileRef"]["name"]
    others = [problem for problem in state.problems if problem not in state.validation.problems]
    if others:
        return problem_condition("ProfileResolved", others)
    if state.validation.compiled and state.serving != state.validation.compiled:
        message = f"SmtpProfile {profile} is invalid or not applied; see its status"
        return StatusCondition("ProfileResolved", False, "ProfileInvalid", message)
    return StatusCondition("ProfileResolved", True, "Resolved", f"SmtpProfile {profile}")


def _template_ready(
    state: TemplateState, parts: tuple[StatusCondition, StatusCondition], workers: tuple[int, int] | None
) -> StatusCondition:
    serving = state.serving
    failed = next((part for part in parts if part.ok is not True), None)
    if failed:
        meanwhile = f"; revision {serving.revision} stays in use" if serving else ""
        if failed.ok is False and state.problems:
            return problem_condition("Ready", state.problems, meanwhile)
        return StatusCondition("Ready", failed.ok, failed.reason, failed.message + meanwhile)
    assert serving is not None  # it is the newest revision, or ProfileResolved would be False
    if serving.suspend:
        message = "spec.suspend is set: letters of this template wait until it is removed"
        return StatusCondition("Ready", False, "Suspended", message)
    if workers and workers[0] < workers[1]:
        message = f"{workers[0]} of {workers[1]} workers use revision {serving.revision}"
        return StatusCondition("Ready", False, ROLLING_OUT, message)
    return StatusCondition("Ready", True, "Serving", f"letters are rendered with revision {serving.revision}")


def _sizes(samples: Sequence[SampleSizes]) -> dict[str, int]:
    if not samples:
        return {}
    return {
        "htmlBytes": max(sample.html_bytes for sample in samples),
        "textBytes": max(sample.text_bytes for sample in samples),
    }


def _samples(state: TemplateState) -> list[dict[str, Any]]:
    """One entry for each sample: its largest letter, or why rendering failed."""
    entries: dict[str, dict[str, Any]] = {}
    for sample in sorted(state.validation.samples, key=lambda sample: -sample.html_bytes):
        entries.setdefault(sample.name, _rendered(sample))
    names = [sample["name"] for sample in state.manifest["spec"].get("samples", [])]
    for name in names:
        if problem := _failure(name, state.validation.problems):
            entries[name] = {
                "name": name,
                "result": "Failed",
                "message": problem_entries([problem])[0]["message"],
            }
    return [entries[name] for name in dict.fromkeys(names) if name in entries]


def _rendered(sample: SampleSizes) -> dict[str, Any]:
    return {
        "name": sample.name,
        "result": "Rendered",
        "locale": sample.locale,
        "htmlBytes": sample.html_bytes,
        "textBytes": sample.text_bytes,
    }


def _failure(name: str, problems: Sequence[Problem]) -> Problem | None:
    """The problem of a sample: its message begins with the sample's name."""
    return next((problem for problem in problems if problem.message.startswith(f"sample `{name}`: ")), None)


def layout_status(
    manifest: Mapping[str, Any],
    validation: ValidationResult | None,
    templates: int,
    failing: Sequence[str],
    now: datetime,
) -> dict[str, Any]:
    """The layout's next status.

    `validation` None: the validation is in progress. `templates` is the number of templates that use the
    layout; `failing` names those whose newest revision is invalid because of the layout.
    """
    before = manifest.get("status") or {}
    if validation is None and before.get("observedGeneration") == generation(manifest):
        return {**before, "templates": templates}
    problems = validation.problems if validation else ()
    compiled = _layout_compiled(validation)
    conditions = [compiled, _layout_ready(compiled, templates, sorted(failing))]
    return {
        **without_empty(
            {
                "observedGeneration": generation(manifest),
                "conditions": build_conditions(conditions, manifest, now),
                "problems": problem_entries(problems),
            }
        ),
        "templates": templates,
    }


def _layout_compiled(validation: ValidationResult | None) -> StatusCondition:
    if validation is None:
        return StatusCondition("Compiled", None, "Validating", "validation is in progress")
    if validation.problems:
        return problem_condition("Compiled", validation.problems)
    return StatusCondition("Compiled", True, "Valid")


def _layout_ready(compiled: StatusCondition, templates: int, failing: Sequence[str]) -> StatusCondition:
    if not compiled.ok:
        return compiled.as_type("Ready")
    if failing:
        return StatusCondition("Ready", False, "TemplatesFail", _failing(failing))
    used = "used by 1 template" if templates == 1 else f"used by {templates} templates"
    return StatusCondition("Ready", True, "Valid", used)


def _failing(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"template {names[0]} is invalid with this layout; see its status"
    more = f" and {len(names) - NAMED_TEMPLATES} more" if len(names) > NAMED_TEMPLATES else ""
    listed = ", ".join(names[:NAMED_TEMPLATES])
    return f"templates {listed}{more} are invalid with this layout; see their statuses"
