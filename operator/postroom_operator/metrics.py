"""The metrics of the operator, for Prometheus."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from postroom_operator.models import ObjectReadiness

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class OperatorMetrics:
    """The counters of one process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._reconciles = Counter(
            "postroom_operator_reconciles_total",
            "Reconciles by kind of key and outcome: done, refused, retry, failed, or namespace_terminating.",
            ("kind", "outcome"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "postroom_operator_reconcile_seconds",
            "Duration of a reconcile in seconds.",
            ("kind",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._requests = Counter(
            "postroom_operator_requests_total",
            "Requests to the API server by verb, kind of object and outcome: ok, the status, or unreachable.",
            ("verb", "kind", "outcome"),
            registry=self.registry,
        )
        self._resync = Gauge(
            "postroom_operator_last_resync_timestamp_seconds",
            "Time of the last complete listing of the cluster; absent before the first, and at a standby.",
            registry=None,
        )
        self._listed = False

    def count_reconcile(self, kind: str, outcome: str, seconds: float) -> None:
        """Count a reconcile that has ended."""
        self._reconciles.labels(kind, outcome).inc()
        self._seconds.labels(kind).observe(seconds)

    def count_request(self, verb: str, kind: str, outcome: str) -> None:
        """Count a request to the API server."""
        self._requests.labels(verb, kind, outcome).inc()

    def record_resync(self, timestamp: float) -> None:
        """Record the time of a complete listing."""
        self._resync.set(timestamp)
        if not self._listed:
            self.registry.register(self._resync)
            self._listed = True

    def register_objects(self, objects: Callable[[], Iterable[ObjectReadiness]]) -> None:
        """Export the readiness of these objects, which are read at each scrape."""
        self.registry.register(ObjectReadyCollector(objects))

    def register_gauges(
        self, depth: Callable[[], float], age: Callable[[], float], leads: Callable[[], float]
    ) -> None:
        """Export these gauges, which are read at each scrape."""
        gauges = {
            "postroom_operator_queue_depth": ("Keys that are ready to be reconciled.", depth),
            "postroom_operator_queue_age_seconds": (
                "Seconds for which the oldest of these keys has waited.",
                age,
            ),
            "postroom_operator_leader": ("Whether this process holds the Lease: 1 or 0.", leads),
        }
        for name, (help_text, value) in gauges.items():
            Gauge(name, help_text, registry=self.registry).set_function(value)


@dataclass(frozen=True, slots=True)
class ObjectReadyCollector(Collector):
    """One series for each object, created at each scrape, so that a deleted object leaves no series
    behind.
    """

    objects: Callable[[], Iterable[ObjectReadiness]]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauge, with a series for each existing object."""
        family = GaugeMetricFamily(
            "postroom_operator_object_ready",
            "Whether a template, layout or profile is ready, by kind, namespace, name and the condition's"
            " reason: 1, or 0 where it is not ready or its state is unknown. Exported by the leader alone.",
            labels=("kind", "namespace", "name", "reason"),
        )
        for state in self.objects():
            labels = (state.kind, state.namespace, state.name, state.reason)
            family.add_metric(labels, float(state.ready))
        yield family
