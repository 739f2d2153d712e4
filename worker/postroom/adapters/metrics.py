"""Prometheus metrics of the worker (counted by group) and of the bounce intake (read at scrape time)."""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
"""Bucket bounds for the way from event to outcome: from a quick relay to a long retry."""

GaugeValues = Mapping[str, tuple[float | None, str]]
"""Name → value and help, for gauges and counters that other components keep. None: unknown."""


class WorkerMetrics:
    """Counters of what became of letters, and facts read at scrape time."""

    def __init__(self, gauges: Callable[[], GaugeValues], counters: Callable[[], GaugeValues]) -> None:
        self.registry = CollectorRegistry()
        self._letters = Counter(
            "postroom_letters",
            "Attempts that were settled, by the state they led to and the problem code, if any.",
            ("state", "code"),
            registry=self.registry,
        )
        self._records = Counter(
            "postroom_records",
            "Records that made no letter of their own, by what they were.",
            ("kind", "code"),
            registry=self.registry,
        )
        self._in_doubt = Counter(
            "postroom_in_doubt",
            "Letters whose relay's answer is unknown, by how that came about.",
            ("cause",),
            registry=self.registry,
        )
        self._callbacks = Counter(
            "postroom_callbacks",
            "Notices to callbacks, by what came of a try: delivered, failed (it is tried again), given_up.",
            ("callback", "result"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "postroom_delivery_duration_seconds",
            "Seconds from the event's record to the relay's acceptance.",
            buckets=DURATION_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(_GaugeCollector(gauges, counters))

    def letters(self, state: str, code: str, count: int) -> None:
        """`count` attempts led to `state`."""
        self._letters.labels(state, code).inc(count)

    def records(self, kind: str, code: str, count: int) -> None:
        """`count` records were malformed, known or tombstones."""
        self._records.labels(kind, code).inc(count)

    def in_doubt(self, cause: str, count: int) -> None:
        """`count` letters fell into doubt."""
        self._in_doubt.labels(cause).inc(count)

    def callbacks(self, name: str, result: str, count: int) -> None:
        """`count` notices to a callback came to this."""
        if count:
            self._callbacks.labels(name, result).inc(count)

    def seconds(self, values: Iterable[float]) -> None:
        """How long accepted letters took."""
        for value in values:
            self._seconds.observe(value)


class _GaugeCollector(Collector):
    """Values that are read at scrape time."""

    def __init__(self, gauges: Callable[[], GaugeValues], counters: Callable[[], GaugeValues]) -> None:
        self._gauges = gauges
        self._counters = counters

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield each value as a family of one sample, or of none if it is unknown."""
        for name, (value, meaning) in self._gauges().items():
            yield GaugeMetricFamily(f"postroom_{name}", meaning, value)
        for name, (value, meaning) in self._counters().items():
            yield CounterMetricFamily(f"postroom_{name}", meaning, value)


REFUSALS = ("recipient", "not_yet", "too_large", "busy", "internal_error")
NOT_STORED = ("known", "unknown_letter", "full", "untied")
NAME = "postroom_bounces"


class BounceCounts(Protocol):
    """What is counted."""

    sessions: int
    refused: collections.Counter[str]
    reports: collections.Counter[str]
    unkept: collections.Counter[str]
    letters: collections.Counter[str]
    suppressed: collections.Counter[str]


class BounceMetrics(Collector):
    """A registry with these figures alone."""

    def __init__(
        self, counts: BounceCounts, open_sessions: Callable[[], int], ready: Callable[[], bool]
    ) -> None:
        self._counts, self._open, self._ready = counts, open_sessions, ready
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Every figure."""
        counts = self._counts
        yield CounterMetricFamily(f"{NAME}_smtp_sessions", "SMTP sessions since the start.", counts.sessions)
        yield GaugeMetricFamily(f"{NAME}_smtp_sessions_open", "SMTP sessions now.", self._open())
        ready = "Whether every ledger and key is there, and the ledgers take reports."
        yield GaugeMetricFamily(f"{NAME}_ready", ready, float(self._ready()))
        help_text = (
            "Messages that were not taken, by why: no return path of ours, a key or ledger away, size."
        )
        yield _by(f"{NAME}_refused", help_text, "reason", counts.refused, REFUSALS)
        yield _by(f"{NAME}_reports", "Reports that were kept, by kind.", "kind", counts.reports)
        help_text = "Reports that were taken and not kept: known, letter forgotten, too many, of no letter."
        yield _by(f"{NAME}_reports_unkept", help_text, "reason", counts.unkept, NOT_STORED)
        yield _by(f"{NAME}_letters", "Letters that a report brought to a state.", "state", counts.letters)
        help_text = "Addresses that a report put on a suppression list."
        yield _by(f"{NAME}_suppressions", help_text, "reason", counts.suppressed)


def _by(
    name: str, help_text: str, label: str, counts: collections.Counter[str], zero: Sequence[str] = ()
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=[label])
    for value in sorted({*zero, *counts}):
        family.add_metric([value], counts[value])
    return family
