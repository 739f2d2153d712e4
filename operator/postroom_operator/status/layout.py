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
    revision does not pass with it, for a problem that is the layout's too and not the template's own.
    """
    before = manifest.get("status") or {}
    if proved is None and before.get("observedGeneration") == generation(manifest):
        return {**before, "templates": templates}
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
        return Found("Ready", False, "TemplatesFail", _failing(failing))
    used = "1 template uses it" if templates == 1 else f"{templates} templates use it"
    return Found("Ready", True, "Proved", used)


def _failing(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} does not pass with it; its own status says why"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more} do not pass with it; their own statuses say why"
