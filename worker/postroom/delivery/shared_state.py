"""One worker's view of what all workers of its ledger agree on: circuits, shares of a rate, recipients.

What is heard here is told to the ledger at the next look; what was agreed there holds here until the look
after it. Nothing is decided: the tables in `decide` are, inside the ledger's transaction.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

from postroom.policy import circuit_breaker, rates
from postroom.policy.circuit_breaker import Circuit, CircuitRules, HealthSignal, Phase
from postroom.ports.ledger import DAY_SECONDS, LedgerTime, SharedState, Update
from postroom.ports.relay import Rate, Result
from postroom.ports.world import Clock

SAME_CAUSE_SECONDS = 1.0
"""Failures within so long of each other are one: connections that break together have one cause."""
UNUSED_PROBE_SECONDS = 3.0
"""Who may probe and has no letter for so long lets another; those in the ledger are found sooner."""


class Agreeing(Protocol):
    """The part of a ledger that accords need."""

    async def update_shared(self, subjects: Sequence[str], change: Update) -> Sequence[str]: ...


class RelayCircuit:
    """One relay's circuit as this worker knows it."""

    def __init__(self, relay: str, rules: CircuitRules, ledger: Agreeing, clock: Clock) -> None:
        """`relay`: whose it is, `namespace/profile`."""
        self._subject = f"circuit {relay}"
        self._rules, self._ledger, self._clock = rules, ledger, clock
        self.circuit = Circuit()
        self._ahead = 0.0
        """The ledger's time less this process's monotonic time."""
        self._failures: list[str] = []
        self._failed_at = -SAME_CAUSE_SECONDS
        self._lives = self._gives_up = False
        self._wanted = True
        """A letter would have gone, had the circuit been closed; at the start nobody knows."""
        self._granted = self._probing = self._probed = False
        self._granted_at = 0.0
        self._retries = False
        """What kept the relay away may be mended."""

    @property
    def phase(self) -> Phase:
        """How the circuit is now, as far as this worker knows."""
        if not self.circuit.open_until:
            return Phase.CLOSED
        return circuit_breaker.phase(self.circuit, self._clock.monotonic() + self._ahead)

    @property
    def may_probe(self) -> bool:
        """Whether the next letter is the probe."""
        return self._granted and not self._probing

    @property
    def news(self) -> bool:
        """Whether something was heard that the other workers should know."""
        return bool(self._failures) or self._lives or self._gives_up

    @property
    def seconds_left(self) -> float:
        """Until the circuit may be tried again."""
        return max(0.0, self.circuit.open_until - self._clock.monotonic() - self._ahead)

    def begin_probe(self) -> None:
        """The probe is on its way."""
        self._probing = True

    def retry(self) -> None:
        """What kept the relay away may be mended: don't wait for the circuit's time."""
        self._retries = True

    def note_waiting_letter(self) -> None:
        """A letter found the circuit open."""
        self._wanted = True

    def hear(self, results: Sequence[Result], probe: bool) -> None:
        """Take in what came back from the relay; `probe`: the letter that decides is among them."""
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

    async def look(self) -> None:
        """Tell what was heard, learn what is agreed."""
        failures, self._failures = self._failures, []
        lives, self._lives = self._lives, False
        gives_up, self._gives_up = self._hand_back_unused() or self._gives_up, False
        retries, self._retries = self._retries, False
        over, self._probed = self._probed, False
        under_way = self.circuit.prober != circuit_breaker.NO_PROBER
        chance, wanted, seen = self._clock.random(), self._wanted, LedgerTime(0.0, 0)

        def change(_subject: str, text: str, at: LedgerTime) -> SharedState:
            nonlocal seen
            seen, circuit = at, circuit_breaker.read_circuit(text)
            if lives:
                circuit = circuit_breaker.record_success(circuit, at)
            for reason in failures:  # all of them later than the sign of life
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
        self._ahead = seen.now - self._clock.monotonic()
        if over or not self._granted:
            self._granted_at = self._clock.monotonic()
        self._granted = self.circuit.prober == seen.worker_epoch
        if over or not self._granted:  # whoever is granted it anew needs another letter
            self._probing = False
        if not self.circuit.open_until:
            self._wanted = False
        elif under_way:
            self._retries = retries  # the probe under way may have left before it was mended

    def _hand_back_unused(self) -> bool:
        """Ask for no probe any more where the next letter has been it for long, and there was none."""
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
    """This worker's share of a relay's rate."""

    def __init__(self, relay: str, rate: Rate, ledger: Agreeing) -> None:
        self._subject = f"rate {relay}"
        self._rate, self._ledger = rate, ledger
        self.count = 0
        """Letters in the rate's period that are this worker's."""

    @property
    def rate(self) -> Rate:
        """What this worker may hand over."""
        return Rate(self.count, self._rate.seconds)

    async def look(self) -> None:
        """Take or renew the share."""
        await self._agree(lambda shares, at: rates.divide_rate(shares, self._rate.count, at))

    async def leave(self) -> None:
        """Give it up."""
        await self._agree(rates.leave_shares)

    async def _agree(self, decide: "Division") -> None:
        me = 0

        def change(_subject: str, text: str, at: LedgerTime) -> SharedState:
            nonlocal me
            me = at.worker_epoch
            return SharedState(rates.write_shares(decide(rates.read_shares(text), at)))

        [text] = await self._ledger.update_shared([self._subject], change)
        mine = rates.read_shares(text).get(me)
        self.count = mine.count if mine else 0


class Division(Protocol):
    """A table of decide.share."""

    def __call__(self, shares: rates.Shares, at: LedgerTime) -> rates.Shares: ...


class RecipientRateLimiter:
    """How often recipients are written to, counted over all workers of a profile."""

    def __init__(self, profile: str, rate: Rate, ledger: Agreeing) -> None:
        self._profile, self._rate, self._ledger = profile, rate, ledger

    async def admit(self, recipients: Sequence[str]) -> list[float]:
        """For each recipient 0.0 where a letter may go now, else the seconds until one may."""
        subjects = [self._subject(each) for each in recipients]
        wanted = Counter(subjects)
        answers: dict[str, tuple[int, float]] = {}

        def change(subject: str, text: str, at: LedgerTime) -> SharedState:
            marks, going, wait = rates.admit_recipients(
                rates.read_marks(text), wanted[subject], self._rate, at.now
            )
            answers[subject] = going, wait
            return SharedState(
                rates.write_marks(marks), keep_seconds=min(self._rate.seconds, 366 * DAY_SECONDS)
            )

        await self._ledger.update_shared(sorted(wanted), change)
        waits = []
        for each in subjects:
            going, wait = answers[each]
            answers[each] = going - 1, wait
            waits.append(0.0 if going > 0 else wait)
        return waits

    def _subject(self, recipient: str) -> str:
        """A digest: no address is needed to count by."""
        words = f"{self._profile} {recipient.lower()}".encode()
        return f"pace {blake2b(words, digest_size=16).hexdigest()}"
