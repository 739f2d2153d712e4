"""The state of each template of a profile, and conflicts of topics between profiles. Pure.

Input: the templates with their validation results, and what surrounds them. Output: a `TemplateState` each.
The oldest template that lists an event type has it. A template whose newest revision has problems, or whose
validation is in progress, keeps its last good revision. Where the profile does not exist no template is
served.

Two profiles of a namespace cannot share a topic: their workers would be one consumer group, and each would
get events for which only the other has templates. The profile whose status has the topic on record keeps it,
because its workers are running; otherwise the older profile has it.
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
    """What the templates of a profile are compared with."""

    namespace: str
    profile: str
    existing: frozenset[ObjectKey]
    """The profiles and layouts of the namespace, invalid ones too."""
    model: SmtpProfile | None
    """The profile, where it exists and is valid."""
    served: Mapping[str, CompiledTemplate]
    """The revision that workers have now, by template."""


def evaluate(
    templates: Sequence[Manifest],
    results: Mapping[str, ValidationResult | None],
    context: ValidationContext,
) -> list[TemplateState]:
    """The state of each template.

    `templates` are sorted from old to young; a result is None while the validation is in progress.
    """
    serving = RevisionChoice()
    return [
        _evaluate_template(template, results[template["metadata"]["name"]], context, serving)
        for template in templates
    ]


def finalize(
    states: Iterable[TemplateState],
    served: Mapping[str, CompiledTemplate],
    problems: Mapping[str, Problem],
    unchanged: Collection[str] = (),
) -> list[TemplateState]:
    """The states after packing: a template that did not fit has one more problem.

    The templates named in `unchanged` are left out: their statuses stay as they are.
    """
    return [
        replace(
            state,
            serving=served.get(name) if state.serving else None,
            problems=(*state.problems, *((problems[name],) if name in problems else ())),
        )
        for state in states
        if (name := state.manifest["metadata"]["name"]) not in unchanged
    ]


def layout_reference(template: Manifest) -> ObjectKey | None:
    """The layout that a template refers to."""
    reference = template["spec"].get("layoutRef")
    return (
        ObjectKey("EmailLayout", template["metadata"]["namespace"], reference["name"]) if reference else None
    )


def missing_layout(layout: ObjectKey, existing: frozenset[ObjectKey]) -> ValidationResult:
    """The result for a template whose layout does not exist: there is nothing to render."""
    return ValidationResult(
        problems=(not_found_problem(Code.LAYOUT_NOT_FOUND, layout, "spec.layoutRef.name", existing),)
    )


def _evaluate_template(
    template: Manifest, result: ValidationResult | None, context: ValidationContext, serving: RevisionChoice
) -> TemplateState:
    name = template["metadata"]["name"]
    before = context.served.get(name)
    if result is None:
        return TemplateState(template, ValidationResult(), serving=serving.choose(name, None, before))
    problems = (*result.problems, *_reference_problems(name, result.compiled, context, serving))
    newest = result.compiled if context.model and not problems else None
    profile_missing = ObjectKey("SmtpProfile", context.namespace, context.profile) not in context.existing
    serves = None if profile_missing else serving.choose(name, newest, before)
    return TemplateState(template, result, problems, serves)


def _reference_problems(
    name: str, compiled: CompiledTemplate | None, context: ValidationContext, serving: RevisionChoice
) -> Iterator[Problem]:
    """The problems of a template that its own validation does not find."""
    profile = ObjectKey("SmtpProfile", context.namespace, context.profile)
    if profile not in context.existing:
        yield not_found_problem(Code.PROFILE_NOT_FOUND, profile, "spec.smtpProfileRef.name", context.existing)
    if compiled is None:
        return
    if context.model and compiled.sender and not allows_sender(context.model, compiled.sender[1]):
        yield sender_problem(context.profile)
    for index, event_type, owner in serving.conflicts(name, compiled):
        yield event_type_conflict_problem(index, event_type, owner, context.profile)


def topic_conflict(profile: Manifest, profiles: Iterable[Manifest]) -> Problem | None:
    """The problem that another profile of the namespace has the topic of this one, or None."""
    topic, precedence = _topic(profile), _precedence(profile)
    for other in profiles:
        if topics_conflict(topic, other_topic := _topic(other)) and _precedence(other) < precedence:
            return topic_conflict_problem(topic, other["metadata"]["name"], other_topic)
    return None


def _topic(profile: Manifest) -> str:
    """The topic of a profile that may be invalid, because its workers keep running; see `topic_of`."""
    topic = (profile["spec"].get("kafka") or {}).get("topic")
    return topic or default_topic(profile["metadata"]["namespace"], profile["metadata"]["name"])


def _precedence(profile: Manifest) -> tuple[bool, tuple[str, str]]:
    """A sort key: the smallest keeps a contested topic."""
    recorded = (profile.get("status") or {}).get("topics") or ()
    return _topic(profile) not in [topic["name"] for topic in recorded], age_order(profile)
