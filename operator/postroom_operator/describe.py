"""What is to be said of a key's objects: what was seen and found out → the statuses to write.

The wording is `status`'s, which is pure. Here its facts are brought together: the Deployment as it is after
the plan was carried out, the topics and the workers' reports as they are known now.
"""

import asyncio
from collections.abc import Sequence

from postroom.letter.references import is_layout_problem
from postroom_operator.apply import Done, Status
from postroom_operator.cluster import API_VERSION, Manifest, Ref
from postroom_operator.desired.topics import wanted_topics
from postroom_operator.desired.view import ProfileView
from postroom_operator.facts import Standing, Topic
from postroom_operator.observe import Seen
from postroom_operator.office import Office
from postroom_operator.status import (
    ProfileFacts,
    is_rolling_out,
    layout_status,
    profile_status,
    template_status,
)
from postroom_operator.store import Key, is_news


def describe_profile(
    seen: Seen, view: ProfileView | None, standings: Sequence[Standing], done: Done, office: Office
) -> list[Status]:
    """The statuses of a profile's templates, and its own."""
    if seen.ending or seen.profile is None:
        office.topics.forget(seen.key)
    if seen.ending:
        return []
    reports = office.workers.reports(seen.group)
    now = office.now()
    found = [Status(each.manifest, template_status(each, reports, now)) for each in standings]
    if any(is_rolling_out(each.status) for each in found):
        office.workers.hurry(seen.group)
    if seen.profile is None:
        return found
    mode, guarded = (view.mode, view.guarded) if view else _of_faulty(seen.profile, seen.delivery_allowed)
    facts = ProfileFacts(
        manifest=seen.profile,
        mode=mode,
        guarded=guarded,
        problems=seen.faults,
        fallback_problem=view.fallback_problem if view else None,
        obstacle="; ".join(done.refused),
        topics=_topics(seen, office),
        reports=reports,
        silent=office.workers.silent(seen.group),
        deployment=_made(seen, "Deployment", office),
        scaled=_made(seen, "ScaledObject", office),
        keda_available=office.keda(),
        templates=sum(each.serving is not None for each in standings),
        turning=view.turning if view else False,
    )
    return [*found, Status(seen.profile, profile_status(facts, now))]


async def describe_layout(key: Key, office: Office) -> list[Status]:
    """The status of a layout: its own proof, and which of its templates do not pass because of it."""
    layout = office.store.get(Ref(API_VERSION, key.kind, key.namespace, key.name))
    if layout is None:
        return []
    users, first = office.store.users(layout), is_news(layout)
    proved = await office.prover.prove(None, layout, first=first)
    proofs = await asyncio.gather(*(office.prover.prove(each, layout, first=first) for each in users))
    failing = [
        each["metadata"]["name"]
        for each, proof in zip(users, proofs, strict=True)
        if proof and any(is_layout_problem(problem, key.name) for problem in proof.problems)
    ]
    return [Status(layout, layout_status(layout, proved, len(users), failing, office.now()))]


def _of_faulty(profile: Manifest, allowed: bool) -> tuple[str, bool]:
    """The mode of a profile of which nothing is made, and whether it is guarded.

    Its workers go on as they were, if there were any.
    """
    guarded = profile["spec"].get("mode") == "SMTP" and not allowed
    return "Sandbox" if guarded else str((profile.get("status") or {}).get("mode") or ""), guarded


def _topics(seen: Seen, office: Office) -> tuple[Topic, ...]:
    """The profile's topics; which of them we made is on record in its status."""
    if seen.model is None or seen.profile is None:
        return ()
    before = (seen.profile.get("status") or {}).get("topics") or ()
    ours = frozenset(each["name"] for each in before if each.get("created"))
    return office.topics.want(seen.key, wanted_topics(seen.model), ours)


def _made(seen: Seen, kind: str, office: Office) -> Manifest | None:
    """The profile's object of a kind, as it is now."""
    made = office.store.made(seen.key.namespace, seen.key.name)
    return next((each for each in made if each["kind"] == kind), None)
