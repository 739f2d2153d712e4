"""When to stop knocking at a relay, and who may knock next: (circuit, what was heard, moment) → circuit.

closed → open: so many failures in a row, counted over all workers, nobody having heard a sign of life.
open → half-open: its time is over (`resetAfter`, a fifth more or less, so that circuits don't end together).
open → half-open at once: the Secrets of the relay have changed, a password or a certificate.
half-open → closed or open: one worker's one letter is the probe, and its answer decides. A prober that says
nothing for long is taken for gone, and another may probe.

A refusal of one letter, temporary or not, is a sign of life: the relay is there (RFC 5321 §4.2.1). What says
that it is not: no connection, no greeting, no TLS, no login, 421 (§3.8), a dialogue that was lost. Times are
the ledger's, so that all workers mean the same moment.
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
"""How long a prober may take: a connection that is waited for, and a relay's slow answer."""
NO_PROBER = 0
CLOSING = 421
REASON_LENGTH = 300


class Phase(StrEnum):
    """How a circuit is."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class HealthSignal(Enum):
    """What a result says of the relay."""

    LIFE = "life"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class CircuitRules:
    """A profile's thresholds; `reset_after` in seconds."""

    failures: int
    reset_after: float


@dataclass(frozen=True, slots=True)
class Circuit:
    """One relay's circuit, as all workers know it."""

    failures: int = 0
    """In a row, without a sign of life in between."""
    open_until: float = 0.0
    """0: closed. A moment that is over: half-open."""
    prober: int = NO_PROBER
    """The worker_epoch whose letter is the probe."""
    probe_until: float = 0.0
    reason: str = ""
    """The last failure, in the words of who met it."""


def phase(circuit: Circuit, now: float) -> Phase:
    """How the circuit is at this moment."""
    if not circuit.open_until:
        return Phase.CLOSED
    return Phase.OPEN if now < circuit.open_until else Phase.HALF_OPEN


def health_signal(result: Result) -> HealthSignal | None:
    """What a letter's result says of the relay; None: nothing."""
    match result:
        case Lost():
            return HealthSignal.FAILURE
        case Reply(stage=stage, code=code):
            at_the_door = stage in BEFORE_THE_LETTER or code == CLOSING or code in LOGIN_WANTED
            return HealthSignal.FAILURE if at_the_door else HealthSignal.LIFE
        case _:
            return None


def failure_reason(results: Iterable[Result]) -> str:
    """The last failure among results, for people."""
    said = ""
    for each in results:
        if health_signal(each) is HealthSignal.FAILURE:
            said = f"{each.code} {each.text}" if isinstance(each, Reply) else getattr(each, "reason", "")
    return said[:REASON_LENGTH]


def record_failure(
    circuit: Circuit, rules: CircuitRules, at: LedgerTime, chance: float, reason: str
) -> Circuit:
    """One more failure. What letters meet that were under way when it opened changes nothing any more."""
    if not circuit.open_until:
        counted = replace(circuit, failures=circuit.failures + 1, reason=reason)
        return _open(counted, rules, at, chance) if counted.failures >= rules.failures else counted
    if circuit.prober == at.worker_epoch:
        return _open(replace(circuit, reason=reason), rules, at, chance)
    return circuit


def record_success(circuit: Circuit, at: LedgerTime) -> Circuit:
    """A sign of life. An open circuit is closed by its prober alone: what others hear is older."""
    if not circuit.open_until or circuit.prober == at.worker_epoch:
        return Circuit()
    return circuit


def start_probe(circuit: Circuit, at: LedgerTime) -> Circuit:
    """Ask to be the one who probes; granted where `prober` is who asked."""
    free = circuit.prober == NO_PROBER or circuit.probe_until <= at.now
    if phase(circuit, at.now) is Phase.HALF_OPEN and free:
        return replace(circuit, prober=at.worker_epoch, probe_until=at.now + PROBE_SECONDS)
    return circuit


def retry_now(circuit: Circuit, now: float) -> Circuit:
    """What kept the relay away may be mended: whoever comes first may try an open circuit at once."""
    if phase(circuit, now) is Phase.OPEN:
        return replace(circuit, open_until=now, prober=NO_PROBER, probe_until=0.0)
    return circuit


def release_probe(circuit: Circuit, at: LedgerTime) -> Circuit:
    """The prober has no answer and will have none: somebody else may probe at once."""
    return (
        replace(circuit, prober=NO_PROBER, probe_until=0.0) if circuit.prober == at.worker_epoch else circuit
    )


def write_circuit(circuit: Circuit) -> str:
    """The circuit as an accord's text; empty when there is nothing to say."""
    return "" if circuit == Circuit() else json.dumps(asdict(circuit))


def read_circuit(text: str) -> Circuit:
    """The circuit of an accord's text."""
    return Circuit(**json.loads(text)) if text else Circuit()


def _open(circuit: Circuit, rules: CircuitRules, at: LedgerTime, chance: float) -> Circuit:
    seconds = rules.reset_after * (1 + CIRCUIT_JITTER * (2 * chance - 1))
    return replace(circuit, open_until=at.now + seconds, prober=NO_PROBER, probe_until=0.0)
