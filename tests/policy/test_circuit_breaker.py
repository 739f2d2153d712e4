"""When a circuit opens, who probes, and when it closes: over all workers, in the ledger's time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from postroom.policy import circuit_breaker
from postroom.policy.circuit_breaker import (
    PROBE_SECONDS,
    Circuit,
    CircuitRules,
    HealthSignal,
    Phase,
    health_signal,
    phase,
)
from postroom.ports.ledger import LedgerTime
from postroom.ports.relay import HoldReason, Lost, NotSent, Postponed, Reply, Result, Stage

RULES = CircuitRules(failures=5, reset_after=60.0)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Lost(Stage.CONNECT, False, "refused"), HealthSignal.FAILURE),
        (Lost(Stage.TLS, False, "bad certificate"), HealthSignal.FAILURE),
        (Lost(Stage.AUTH, False, "535 no"), HealthSignal.FAILURE),
        (Lost(Stage.RCPT, False, "reset"), HealthSignal.FAILURE),
        (Lost(Stage.END_OF_DATA, True, "reset"), HealthSignal.FAILURE),
        (Reply(Stage.CONNECT, 421, "busy"), HealthSignal.FAILURE),
        (Reply(Stage.MAIL, 421, "closing"), HealthSignal.FAILURE),
        (Reply(Stage.MAIL, 530, "login first"), HealthSignal.FAILURE),
        (Reply(Stage.RCPT, 450, "mailbox busy"), HealthSignal.LIFE),
        (Reply(Stage.RCPT, 550, "unknown"), HealthSignal.LIFE),
        (Reply(Stage.END_OF_DATA, 554, "spam"), HealthSignal.LIFE),
        (Reply(Stage.END_OF_DATA, 250, "ok"), HealthSignal.LIFE),
        (NotSent(fenced=True), None),
        (Postponed(HoldReason.RATE, 1, ""), None),
    ],
)
def test_what_a_result_says_of_the_relay(result: Result, expected: HealthSignal | None) -> None:
    assert health_signal(result) is expected


def fails(circuit: Circuit, times: int, now: float = 0.0, me: int = 1) -> Circuit:
    for _ in range(times):
        circuit = circuit_breaker.record_failure(circuit, RULES, LedgerTime(now, me), 0.5, "refused")
    return circuit


def test_it_opens_at_the_last_of_so_many_failures_in_a_row_whoever_met_them() -> None:
    circuit = fails(fails(Circuit(), 3, me=1), 1, me=2)
    assert phase(circuit, 0.0) is Phase.CLOSED
    circuit = fails(circuit, 1, me=3)
    assert phase(circuit, 0.0) is Phase.OPEN
    assert circuit.open_until == 60.0
    assert circuit.reason == "refused"


def test_a_sign_of_life_begins_the_count_anew() -> None:
    circuit = circuit_breaker.record_success(fails(Circuit(), 4), LedgerTime(1.0, 2))
    assert circuit == Circuit()
    assert phase(fails(circuit, 4), 1.0) is Phase.CLOSED


def test_circuits_that_open_together_do_not_end_together() -> None:
    ends = [
        circuit_breaker.record_failure(fails(Circuit(), 4), RULES, LedgerTime(0.0, 1), chance, "").open_until
        for chance in (0.0, 0.5, 1.0)
    ]
    assert ends == [48.0, 60.0, 72.0]


def test_one_worker_probes_and_its_answer_decides() -> None:
    opened = fails(Circuit(), 5)
    assert circuit_breaker.start_probe(opened, LedgerTime(59.0, 1)) == opened
    half = circuit_breaker.start_probe(opened, LedgerTime(61.0, 1))
    assert half.prober == 1
    assert circuit_breaker.start_probe(half, LedgerTime(62.0, 2)) == half
    # what others hear is of letters that went before
    assert circuit_breaker.record_success(half, LedgerTime(62.0, 2)) == half
    assert fails(half, 1, 62.0, me=2) == half
    assert circuit_breaker.record_success(half, LedgerTime(62.0, 1)) == Circuit()
    again = fails(half, 1, 62.0, me=1)
    assert phase(again, 62.0) is Phase.OPEN
    assert (again.open_until, again.prober) == (122.0, circuit_breaker.NO_PROBER)


def test_a_prober_that_is_gone_or_gives_up_makes_room_for_another() -> None:
    half = circuit_breaker.start_probe(fails(Circuit(), 5), LedgerTime(61.0, 1))
    assert (
        circuit_breaker.start_probe(
            circuit_breaker.release_probe(half, LedgerTime(62.0, 1)), LedgerTime(62.0, 2)
        ).prober
        == 2
    )
    assert circuit_breaker.release_probe(half, LedgerTime(62.0, 2)) == half
    assert circuit_breaker.start_probe(half, LedgerTime(61.0 + PROBE_SECONDS, 2)).prober == 2


def test_what_may_be_mended_is_tried_before_the_circuits_time_is_over() -> None:
    opened = fails(Circuit(), 5)
    half = circuit_breaker.retry_now(opened, 10.0)
    assert phase(half, 10.0) is Phase.HALF_OPEN
    assert circuit_breaker.start_probe(half, LedgerTime(10.0, 2)).prober == 2
    # a probe that is under way decides, and a closed circuit has nothing to try
    probing = circuit_breaker.start_probe(half, LedgerTime(10.0, 2))
    assert circuit_breaker.retry_now(probing, 11.0) == probing
    assert circuit_breaker.retry_now(Circuit(failures=3), 11.0) == Circuit(failures=3)


@given(
    st.builds(
        Circuit, st.integers(0, 9), st.floats(0, 1e10), st.integers(0, 99), st.floats(0, 1e10), st.text()
    )
)
def test_a_circuit_is_read_as_it_was_written(circuit: Circuit) -> None:
    assert circuit_breaker.read_circuit(circuit_breaker.write_circuit(circuit)) == circuit


class CircuitOfWorkers(RuleBasedStateMachine):
    """Workers that hear, ask and vanish, in any order."""

    @initialize(failures=st.integers(1, 4), reset=st.floats(1, 100))
    def begin(self, failures: int, reset: float) -> None:
        self.limits = CircuitRules(failures, reset)
        self.circuit, self.now, self.row = Circuit(), 0.0, 0

    def at(self, me: int) -> LedgerTime:
        return LedgerTime(self.now, me)

    @rule(seconds=st.floats(0.1, 200))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(me=st.integers(1, 3), chance=st.floats(0, 1))
    def fails(self, me: int, chance: float) -> None:
        before = phase(self.circuit, self.now)
        probing = self.circuit.prober == me
        self.circuit = circuit_breaker.record_failure(
            self.circuit, self.limits, self.at(me), chance, "refused"
        )
        self.row += before is Phase.CLOSED
        if before is Phase.CLOSED:
            expected = Phase.OPEN if self.row >= self.limits.failures else Phase.CLOSED
            assert phase(self.circuit, self.now) is expected
        else:
            assert phase(self.circuit, self.now) is (Phase.OPEN if probing else before)

    @rule(me=st.integers(1, 3))
    def lives(self, me: int) -> None:
        before, probing = phase(self.circuit, self.now), self.circuit.prober == me
        self.circuit = circuit_breaker.record_success(self.circuit, self.at(me))
        if before is Phase.CLOSED or probing:
            self.row = 0
            assert self.circuit == Circuit()
        else:
            assert phase(self.circuit, self.now) is before

    @rule(me=st.integers(1, 3))
    def asks(self, me: int) -> None:
        holder, until = self.circuit.prober, self.circuit.probe_until
        self.circuit = circuit_breaker.start_probe(self.circuit, self.at(me))
        if self.circuit.prober not in (holder, circuit_breaker.NO_PROBER):
            assert holder == circuit_breaker.NO_PROBER or until <= self.now

    @rule(me=st.integers(1, 3))
    def gives_up(self, me: int) -> None:
        self.circuit = circuit_breaker.release_probe(self.circuit, self.at(me))

    @invariant()
    def only_an_ended_circuit_is_probed(self) -> None:
        if hasattr(self, "circuit") and self.circuit.prober:
            assert phase(self.circuit, self.now) is Phase.HALF_OPEN


TestCircuitOfWorkers = pytest.mark.searches(CircuitOfWorkers.TestCase)
TestCircuitOfWorkers.settings = settings(deadline=None)
