"""The status of an EmailLayout: whether it can be read, and whether its templates pass with it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from postroom_operator.facts import Proved
from postroom_operator.status.conditions import Found, blame, conditions, generation, listed, said

NAMED = 5
"""So many of the templates that do not pass are named."""


def layout_status(
    manifest: Mapping[str, Any],
    proved: Proved | None,
    templates: int,
    failing: Sequence[str],
    now: datetime,
) -> dict[str, Any]:
    """The layout's next status.

    `proved` None: the proof is under way. `templates` is how many use it; `failing` are those whose newest
    revision does not pass with it.
    """
    problems = proved.problems if proved else ()
    compiled = _compiled(proved)
    found = [compiled, _ready(compiled, templates, sorted(failing))]
    return {
        **said(
            {
                "observedGeneration": generation(manifest),
                "conditions": conditions(found, manifest, now),
                "problems": listed(problems),
            }
        ),
        "templates": templates,
    }


def _compiled(proved: Proved | None) -> Found:
    if proved is None:
        return Found("Compiled", None, "Proving", "the proof is under way")
    if proved.problems:
        return blame("Compiled", proved.problems)
    return Found("Compiled", True, "Proved")


def _ready(compiled: Found, templates: int, failing: Sequence[str]) -> Found:
    if not compiled.ok:
        return compiled.named("Ready")
    if failing:
        more = f" and {len(failing) - NAMED} more" if len(failing) > NAMED else ""
        message = f"{', '.join(failing[:NAMED])}{more} do not pass with it; their own status says why"
        return Found("Ready", False, "TemplatesFail", message)
    return Found("Ready", True, "Proved", f"{templates} templates use it")
