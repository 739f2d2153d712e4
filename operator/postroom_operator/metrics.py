"""What the operator counts, for Prometheus."""

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
            "Reconciles by what was reconciled and how it ended.",
            ("kind", "outcome"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "postroom_operator_reconcile_seconds",
            "How long a reconcile took.",
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
            "When everything was last listed anew; absent before the first time, as at a standby.",
            registry=None,
        )
        self._listed = False

    def count_reconcile(self, kind: str, outcome: str, seconds: float) -> None:
        """One reconcile ended."""
        self._reconciles.labels(kind, outcome).inc()
        self._seconds.labels(kind).observe(seconds)

    def count_request(self, verb: str, kind: str, outcome: str) -> None:
        """One request to the API server was answered, or not."""
        self._requests.labels(verb, kind, outcome).inc()

    def record_resync(self, timestamp: float) -> None:
        """Everything was listed anew."""
        self._resync.set(timestamp)
        if not self._listed:
            self.registry.register(self._resync)
            self._listed = True

    def register_objects(self, objects: Callable[[], Iterable[ObjectReadiness]]) -> None:
        """Tell of each of these objects, whenever somebody asks, whether it is ready."""
        self.registry.register(ObjectReadyCollector(objects))

    def register_gauges(
        self, depth: Callable[[], float], age: Callable[[], float], leads: Callable[[], float]
    ) -> None:
        """Read these whenever somebody asks."""
        gauges = {
            "postroom_operator_queue_depth": ("Keys that wait to be reconciled.", depth),
            "postroom_operator_queue_age_seconds": ("How long the oldest of them has waited.", age),
            "postroom_operator_leader": ("Whether this process holds the Lease: 1 or 0.", leads),
        }
        for name, (says, value) in gauges.items():
            Gauge(name, says, registry=self.registry).set_function(value)


@dataclass(frozen=True, slots=True)
class ObjectReadyCollector(Collector):
    """One series an object, made when somebody asks: what is gone leaves none behind, and nothing drifts."""

    objects: Callable[[], Iterable[ObjectReadiness]]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauge, with a series for each object there is."""
        family = GaugeMetricFamily(
            "postroom_operator_object_ready",
            "Whether a template, layout or profile is ready, by kind, namespace, name and the condition's"
            " reason: 1, or 0 where it is not or nobody can tell yet. The leader alone says it.",
            labels=("kind", "namespace", "name", "reason"),
        )
        for each in self.objects():
            family.add_metric((each.kind, each.namespace, each.name, each.reason), float(each.ready))
        yield family
