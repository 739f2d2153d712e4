"""The HTTP endpoints for the kubelet and Prometheus: /healthz, /readyz, /metrics.

Healthy: the queue moves, and the last complete listing is recent. Ready: the cluster was listed once, or
another operator holds the Lease and this one stands by. The answers state the measured times.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

STUCK_SECONDS = 300.0
"""A key that has waited this long is stuck."""
MISSED_RESYNCS = 5

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class OperatorHealth:
    """The state that the probes report."""

    monotonic: Callable[[], float]
    resync_seconds: float
    oldest_age: Callable[[], float]
    """The age of the queue's oldest key, in seconds."""
    standby: bool = True
    synced_at: float | None = None
    """The end of the last complete listing, in monotonic seconds."""

    def healthy(self) -> tuple[bool, str]:
        """Whether the process makes progress, and the measured times."""
        if self.standby:
            return True, "standby"
        since = self.monotonic() - self.synced_at if self.synced_at is not None else None
        listed = "not listed yet" if since is None else f"listed {since:.0f} s ago"
        late = since is not None and since > MISSED_RESYNCS * self.resync_seconds
        return (
            self.oldest_age() < STUCK_SECONDS and not late,
            f"oldest key waits {self.oldest_age():.0f} s; {listed}",
        )

    def ready(self) -> tuple[bool, str]:
        """Whether the process has listed the cluster, or stands by."""
        if self.standby:
            return True, "standby: another operator holds the Lease"
        return self.synced_at is not None, "listed" if self.synced_at is not None else "listing the cluster"


class HealthApp:
    """The ASGI application with these endpoints."""

    def __init__(self, health: OperatorHealth, registry: CollectorRegistry) -> None:
        self._health = health
        self._registry = registry

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        """Answer one request."""
        match scope["path"]:
            case "/metrics":
                await _answer(send, 200, generate_latest(self._registry), CONTENT_TYPE_LATEST)
            case "/healthz":
                await _answer_probe(send, *self._health.healthy())
            case "/readyz":
                await _answer_probe(send, *self._health.ready())
            case _:
                await _answer(send, 404, b"not found; the paths are /healthz, /readyz and /metrics\n")


async def _answer_probe(send: Send, good: bool, text: str) -> None:
    await _answer(send, 200 if good else 503, f"{text}\n".encode())


async def _answer(
    send: Send, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8"
) -> None:
    headers = [(b"content-type", content_type.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
