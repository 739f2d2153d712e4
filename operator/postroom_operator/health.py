"""The operator's page for the kubelet and Prometheus: /healthz, /readyz, /metrics.

Healthy: the queue moves, and the last complete listing is not old. Ready: everything was listed once, or
another operator holds the Lease and this one stands by. Each answer says its figures.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

STUCK_SECONDS = 300.0
"""A key that waits so long will wait for ever."""
MISSED_RESYNCS = 5

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class OperatorHealth:
    """What the probes are answered from."""

    monotonic: Callable[[], float]
    resync_seconds: float
    oldest_age: Callable[[], float]
    """Of the queue's oldest key."""
    standby: bool = True
    synced_at: float | None = None
    """When everything was last listed, in monotonic seconds."""

    def healthy(self) -> tuple[bool, str]:
        """Whether this process does its work, and in what figures."""
        if self.standby:
            return True, "stands by"
        since = self.monotonic() - self.synced_at if self.synced_at is not None else None
        said = f"oldest key waits {self.oldest_age():.0f} s; " + (
            "nothing listed yet" if since is None else f"listed {since:.0f} s ago"
        )
        late = since is not None and since > MISSED_RESYNCS * self.resync_seconds
        return self.oldest_age() < STUCK_SECONDS and not late, said

    def ready(self) -> tuple[bool, str]:
        """Whether this process knows the cluster, or need not."""
        if self.standby:
            return True, "stands by: another operator holds the Lease"
        return self.synced_at is not None, "listed" if self.synced_at is not None else "lists the cluster"


class HealthApp:
    """An ASGI application."""

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
                await _answer(send, 404, b"there is /healthz, /readyz and /metrics\n")


async def _answer_probe(send: Send, good: bool, said: str) -> None:
    await _answer(send, 200 if good else 503, f"{said}\n".encode())


async def _answer(send: Send, status: int, body: bytes, form: str = "text/plain; charset=utf-8") -> None:
    headers = [(b"content-type", form.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
