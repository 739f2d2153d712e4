"""The gateway's own figures, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Meter:
    """Counters of one gateway in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.messages = Counter(
            "postroom_gateway_messages",
            "Messages by what became of them: accepted, a problem code, or unavailable.",
            ["profile", "result"],
            registry=self._registry,
        )
        self.acknowledged = Histogram(
            "postroom_gateway_ack_seconds",
            "Time from a good message to the broker's acknowledgement.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self._registry,
        )

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)
