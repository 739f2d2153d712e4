"""One worker's view of the state that all workers of its ledger share: circuits, rates, recipients.

Each class reads and changes one kind of shared text: `sync` reports what this worker saw since the last call
and reads the common state, which is used until the next call. The rules are pure functions of `policy`; they
run inside the ledger's transaction, possibly more than once.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b

from postroom.policy import circuit_breaker, rates
from postroom.policy.circuit_breaker import Circuit, CircuitRules, HealthSignal, Phase
from postroom.ports.ledger import DAY_SECONDS, Ledger, LedgerTime, SharedState
from postroom.ports.relay import Rate, Result
from postroom.ports.world import Clock

SAME_CAUSE_SECONDS = 1.0
"""Failures within this time count as one: connections that break together have one cause."""
UNUSED_PROBE_SECONDS = 3.0
"""A worker that may probe and had no letter for this long gives the probe back.

Letters that wait in the ledger are recalled sooner."""


class RelayCircuit:
    """The circuit of one relay: results of this worker, and the state that all workers share."""

    def __init__(self, relay: str, rules: CircuitRules, ledger: Ledger, clock: Clock) -> None:
        """`relay`: the profile that owns it, `namespace/name`."""
        self._subject = f"circuit {relay}"
        self._rules, self._ledger, self._clock = rules, ledger, clock
        self.circuit = Circuit()
        self._ledger_offset = 0.0
        """The ledger's time less this process's monotonic time."""
        self._failures: list[str] = []
        self._failed_at = -SAME_CAUSE_SECONDS
        self._lives = self._gives_up = False
        self._wanted = True
        """A letter found the circuit open, so that a probe is useful; true at the start."""
        self._granted = self._probing = self._probed = False
        self._granted_at = 0.0
        self._retries = False
        """The cause of the failures may be gone, so that a probe is due now."""

    @property
    def phase(self) -> Phase:
        """The phase of the circuit by the last common state."""
        if not self.circuit.open_until:
            return Phase.CLOSED
        return circuit_breaker.phase(self.circuit, self._clock.monotonic() + self._ledger_offset)

    @property
    def may_probe(self) -> bool:
        """Whether the next letter is the probe."""
        return self._granted and not self._probing

    @property
    def has_news(self) -> bool:
        """Whether there are results that the other workers do not have yet."""
        return bool(self._failures) or self._lives or self._gives_up

    @property
    def seconds_left(self) -> float:
        """Seconds until the circuit may be probed."""
        return max(0.0, self.circuit.open_until - self._clock.monotonic() - self._ledger_offset)

    def begin_probe(self) -> None:
        """Note that the probe was given to the relay."""
        self._probing = True

    def retry(self) -> None:
        """Allow a probe before the circuit's time, because the cause of the failures may be gone."""
        self._retries = True

    def note_waiting_letter(self) -> None:
        """Note that a letter found the circuit open."""
        self._wanted = True

    def record_results(self, results: Sequence[Result], probe: bool) -> None:
        """Record results of the relay; `probe`: the probe is among them."""
        self._probed = self._probed or probe
        for result in results:
            match circuit_breaker.health_signal(result):
                case HealthSignal.LIFE:
                    self._failures.clear()
                    self._lives = self._lives or probe or self.circuit.failures > 0
                case HealthSignal.FAILURE:
                    self._note_failure(circuit_breaker.failure_reason([result]), probe)
                case None:
                    self._gives_up = self._gives_up or probe

    async def sync(self) -> None:
        """Add this worker's results to the common state, and read it."""
        failures, self._failures = self._failures, []
        lives, self._lives = self._lives, False
        gives_up, self._gives_up = self._return_unused_probe() or self._gives_up, False
        retries, self._retries = self._retries, False
        probe_ended, self._probed = self._probed, False
        probing = self.circuit.prober != circuit_breaker.NO_PROBER
        chance, wanted, read_at = self._clock.random(), self._wanted, LedgerTime(0.0, 0)

        def change(_subject: str, text: str, at: LedgerTime) -> SharedState:
            nonlocal read_at
            read_at, circuit = at, circuit_breaker.read_circuit(text)
            if lives:
                circuit = circuit_breaker.record_success(circuit, at)
            for reason in failures:  # they are all later than the last success
                circuit = circuit_breaker.record_failure(circuit, self._rules, at, chance, reason)
            if gives_up:
                circuit = circuit_breaker.release_probe(circuit, at)
            if retries:
                circuit = circuit_breaker.retry_now(circuit, at.now)
            return SharedState(
                circuit_breaker.write_circuit(circuit_breaker.start_probe(circuit, at) if wanted else circuit)
            )

        [text] = await self._ledger.update_shared([self._subject], change)
        self.circuit = circuit_breaker.read_circuit(text)
        self._ledger_offset = read_at.now - self._clock.monotonic()
        if probe_ended or not self._granted:
            self._granted_at = self._clock.monotonic()
        self._granted = self.circuit.prober == read_at.worker_epoch
        if probe_ended or not self._granted:  # a new grant needs another letter
            self._probing = False
        if not self.circuit.open_until:
            self._wanted = False
        elif probing:
            self._retries = retries  # the running probe may have started before the cause was gone

    def _return_unused_probe(self) -> bool:
        """Give the probe back if no letter came to use it; returns whether it was given back."""
        unused = self.may_probe and self._clock.monotonic() - self._granted_at >= UNUSED_PROBE_SECONDS
        if unused:
            self._granted = self._wanted = False
        return unused

    def _note_failure(self, reason: str, probe: bool) -> None:
        now, self._wanted = self._clock.monotonic(), True
        if probe or now - self._failed_at >= SAME_CAUSE_SECONDS:
            self._failures.append(reason)
            self._failed_at = now


class RateShare:
    """This worker's share of the rate of one relay."""

    def __init__(self, relay: str, rate: Rate, ledger: Ledger) -> None:
        self._subject = f"rate {relay}"
        self._rate, self._ledger = rate, ledger
        self.count = 0
        """Letters that this worker may send in the rate's period."""

    @property
    def rate(self) -> Rate:
        """The rate of this worker."""
        return Rate(self.count, self._rate.seconds)

    async def sync(self) -> None:
        """Take or renew the share."""
        await self._update(lambda shares, at: rates.divide_rate(shares, self._rate.count, at))

    async def release(self) -> None:
        """Give the share up."""
        await self._update(rates.leave_shares)

    async def _update(self, decide: Callable[[rates.Shares, LedgerTime], rates.Shares]) -> None:
        worker_epoch = 0

        def change(_subject: str, text: str, at: LedgerTime) -> SharedState:
            nonlocal worker_epoch
            worker_epoch = at.worker_epoch
            return SharedState(rates.write_shares(decide(rates.read_shares(text), at)))

        [text] = await self._ledger.update_shared([self._subject], change)
        own = rates.read_shares(text).get(worker_epoch)
        self.count = own.count if own else 0


class RecipientRateLimiter:
    """Limits the letters to each recipient, counted over all workers of a profile."""

    def __init__(self, profile: str, rate: Rate, ledger: Ledger) -> None:
        self._profile, self._rate, self._ledger = profile, rate, ledger

    async def admit(self, recipients: Sequence[str]) -> list[float]:
        """For each recipient 0.0 if a letter may be sent now, otherwise the seconds to wait."""
        subjects = [self._subject(recipient) for recipient in recipients]
        wanted = Counter(subjects)
        results: dict[str, tuple[int, float]] = {}

        def change(subject: str, text: str, at: LedgerTime) -> SharedState:
            marks, allowed, wait = rates.admit_recipients(
                rates.read_marks(text), wanted[subject], self._rate, at.now
            )
            results[subject] = allowed, wait
            return SharedState(
                rates.write_marks(marks), keep_seconds=min(self._rate.seconds, 366 * DAY_SECONDS)
            )

        await self._ledger.update_shared(sorted(wanted), change)
        waits = []
        for subject in subjects:
            allowed, wait = results[subject]
            results[subject] = allowed - 1, wait
            waits.append(0.0 if allowed > 0 else wait)
        return waits

    def _subject(self, recipient: str) -> str:
        """Contains a digest: counting needs no address."""
        key = f"{self._profile} {recipient.lower()}".encode()
        return f"pace {blake2b(key, digest_size=16).hexdigest()}"
