"""Whether the sandbox lives and is ready, and its figures for Prometheus."""

import sqlite3
from collections.abc import Iterator

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from postroom.sandbox.inbox import Here, Inbox

routes = APIRouter(include_in_schema=False)


@routes.get("/healthz")
async def healthz() -> dict[str, str]:
    """Alive: the event loop answers."""
    return {"status": "alive"}


@routes.get("/readyz")
def readyz(inbox: Here, response: Response) -> dict[str, str]:
    """Ready: the database answers, so that letters can be taken in."""
    try:
        inbox.store.counts()
    except sqlite3.Error as error:
        response.status_code = 503
        return {"status": "not ready", "reason": f"database: {error}"}
    return {"status": "ready"}


@routes.get("/metrics")
def metrics(inbox: Here) -> Response:
    """The figures, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Figures(inbox))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Figures(Collector):
    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        tally, counts = self._inbox.tally, self._inbox.store.counts()
        name = "postroom_sandbox"
        yield CounterMetricFamily(
            f"{name}_letters_captured", "Letters stored since the start.", tally.captured
        )
        yield CounterMetricFamily(
            f"{name}_bytes_captured", "Bytes of letters stored since the start.", tally.captured_bytes
        )
        yield CounterMetricFamily(f"{name}_smtp_sessions", "SMTP sessions since the start.", tally.sessions)
        refused = CounterMetricFamily(
            f"{name}_letters_refused", "Letters refused after DATA.", labels=["reason"]
        )
        for reason in ("too_large", "line_too_long", "storage", "fault"):
            refused.add_metric([reason], tally.refused[reason])
        yield refused
        yield GaugeMetricFamily(f"{name}_letters", "Letters kept now.", counts.letters)
        yield GaugeMetricFamily(
            f"{name}_letters_unread", "Letters kept that nobody has opened.", counts.unread
        )
        yield GaugeMetricFamily(f"{name}_letters_bytes", "Bytes of letters kept now.", counts.bytes)
        yield GaugeMetricFamily(
            f"{name}_listeners", "Open event streams and waiting calls.", len(self._inbox.arrivals)
        )
