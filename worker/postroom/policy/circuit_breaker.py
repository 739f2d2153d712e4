"""The circuit breaker of a relay, pure: (circuit, result, ledger time) → circuit.

closed → open: `failures` consecutive failures, counted over all workers, without a success in between.
open → half-open: after `resetAfter`, with 20 % jitter so that circuits do not reset at the same time.
open → half-open at once: a Secret of the relay has changed (password, certificate).
half-open → closed or open: the result of the probe, which is one letter of one worker. If the prober does not
report for PROBE_SECONDS, another worker may probe.

A reply to a letter counts as a success, even a rejection, because the relay works (RFC 5321 §4.2.1).
Failures are: no connection, no greeting, no TLS, failed authentication, 421 (§3.8) and a lost connection.
All times are the ledger's, so that workers with different clocks agree.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import Enum, StrEnum

from postroom.policy.replies import BEFORE_THE_LETTER, LOGIN_WANTED
from postroom.ports.ledger import LedgerTime
from postroom.ports.relay import Lost, Reply, Result

CIRCUIT_JITTER = 0.2
PROBE_SECONDS = 90.0
"""How long a probe may take, including the connection and a slow reply."""
NO_PROBER = 0
CLOSING = 421
REASON_LENGTH = 300


class Phase(StrEnum):
    """The phase of a circuit."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class HealthSignal(Enum):
    """What a result means for the relay's health."""

    LIFE = "life"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class CircuitRules:
    """A profile's thresholds; `reset_after` in seconds."""

    failures: int
    reset_after: float


@dataclass(frozen=True, slots=True)
class Circuit:
    """The circuit of one relay, as all workers share it."""

    failures: int = 0
    """Consecutive failures without a success in between."""
    open_until: float = 0.0
    """0: closed. A time in the past: half-open. In the ledger's time."""
    prober: int = NO_PROBER
    """The worker_epoch whose letter is the probe."""
    probe_until: float = 0.0
    reason: str = ""
    """The last failure, as the worker that had it described it."""


def phase(circuit: Circuit, now: float) -> Phase:
    """Return the phase at this time."""
    if not circuit.open_until:
        return Phase.CLOSED
    return Phase.OPEN if now < circuit.open_until else Phase.HALF_OPEN


def health_signal(result: Result) -> HealthSignal | None:
    """Return what a result means for the relay's health; None: nothing."""
    match result:
        case Lost():
            return HealthSignal.FAILURE
        case Reply(stage=stage, code=code):
            is_failure = stage in BEFORE_THE_LETTER or code == CLOSING or code in LOGIN_WANTED
            return HealthSignal.FAILURE if is_failure else HealthSignal.LIFE
        case _:
            return None


def failure_reason(results: Iterable[Result]) -> str:
    """Describe the last failure among results."""
    reason = ""
    for result in results:
        if health_signal(result) is HealthSignal.FAILURE:
            reason = (
                f"{result.code} {result.text}" if isinstance(result, Reply) else getattr(result, "reason", "")
            )
    return reason[:REASON_LENGTH]


def record_failure(
    circuit: Circuit, rules: CircuitRules, at: LedgerTime, chance: float, reason: str
) -> Circuit:
    """Count a failure. While the circuit is open, only the prober's result has an effect."""
    if not circuit.open_until:
        counted = replace(circuit, failures=circuit.failures + 1, reason=reason)
        return _open(counted, rules, at, chance) if counted.failures >= rules.failures else counted
    if circuit.prober == at.worker_epoch:
        return _open(replace(circuit, reason=reason), rules, at, chance)
    return circuit


def record_success(circuit: Circuit, at: LedgerTime) -> Circuit:
    """Record a success. Only the prober closes an open circuit: results of other workers are older."""
    if not circuit.open_until or circuit.prober == at.worker_epoch:
        return Circuit()
    return circuit


def start_probe(circuit: Circuit, at: LedgerTime) -> Circuit:
    """Request the probe for this worker; it is granted if `prober` is the worker's epoch afterwards."""
    free = circuit.prober == NO_PROBER or circuit.probe_until <= at.now
    if phase(circuit, at.now) is Phase.HALF_OPEN and free:
        return replace(circuit, prober=at.worker_epoch, probe_until=at.now + PROBE_SECONDS)
    return circuit


def retry_now(circuit: Circuit, now: float) -> Circuit:
    """Make an open circuit half-open at once, because the cause of the failures may be gone."""
    if phase(circuit, now) is Phase.OPEN:
        return replace(circuit, open_until=now, prober=NO_PROBER, probe_until=0.0)
    return circuit


def release_probe(circuit: Circuit, at: LedgerTime) -> Circuit:
    """Release the probe of a worker that will get no result; another worker may probe at once."""
    return (
        replace(circuit, prober=NO_PROBER, probe_until=0.0) if circuit.prober == at.worker_epoch else circuit
    )


def write_circuit(circuit: Circuit) -> str:
    """Encode the circuit as shared state; the initial circuit is empty text."""
    return "" if circuit == Circuit() else json.dumps(asdict(circuit))


def read_circuit(text: str) -> Circuit:
    """Decode the circuit from shared state."""
    return Circuit(**json.loads(text)) if text else Circuit()


def _open(circuit: Circuit, rules: CircuitRules, at: LedgerTime, chance: float) -> Circuit:
    seconds = rules.reset_after * (1 + CIRCUIT_JITTER * (2 * chance - 1))
    return replace(circuit, open_until=at.now + seconds, prober=NO_PROBER, probe_until=0.0)
