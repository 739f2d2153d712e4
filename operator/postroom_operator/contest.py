"""Whose a topic is where two profiles of a namespace ask for it: manifests in, a problem or none out. Pure.

Workers of both would be one group: each would get events that only the other has templates for. The profile
whose status has the topic on record goes first, for it has workers there; then the older one.
"""

from collections.abc import Iterable

from postroom.letter.problems import Problem
from postroom.letter.profile import default_topic, topics_conflict
from postroom.letter.references import topic_conflict_problem
from postroom_operator.cluster import Manifest
from postroom_operator.store import age


def topic_problem(profile: Manifest, profiles: Iterable[Manifest]) -> Problem | None:
    """That another of the namespace's profiles has the topic of this one."""
    topic, turn = _topic(profile), _turn(profile)
    for other in profiles:
        if topics_conflict(topic, its := _topic(other)) and _turn(other) < turn:
            return topic_conflict_problem(topic, other["metadata"]["name"], its)
    return None


def _topic(profile: Manifest) -> str:
    """As `topic_of` has it, of a profile that may be faulty: its workers go on."""
    named = (profile["spec"].get("kafka") or {}).get("topic")
    return named or default_topic(profile["metadata"]["namespace"], profile["metadata"]["name"])


def _turn(profile: Manifest) -> tuple[bool, tuple[str, str]]:
    on_record = (profile.get("status") or {}).get("topics") or ()
    return _topic(profile) not in [each["name"] for each in on_record], age(profile)
