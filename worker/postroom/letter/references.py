"""References between objects: their keys, and the problems of references that cannot be resolved.

Separate from `validation`, because the operator reports the same problems about the objects of a cluster and
must not import the renderer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from postroom.letter.problems import Code, Problem, did_you_mean


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """The key of an object: its kind, such as `EmailTemplate`, namespace and name."""

    kind: str
    namespace: str
    name: str


LAYOUT_CODES = frozenset({Code.PARTIAL_NOT_FOUND, Code.BLOCK_NOT_FOUND})
"""Problems of a template with a name that its layout does not offer; either of the two can be corrected."""


def layout_field(name: str) -> str:
    """The field prefix of a layout's problem in the result of a template."""
    return f"EmailLayout/{name}.spec"


def is_layout_problem(problem: Problem, name: str) -> bool:
    """Whether a template's problem is in its layout's text, or about a name that the layout should offer."""
    return problem.code in LAYOUT_CODES or problem.field.startswith(f"{layout_field(name)}.")


def not_found_problem(code: Code, wanted: ObjectKey, place: str, there: Iterable[ObjectKey]) -> Problem:
    """The problem of a reference to an object that does not exist; `there` are the objects that exist."""
    alike = [key for key in there if key.kind == wanted.kind]
    namespaces = sorted(key.namespace for key in alike if key.name == wanted.name)
    hint = did_you_mean(wanted.name, (key.name for key in alike if key.namespace == wanted.namespace))
    if namespaces:
        hint = f"; there is one in {', '.join(namespaces)}, and a reference stays in its own namespace"
    message = f"there is no {wanted.kind} `{wanted.name}` in namespace {wanted.namespace}{hint}"
    return Problem(code, place, message)


def sender_problem(profile: str) -> Problem:
    """The problem of a template whose sender domain its profile does not allow."""
    message = (
        f"profile {profile} does not send from this domain; add it to its spec.allowedFromDomains, "
        "or leave spec.from out to send as the profile does"
    )
    return Problem(Code.SENDER_NOT_ALLOWED, "spec.from.address", message)


def topic_conflict_problem(topic: str, by: str, its: str) -> Problem:
    """The problem of a profile whose topic another profile uses, itself or as a derived topic."""
    message = (
        f"is {topic}, and SmtpProfile {by} has {its} with its .dlq and .status: workers of one would take "
        f"events or dead letters of the other. Name another topic, or delete {by} first"
    )
    return Problem(Code.TOPIC_CONFLICT, "spec.kafka.topic", message)


def event_type_conflict_problem(index: int, event_type: str, by: str, profile: str) -> Problem:
    """The problem of a template whose event type another template already has."""
    message = f"template {by} has `{event_type}` of profile {profile} already; remove it from one of the two"
    return Problem(Code.EVENT_TYPE_CONFLICT, f"spec.eventTypes[{index}]", message)
