"""Report the progress of the pipeline to metrics and log: once for each group, never for each letter."""

from collections import Counter
from datetime import datetime

import structlog

from postroom.adapters.metrics import WorkerMetrics
from postroom.letter.address import mask_address, mask_addresses
from postroom.letter.problems import Problem
from postroom.policy.outcomes import (
    Accepted,
    Finish,
    InDoubt,
    Malformed,
    NoTemplate,
    Park,
    Progress,
    Release,
    Settled,
    TryAgain,
)
from postroom.ports.ledger import Letter, State
from postroom.ports.world import Clock

log = structlog.get_logger("postroom.delivery")


class Reporter:
    """Counts and logs progress; keeps totals for /statusz."""

    def __init__(self, metrics: WorkerMetrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self.totals: Counter[str] = Counter()
        self.last_refusal = ""
        """The last malformed record and its problem."""

    def take(self, progress: Progress) -> None:
        """Count and log one group."""
        self._settled(progress.settled, self._clock.now())
        self._refused(progress.malformed)
        tombstones = sum(record.value is None for record in progress.duplicates)
        for kind, count in (("known", len(progress.duplicates) - tombstones), ("tombstone", tombstones)):
            if count:
                self._metrics.records(kind, "", count)
        if progress.taken_in_doubt:
            self._metrics.in_doubt("worker_died", progress.taken_in_doubt)
            log.warning(
                "letters in doubt: a worker died while it sent them",
                count=progress.taken_in_doubt,
            )

    def _refused(self, malformed: list[Malformed]) -> None:
        if not malformed:
            return
        self.totals["dead_letters"] += len(malformed)
        kinds = Counter(entry.problems[0].code.value for entry in malformed)
        firsts = {entry.problems[0].code.value: entry for entry in reversed(malformed)}
        for code, count in kinds.items():
            self._metrics.records("malformed", code, count)
            first = firsts[code]
            place = f"{first.record.topic}/{first.record.partition}/{first.record.offset}"
            log.warning(
                "malformed records; publishing them to the dead-letter topic",
                count=count,
                first=place,
                problem=mask_addresses(str(first.problems[0])),
            )
            self.last_refusal = f"{place}: {mask_addresses(str(first.problems[0]))}"

    def _settled(self, settled: list[Settled], now: datetime) -> None:
        kinds: Counter[tuple[str, str]] = Counter()
        examples: dict[tuple[str, str], Settled] = {}
        for entry in settled:
            state, problem = ending(entry)
            kind = (state, problem.code.value if problem else "")
            kinds[kind] += 1
            examples.setdefault(kind, entry)
        for (state, code), count in kinds.items():
            self.totals[state] += count
            self._metrics.letters(state, code, count)
            if code and not waits_on(examples[state, code]):
                self._log_example(examples[state, code], state, count)
        in_doubt = sum(isinstance(entry.outcome, InDoubt) and not entry.outcome.counted for entry in settled)
        if in_doubt:
            self._metrics.in_doubt("no_reply_to_end_of_data", in_doubt)
        self._metrics.seconds(
            (now - entry.claimed.letter.record.timestamp).total_seconds()
            for entry in settled
            if isinstance(entry.outcome, Accepted)
        )

    def _log_example(self, entry: Settled, state: str, count: int) -> None:
        letter, problem = entry.claimed.letter, ending(entry)[1]
        log_line = log.info if state in (State.DEFERRED, State.SCHEDULED) else log.warning
        log_line(
            f"letters {state}",
            count=count,
            first=letter.identity.id,
            recipient=mask_address(letter.identity.recipient),
            problem=mask_addresses(str(problem)),
            **_origin(letter),
        )


def _origin(letter: Letter) -> dict[str, str]:
    """Return the template of a letter, or its event type if there was no template."""
    if letter.template:
        return {"template": f"{letter.template}@{letter.revision}"}
    return {"event_type": letter.event.type}


def waits_on(entry: Settled) -> bool:
    """Whether a letter still waits for its template, which was logged when it started to wait."""
    return (
        isinstance(entry.outcome, NoTemplate)
        and isinstance(entry.step, TryAgain)
        and not entry.claimed.from_topic
    )


def ending(entry: Settled) -> tuple[str, Problem | None]:
    """Return the state that a letter moved to, and the problem."""
    match entry.step:
        case Finish(state=state, problem=problem) | TryAgain(state=state, problem=problem):
            return state.value, problem
        case Park(problem=problem):
            return State.IN_DOUBT.value, problem
        case Release():
            return "released", None
