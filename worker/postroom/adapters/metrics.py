"""The worker's figures for Prometheus. Counted a batch at a time, never a letter at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
"""Bucket bounds for the way from event to outcome: from a quick relay to a long retry."""

Facts = Mapping[str, tuple[float | None, str]]
"""Name → value and help, for gauges and counters that somebody else keeps. None: nobody knows it."""


class Metrics:
    """Counters of what became of letters, and facts read at scrape time."""

    def __init__(self, gauges: Callable[[], Facts], counters: Callable[[], Facts]) -> None:
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
        self._doubts = Counter(
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
            buckets=SECONDS,
            registry=self.registry,
        )
        self.registry.register(_Facts(gauges, counters))

    def letters(self, state: str, code: str, count: int) -> None:
        """`count` attempts led to `state`."""
        self._letters.labels(state, code).inc(count)

    def records(self, kind: str, code: str, count: int) -> None:
        """`count` records were malformed, known or tombstones."""
        self._records.labels(kind, code).inc(count)

    def doubts(self, cause: str, count: int) -> None:
        """`count` letters fell into doubt."""
        self._doubts.labels(cause).inc(count)

    def callbacks(self, name: str, result: str, count: int) -> None:
        """`count` notices to a callback came to this."""
        if count:
            self._callbacks.labels(name, result).inc(count)

    def seconds(self, values: Iterable[float]) -> None:
        """How long accepted letters took."""
        for value in values:
            self._seconds.observe(value)


class _Facts(Collector):
    """Facts that are read when somebody asks."""

    def __init__(self, gauges: Callable[[], Facts], counters: Callable[[], Facts]) -> None:
        self._gauges = gauges
        self._counters = counters

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Every fact as a family of one sample; of none, while nobody knows it."""
        for name, (value, meaning) in self._gauges().items():
            yield GaugeMetricFamily(f"postroom_{name}", meaning, value)
        for name, (value, meaning) in self._counters().items():
            yield CounterMetricFamily(f"postroom_{name}", meaning, value)
