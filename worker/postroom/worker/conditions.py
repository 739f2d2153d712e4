"""What /statusz says of the things a worker needs: a condition for each, from the facts its parts report.

`ok` is None while nobody knows yet. A reason is one CamelCase word that does not change with the details;
the message is for people and holds no personal data.
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
    """How one thing is."""

    ok: bool | None
    reason: str
    message: str = ""


NOT_YET = Condition(None, "NotYet", "the worker waits for what it needs before this")
NOT_CONNECTED = Condition(None, "NotConnectedYet", "not connected yet")


def to_json(conditions: Mapping[str, Condition]) -> dict[str, dict[str, Any]]:
    """Conditions as /statusz has them."""
    return {name: asdict(condition) for name, condition in conditions.items()}


def reason_of(code: Code) -> str:
    """A problem code as a condition's reason: secret_key_missing is SecretKeyMissing."""
    return "".join(word.capitalize() for word in code.value.split("_"))


def refused_condition(problems: Sequence[Problem]) -> Condition:
    """Something is not right, and these are the reasons; there is at least one."""
    return Condition(False, reason_of(problems[0].code), _problem_text(problems))


def _problem_text(problems: Sequence[Problem]) -> str:
    return "; ".join(f"{problem.field}: {problem.message}" for problem in problems)


def secrets_condition(problems: Sequence[Problem], later: Sequence[Problem]) -> Condition:
    """The Secrets that are mounted; `later`: what is missing once delivery is allowed."""
    if problems:
        return refused_condition(problems)
    if later:
        said = f"letters stay in the sandbox and need none of it; delivery will: {_problem_text(later)}"
        return Condition(True, "MissingForDelivery", said)
    return Condition(True, "Complete")


def ledger_condition(health: LedgerHealth) -> Condition:
    """A ledger that is open."""
    if health.ok:
        return Condition(True, "Reachable")
    return Condition(False, "LedgerUnreachable", health.reason)


def kafka_condition(standing: BrokerHealth, suspended: bool) -> Condition:
    """The brokers and the topic."""
    if suspended:
        return Condition(None, "Suspended", "a suspended profile reads no events")
    if standing.auth_error:
        said = f"no broker lets us in: {standing.auth_error}. Mend the connections Secret"
        return Condition(False, "AuthenticationFailed", said)
    if standing.connected is False:
        why = f": {standing.transport_error}" if standing.transport_error else ""
        return Condition(False, "BrokerUnreachable", f"no broker answers{why}")
    if standing.acl_error:
        needs = f"Read on topic {standing.topic} and on group {standing.group}"
        return Condition(False, "NotAuthorized", f"{standing.acl_error}. The Kafka user needs {needs}")
    if standing.topic_missing:
        said = f"topic {standing.topic} does not exist yet; it is waited for"
        return Condition(False, "TopicMissing", said)
    if standing.connected is None:
        return NOT_CONNECTED
    return Condition(True, "Connected")


def relay_condition(exit_: RelaySelection) -> Condition:
    """The relay, as it was when it was last tried."""
    reachable = exit_.relay.reachable
    if exit_.mode == "Log":
        return Condition(True, "LogOnly", "letters are logged, none is sent")
    if reachable is None:
        return Condition(None, "NotAttempted", f"no letter has gone to {exit_.where} yet")
    if reachable:
        return Condition(True, "Reachable")
    said = f"{exit_.where} could not be used when it was last tried: {exit_.relay.last_error}"
    return Condition(False, "RelayUnreachable", said)


def circuit_condition(own: Route, fallback: Route | None) -> Condition:
    """The circuit of the profile's relay, as all its workers know it."""
    phase = own.breaker.phase
    if phase is Phase.CLOSED:
        return Condition(True, "Closed")
    passed = f"letters leave through {fallback.via}" if fallback and fallback.open else "letters wait"
    said = f"{passed} until the relay answers again; the last failure: {own.breaker.circuit.reason}"
    return Condition(False, "Probing" if phase is Phase.HALF_OPEN else "Open", mask_addresses(said))


def fallback_condition(exit_: RelaySelection, missing: Sequence[Problem]) -> Condition:
    """The fallback that the profile asks for."""
    problems = [exit_.fallback_problem] if exit_.fallback_problem else missing
    if problems:
        return refused_condition(problems)
    return Condition(True, "Ready", f"{exit_.fallback.profile} takes over" if exit_.fallback else "")


def status_events_condition(courier: StatusEventPublisher) -> Condition:
    """The producer of status events."""
    if courier.last_error is None:
        return Condition(None, "NotAttempted", "there was no status event to publish yet")
    if courier.last_error:
        return Condition(False, "NotPublished", f"status events wait in the ledger: {courier.last_error}")
    return Condition(True, "Published")


def callbacks_condition(troubles: Iterable[tuple[str, str] | None], reached: bool) -> Condition:
    """The callbacks, from the reason and message of each that a person should see to.

    `reached`: whether any of them has taken a notice.
    """
    found = [each for each in troubles if each]
    if found:
        return Condition(False, found[0][0], "; ".join(message for _, message in found))
    if not reached:
        return Condition(None, "NotAttempted", "none has taken a notice yet")
    return Condition(True, "Called")


def rehearsal_condition(trouble: str) -> Condition:
    """The process in which records are tried after an unclean exit; there is some trouble with it."""
    said = (
        "after an unclean exit, the records that may have been the cause wait to be tried in a process of "
        f"their own, which does not start: {trouble}. It is tried again; the worker's log has its words"
    )
    return Condition(False, "RehearsalNotStarted", said)


def templates_condition(problem: str, read: bool) -> Condition:
    """The bundles of compiled templates."""
    if problem:
        return Condition(False, "BundleUnreadable", problem)
    return Condition(True, "Live") if read else Condition(None, "NotReadYet")
