"""What each template of a profile comes to, once its neighbours are looked at: proofs in, `Standing` out.

Pure. The oldest template to claim an event type has it. A template whose newest revision has problems keeps
serving the last good one; so does one whose proof is not done yet. Where the profile is missing nothing is
served, and the template waits.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from postroom.letter.bundle import CompiledTemplate, RevisionChoice
from postroom.letter.problems import Code, Problem
from postroom.letter.profile import SmtpProfile, allows_sender
from postroom.letter.references import (
    ObjectKey,
    event_type_conflict_problem,
    not_found_problem,
    sender_problem,
)
from postroom_operator.cluster import Manifest
from postroom_operator.facts import Proved, Standing


@dataclass(frozen=True, slots=True)
class Around:
    """What a profile's templates are judged against."""

    namespace: str
    profile: str
    there: frozenset[ObjectKey]
    """The profiles and layouts of the namespace, faulty ones too."""
    model: SmtpProfile | None
    """The profile, where it is there and sound."""
    served: Mapping[str, CompiledTemplate]
    """What workers have now, by template."""


def judge(
    templates: Sequence[Manifest], proofs: Mapping[str, Proved | None], around: Around
) -> list[Standing]:
    """Where each template stands; `templates` come oldest first, a proof is None while it is being made."""
    serving = RevisionChoice()
    return [_stand(each, proofs[each["metadata"]["name"]], around, serving) for each in templates]


def settle(
    standings: Iterable[Standing],
    served: Mapping[str, CompiledTemplate],
    problems: Mapping[str, Problem],
    left_alone: Collection[str] = (),
) -> list[Standing]:
    """Where they stand once they are packed: what did not fit has one more problem.

    Without those that are left alone: what was said of them stands.
    """
    return [
        replace(
            each,
            serving=served.get(name) if each.serving else None,
            problems=(*each.problems, *((problems[name],) if name in problems else ())),
        )
        for each in standings
        if (name := each.manifest["metadata"]["name"]) not in left_alone
    ]


def layout_of(template: Manifest) -> ObjectKey | None:
    """The layout that a template refers to."""
    reference = template["spec"].get("layoutRef")
    return (
        ObjectKey("EmailLayout", template["metadata"]["namespace"], reference["name"]) if reference else None
    )


def without_layout(layout: ObjectKey, there: frozenset[ObjectKey]) -> Proved:
    """The proof of a template whose layout is not there: there is nothing to render."""
    return Proved(problems=(not_found_problem(Code.LAYOUT_NOT_FOUND, layout, "spec.layoutRef.name", there),))


def _stand(template: Manifest, proved: Proved | None, around: Around, serving: RevisionChoice) -> Standing:
    name = template["metadata"]["name"]
    before = around.served.get(name)
    if proved is None:
        return Standing(template, Proved(), serving=serving.choose(name, None, before))
    problems = (*proved.problems, *_trouble(name, proved.compiled, around, serving))
    fresh = proved.compiled if around.model and not problems else None
    missing = ObjectKey("SmtpProfile", around.namespace, around.profile) not in around.there
    serves = None if missing else serving.choose(name, fresh, before)
    return Standing(template, proved, problems, serves)


def _trouble(
    name: str, compiled: CompiledTemplate | None, around: Around, serving: RevisionChoice
) -> Iterator[Problem]:
    """What stands in the way of a template besides its own proof."""
    profile = ObjectKey("SmtpProfile", around.namespace, around.profile)
    if profile not in around.there:
        yield not_found_problem(Code.PROFILE_NOT_FOUND, profile, "spec.smtpProfileRef.name", around.there)
    if compiled is None:
        return
    if around.model and compiled.sender and not allows_sender(around.model, compiled.sender[1]):
        yield sender_problem(around.profile)
    for index, event_type, by in serving.conflicts(name, compiled):
        yield event_type_conflict_problem(index, event_type, by, around.profile)
