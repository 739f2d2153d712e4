"""The statuses to write after a reconcile: what was observed and done → `StatusUpdate`s.

The texts are in `status`, which is pure. This module collects its input: the Deployment as it is after the
plan was carried out, the topics and the workers' reports as they are known now.
"""

import asyncio
from collections.abc import Sequence

from postroom.letter.references import is_layout_problem
from postroom_operator.apply import ReconcileResult, StatusUpdate
from postroom_operator.context import ReconcileContext
from postroom_operator.desired.inputs import EffectiveProfile
from postroom_operator.desired.profile import required_topics
from postroom_operator.models import API_VERSION, Manifest, Ref, TemplateState, TopicState
from postroom_operator.observe import ObservedProfile
from postroom_operator.status.profile import ProfileFacts, profile_status
from postroom_operator.status.template import is_rolling_out, layout_status, template_status
from postroom_operator.store import ReconcileKey, is_urgent


def build_profile_status(
    observed: ObservedProfile,
    profile: EffectiveProfile | None,
    states: Sequence[TemplateState],
    result: ReconcileResult,
    context: ReconcileContext,
) -> list[StatusUpdate]:
    """The statuses of a profile's templates, and the profile's own."""
    if observed.namespace_terminating or observed.profile is None:
        context.topics.forget(observed.key)
    if observed.namespace_terminating:
        return []
    reports = context.workers.reports(observed.group)
    now = context.now()
    updates = [StatusUpdate(state.manifest, template_status(state, reports, now)) for state in states]
    if any(is_rolling_out(update.status) for update in updates):
        context.workers.poll_faster(observed.group)
    if observed.profile is None:
        return updates
    if profile is None:
        mode, guarded = _mode_of_invalid(observed.profile, observed.delivery_allowed)
    else:
        mode, guarded = profile.mode, profile.guarded
    facts = ProfileFacts(
        manifest=observed.profile,
        mode=mode,
        guarded=guarded,
        problems=observed.problems,
        fallback_problem=profile.fallback_problem if profile else None,
        apply_problem="; ".join(result.refused),
        topics=_topics(observed, context),
        reports=reports,
        unresponsive=context.workers.unresponsive(observed.group),
        deployment=_child(observed, "Deployment", context),
        scaled_object=_child(observed, "ScaledObject", context),
        keda_available=context.keda(),
        templates=sum(state.serving is not None for state in states),
        effect_changing=profile.effect_changing if profile else False,
    )
    return [*updates, StatusUpdate(observed.profile, profile_status(facts, now))]


async def build_layout_status(key: ReconcileKey, context: ReconcileContext) -> list[StatusUpdate]:
    """The status of a layout: its own validation, and the templates that are invalid because of it."""
    layout = context.store.get(Ref(API_VERSION, key.kind, key.namespace, key.name))
    if layout is None:
        return []
    templates, urgent = context.store.templates_using(layout), is_urgent(layout)
    own = await context.validator.validate(None, layout, urgent=urgent)
    results = await asyncio.gather(
        *(context.validator.validate(template, layout, urgent=urgent) for template in templates)
    )
    failing = [
        template["metadata"]["name"]
        for template, result in zip(templates, results, strict=True)
        if result and any(is_layout_problem(problem, key.name) for problem in result.problems)
    ]
    return [StatusUpdate(layout, layout_status(layout, own, len(templates), failing, context.now()))]


def _mode_of_invalid(profile: Manifest, allowed: bool) -> tuple[str, bool]:
    """The mode of an invalid profile, and whether it is guarded. Its workers, if any, keep running."""
    guarded = profile["spec"].get("mode") == "SMTP" and not allowed
    return "Sandbox" if guarded else str((profile.get("status") or {}).get("mode") or ""), guarded


def _topics(observed: ObservedProfile, context: ReconcileContext) -> tuple[TopicState, ...]:
    """The profile's topics. Its status records which of them the operator created."""
    if observed.model is None or observed.profile is None:
        return ()
    recorded = (observed.profile.get("status") or {}).get("topics") or ()
    created = frozenset(topic["name"] for topic in recorded if topic.get("created"))
    return context.topics.request(observed.key, required_topics(observed.model), created)


def _child(observed: ObservedProfile, kind: str, context: ReconcileContext) -> Manifest | None:
    """The profile's object of a kind, as it is now."""
    children = context.store.worker_objects(observed.key.namespace, observed.key.name)
    return next((child for child in children if child["kind"] == kind), None)
