"""What one object says of another: the names that references lead to, and the problems where they do not.

Apart from the proofs, because the operator says the same of a cluster's objects and renders nothing itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from postroom.letter.problems import Code, Problem, did_you_mean


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """Which object of a set: `EmailTemplate`, its namespace, its name."""

    kind: str
    namespace: str
    name: str


LAYOUT_CODES = frozenset({Code.PARTIAL_NOT_FOUND, Code.BLOCK_NOT_FOUND})
"""What a template takes from its layout and does not find there: either may be the one to mend."""


def layout_field(name: str) -> str:
    """How a problem in a layout names its place when it turns up in a template's proof."""
    return f"EmailLayout/{name}.spec"


def is_layout_problem(problem: Problem, name: str) -> bool:
    """Whether a template's problem is its layout's too: it lies in its text, or is about what it offers."""
    return problem.code in LAYOUT_CODES or problem.field.startswith(f"{layout_field(name)}.")


def not_found_problem(code: Code, wanted: ObjectKey, place: str, there: Iterable[ObjectKey]) -> Problem:
    """That a reference leads nowhere; `there` is what it could have led to."""
    alike = [key for key in there if key.kind == wanted.kind]
    homes = sorted(key.namespace for key in alike if key.name == wanted.name)
    hint = did_you_mean(wanted.name, (key.name for key in alike if key.namespace == wanted.namespace))
    if homes:
        hint = f"; there is one in {', '.join(homes)}, and a reference stays in its own namespace"
    message = f"there is no {wanted.kind} `{wanted.name}` in namespace {wanted.namespace}{hint}"
    return Problem(code, place, message)


def sender_problem(profile: str) -> Problem:
    """That a template sends from a domain that is not its profile's."""
    message = (
        f"profile {profile} does not send from this domain; add it to its spec.allowedFromDomains, "
        "or leave spec.from out to send as the profile does"
    )
    return Problem(Code.SENDER_NOT_ALLOWED, "spec.from.address", message)


def topic_conflict_problem(topic: str, by: str, its: str) -> Problem:
    """That a profile's topic is another's already, or one that is derived from it."""
    message = (
        f"is {topic}, and SmtpProfile {by} has {its} with its .dlq and .status: workers of one would take "
        f"events or dead letters of the other. Name another topic, or delete {by} first"
    )
    return Problem(Code.TOPIC_CONFLICT, "spec.kafka.topic", message)


def event_type_conflict_problem(index: int, event_type: str, by: str, profile: str) -> Problem:
    """That another template has an event type already."""
    message = f"template {by} has `{event_type}` of profile {profile} already; remove it from one of the two"
    return Problem(Code.EVENT_TYPE_CONFLICT, f"spec.eventTypes[{index}]", message)
