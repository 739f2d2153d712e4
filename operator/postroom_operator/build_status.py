"""What is to be said of a key's objects: what was seen and found out → the statuses to write.

The wording is `status`'s, which is pure. Here its facts are brought together: the Deployment as it is after
the plan was carried out, the topics and the workers' reports as they are known now.
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
    seen: ObservedProfile,
    view: EffectiveProfile | None,
    standings: Sequence[TemplateState],
    done: ReconcileResult,
    context: ReconcileContext,
) -> list[StatusUpdate]:
    """The statuses of a profile's templates, and its own."""
    if seen.namespace_terminating or seen.profile is None:
        context.topics.forget(seen.key)
    if seen.namespace_terminating:
        return []
    reports = context.workers.reports(seen.group)
    now = context.now()
    found = [StatusUpdate(each.manifest, template_status(each, reports, now)) for each in standings]
    if any(is_rolling_out(each.status) for each in found):
        context.workers.poll_faster(seen.group)
    if seen.profile is None:
        return found
    mode, guarded = (view.mode, view.guarded) if view else _of_faulty(seen.profile, seen.delivery_allowed)
    facts = ProfileFacts(
        manifest=seen.profile,
        mode=mode,
        guarded=guarded,
        problems=seen.problems,
        fallback_problem=view.fallback_problem if view else None,
        apply_problem="; ".join(done.refused),
        topics=_topics(seen, context),
        reports=reports,
        unresponsive=context.workers.unresponsive(seen.group),
        deployment=_made(seen, "Deployment", context),
        scaled_object=_made(seen, "ScaledObject", context),
        keda_available=context.keda(),
        templates=sum(each.serving is not None for each in standings),
        effect_changing=view.effect_changing if view else False,
    )
    return [*found, StatusUpdate(seen.profile, profile_status(facts, now))]


async def build_layout_status(key: ReconcileKey, context: ReconcileContext) -> list[StatusUpdate]:
    """The status of a layout: its own proof, and which of its templates do not pass because of it."""
    layout = context.store.get(Ref(API_VERSION, key.kind, key.namespace, key.name))
    if layout is None:
        return []
    users, first = context.store.templates_using(layout), is_urgent(layout)
    proved = await context.validator.validate(None, layout, first=first)
    proofs = await asyncio.gather(*(context.validator.validate(each, layout, first=first) for each in users))
    failing = [
        each["metadata"]["name"]
        for each, proof in zip(users, proofs, strict=True)
        if proof and any(is_layout_problem(problem, key.name) for problem in proof.problems)
    ]
    return [StatusUpdate(layout, layout_status(layout, proved, len(users), failing, context.now()))]


def _of_faulty(profile: Manifest, allowed: bool) -> tuple[str, bool]:
    """The mode of a profile of which nothing is made, and whether it is guarded.

    Its workers go on as they were, if there were any.
    """
    guarded = profile["spec"].get("mode") == "SMTP" and not allowed
    return "Sandbox" if guarded else str((profile.get("status") or {}).get("mode") or ""), guarded


def _topics(seen: ObservedProfile, context: ReconcileContext) -> tuple[TopicState, ...]:
    """The profile's topics; which of them we made is on record in its status."""
    if seen.model is None or seen.profile is None:
        return ()
    before = (seen.profile.get("status") or {}).get("topics") or ()
    ours = frozenset(each["name"] for each in before if each.get("created"))
    return context.topics.request(seen.key, required_topics(seen.model), ours)


def _made(seen: ObservedProfile, kind: str, context: ReconcileContext) -> Manifest | None:
    """The profile's object of a kind, as it is now."""
    made = context.store.worker_objects(seen.key.namespace, seen.key.name)
    return next((each for each in made if each["kind"] == kind), None)
