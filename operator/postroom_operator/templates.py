"""What each template of a profile comes to, once its neighbours are looked at: proofs in, `Standing` out.

Pure. The oldest template to claim an event type has it. A template whose newest revision has problems keeps
serving the last good one; so does one whose proof is not done yet. Where the profile is missing nothing is
served, and the template waits.

Whose a topic is where two profiles of a namespace ask for it: manifests in, a problem or none out. Pure.

Workers of both would be one group: each would get events that only the other has templates for. The profile
whose status has the topic on record goes first, for it has workers there; then the older one.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from postroom.letter.bundle import CompiledTemplate, RevisionChoice
from postroom.letter.problems import Code, Problem
from postroom.letter.profile import SmtpProfile, allows_sender, default_topic, topics_conflict
from postroom.letter.references import (
    ObjectKey,
    event_type_conflict_problem,
    not_found_problem,
    sender_problem,
    topic_conflict_problem,
)
from postroom_operator.models import Manifest, TemplateState, ValidationResult
from postroom_operator.store import age_order


@dataclass(frozen=True, slots=True)
class ValidationContext:
    """What a profile's templates are judged against."""

    namespace: str
    profile: str
    existing: frozenset[ObjectKey]
    """The profiles and layouts of the namespace, faulty ones too."""
    model: SmtpProfile | None
    """The profile, where it is there and sound."""
    served: Mapping[str, CompiledTemplate]
    """What workers have now, by template."""


def evaluate(
    templates: Sequence[Manifest], proofs: Mapping[str, ValidationResult | None], around: ValidationContext
) -> list[TemplateState]:
    """Where each template stands; `templates` come oldest first, a proof is None while it is being made."""
    serving = RevisionChoice()
    return [_evaluate_template(each, proofs[each["metadata"]["name"]], around, serving) for each in templates]


def finalize(
    standings: Iterable[TemplateState],
    served: Mapping[str, CompiledTemplate],
    problems: Mapping[str, Problem],
    left_alone: Collection[str] = (),
) -> list[TemplateState]:
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


def layout_reference(template: Manifest) -> ObjectKey | None:
    """The layout that a template refers to."""
    reference = template["spec"].get("layoutRef")
    return (
        ObjectKey("EmailLayout", template["metadata"]["namespace"], reference["name"]) if reference else None
    )


def missing_layout(layout: ObjectKey, there: frozenset[ObjectKey]) -> ValidationResult:
    """The proof of a template whose layout is not there: there is nothing to render."""
    return ValidationResult(
        problems=(not_found_problem(Code.LAYOUT_NOT_FOUND, layout, "spec.layoutRef.name", there),)
    )


def _evaluate_template(
    template: Manifest, proved: ValidationResult | None, around: ValidationContext, serving: RevisionChoice
) -> TemplateState:
    name = template["metadata"]["name"]
    before = around.served.get(name)
    if proved is None:
        return TemplateState(template, ValidationResult(), serving=serving.choose(name, None, before))
    problems = (*proved.problems, *_reference_problems(name, proved.compiled, around, serving))
    fresh = proved.compiled if around.model and not problems else None
    missing = ObjectKey("SmtpProfile", around.namespace, around.profile) not in around.existing
    serves = None if missing else serving.choose(name, fresh, before)
    return TemplateState(template, proved, problems, serves)


def _reference_problems(
    name: str, compiled: CompiledTemplate | None, around: ValidationContext, serving: RevisionChoice
) -> Iterator[Problem]:
    """What stands in the way of a template besides its own proof."""
    profile = ObjectKey("SmtpProfile", around.namespace, around.profile)
    if profile not in around.existing:
        yield not_found_problem(Code.PROFILE_NOT_FOUND, profile, "spec.smtpProfileRef.name", around.existing)
    if compiled is None:
        return
    if around.model and compiled.sender and not allows_sender(around.model, compiled.sender[1]):
        yield sender_problem(around.profile)
    for index, event_type, by in serving.conflicts(name, compiled):
        yield event_type_conflict_problem(index, event_type, by, around.profile)


def topic_conflict(profile: Manifest, profiles: Iterable[Manifest]) -> Problem | None:
    """That another of the namespace's profiles has the topic of this one."""
    topic, turn = _topic(profile), _precedence(profile)
    for other in profiles:
        if topics_conflict(topic, its := _topic(other)) and _precedence(other) < turn:
            return topic_conflict_problem(topic, other["metadata"]["name"], its)
    return None


def _topic(profile: Manifest) -> str:
    """As `topic_of` has it, of a profile that may be faulty: its workers go on."""
    named = (profile["spec"].get("kafka") or {}).get("topic")
    return named or default_topic(profile["metadata"]["namespace"], profile["metadata"]["name"])


def _precedence(profile: Manifest) -> tuple[bool, tuple[str, str]]:
    on_record = (profile.get("status") or {}).get("topics") or ()
    return _topic(profile) not in [each["name"] for each in on_record], age_order(profile)
