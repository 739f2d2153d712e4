"""The conditions of /statusz: facts that the parts of a worker report → one Condition for each.

`ok` is None while the state is unknown. A reason is one CamelCase word that does not depend on details; the
message is for people and contains no personal data.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from postroom.adapters.kafka.broker_health import BrokerHealth
from postroom.delivery.router import Route
from postroom.letter.address import mask_addresses
from postroom.letter.problems import Code, Problem
from postroom.policy.circuit_breaker import Phase
from postroom.ports.notifications import StatusEventPublisher
from postroom.ports.world import LedgerHealth
from postroom.worker.relays import RelaySelection


@dataclass(frozen=True, slots=True)
class Condition:
    """The state of one dependency of a worker."""

    ok: bool | None
    reason: str
    message: str = ""


NOT_YET = Condition(None, "NotYet", "the worker waits for an earlier dependency")
NOT_CONNECTED = Condition(None, "NotConnectedYet", "not connected yet")


def to_json(conditions: Mapping[str, Condition]) -> dict[str, dict[str, Any]]:
    """Convert conditions to the JSON of /statusz."""
    return {name: asdict(condition) for name, condition in conditions.items()}


def reason_of(code: Code) -> str:
    """Convert a problem code to a reason: secret_key_missing → SecretKeyMissing."""
    return "".join(word.capitalize() for word in code.value.split("_"))


def refused_condition(problems: Sequence[Problem]) -> Condition:
    """Build a failed condition from at least one problem."""
    return Condition(False, reason_of(problems[0].code), _problem_text(problems))


def _problem_text(problems: Sequence[Problem]) -> str:
    return "; ".join(f"{problem.field}: {problem.message}" for problem in problems)


def secrets_condition(problems: Sequence[Problem], later: Sequence[Problem]) -> Condition:
    """The mounted Secrets; `later`: problems that matter only once delivery is allowed."""
    if problems:
        return refused_condition(problems)
    if later:
        message = f"not needed while letters go to the sandbox; required for delivery: {_problem_text(later)}"
        return Condition(True, "MissingForDelivery", message)
    return Condition(True, "Complete")


def ledger_condition(health: LedgerHealth) -> Condition:
    """The open ledger."""
    if health.ok:
        return Condition(True, "Reachable")
    return Condition(False, "LedgerUnreachable", health.reason)


def kafka_condition(health: BrokerHealth, suspended: bool) -> Condition:
    """The brokers and the topic."""
    if suspended:
        return Condition(None, "Suspended", "a suspended profile reads no events")
    if health.auth_error:
        message = f"Kafka authentication failed: {health.auth_error}. Correct the connections Secret"
        return Condition(False, "AuthenticationFailed", message)
    if health.connected is False:
        reason = f": {health.transport_error}" if health.transport_error else ""
        return Condition(False, "BrokerUnreachable", f"no broker answers{reason}")
    if health.acl_error:
        needs = f"Read on topic {health.topic} and on group {health.group}"
        return Condition(False, "NotAuthorized", f"{health.acl_error}. The Kafka user needs {needs}")
    if health.topic_missing:
        message = f"topic {health.topic} does not exist yet; the worker waits for it"
        return Condition(False, "TopicMissing", message)
    if health.connected is None:
        return NOT_CONNECTED
    return Condition(True, "Connected")


def relay_condition(exit_: RelaySelection) -> Condition:
    """The relay, by the result of the last connection."""
    reachable = exit_.relay.reachable
    if exit_.mode == "Log":
        return Condition(True, "LogOnly", "letters are logged, none is sent")
    if reachable is None:
        return Condition(None, "NotAttempted", f"no letter was sent to {exit_.where} yet")
    if reachable:
        return Condition(True, "Reachable")
    message = f"{exit_.where} failed at the last attempt: {exit_.relay.last_error}"
    return Condition(False, "RelayUnreachable", message)


def circuit_condition(own: Route, fallback: Route | None) -> Condition:
    """The circuit of the profile's relay, which all its workers share."""
    phase = own.breaker.phase
    if phase is Phase.CLOSED:
        return Condition(True, "Closed")
    state = f"letters are sent through {fallback.via}" if fallback and fallback.open else "letters wait"
    message = f"{state} until the relay answers again; the last failure: {own.breaker.circuit.reason}"
    return Condition(False, "Probing" if phase is Phase.HALF_OPEN else "Open", mask_addresses(message))


def fallback_condition(exit_: RelaySelection, missing: Sequence[Problem]) -> Condition:
    """The fallback that the profile names."""
    problems = [exit_.fallback_problem] if exit_.fallback_problem else missing
    if problems:
        return refused_condition(problems)
    return Condition(True, "Ready", f"{exit_.fallback.profile} takes over" if exit_.fallback else "")


def status_events_condition(publisher: StatusEventPublisher) -> Condition:
    """The producer of status events."""
    if publisher.last_error is None:
        return Condition(None, "NotAttempted", "no status event was published yet")
    if publisher.last_error:
        return Condition(False, "NotPublished", f"status events wait in the ledger: {publisher.last_error}")
    return Condition(True, "Published")


def callbacks_condition(failures: Iterable[tuple[str, str] | None], reached: bool) -> Condition:
    """The callbacks, from the reason and message of each that fails.

    `reached`: whether any of them has accepted a notification.
    """
    found = [failure for failure in failures if failure]
    if found:
        return Condition(False, found[0][0], "; ".join(message for _, message in found))
    if not reached:
        return Condition(None, "NotAttempted", "no notification was sent yet")
    return Condition(True, "Called")


def rehearsal_condition(error: str) -> Condition:
    """The isolated renderer, which does not start."""
    message = (
        "after an unclean exit, the records that may have caused it wait to be rendered in a separate "
        f"process, which does not start: {error}. The start is retried; see the worker's log"
    )
    return Condition(False, "RehearsalNotStarted", message)


def templates_condition(problem: str, read: bool) -> Condition:
    """The bundles of compiled templates."""
    if problem:
        return Condition(False, "BundleUnreadable", problem)
    return Condition(True, "Live") if read else Condition(None, "NotReadYet")
