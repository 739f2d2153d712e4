"""The HTTP application of the sandbox: all routes, health checks and metrics over one `Inbox`."""

import sqlite3
from collections.abc import Iterable, Iterator

from fastapi import APIRouter, FastAPI, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from postroom.http.host_guard import PageGuard
from postroom.http.problems import add_problem_handler
from postroom.sandbox import api, pages, untrusted_content
from postroom.sandbox.inbox import Inbox, InboxDep

VERSION = "1"

routes = APIRouter(include_in_schema=False)


def create_sandbox_app(inbox: Inbox, allowed_hosts: Iterable[str] = ()) -> FastAPI:
    """Make the ASGI application; `allowed_hosts` are further names that it may be called by.

    FastAPI's own documentation pages load scripts from other servers and are off.
    """
    app = FastAPI(
        title="Postroom sandbox",
        version=VERSION,
        description="The letters that the sandbox has captured.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.inbox = inbox
    for router in (routes, api.routes, untrusted_content.routes, pages.routes):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=pages.PACKAGE / "static"))
    add_problem_handler(app)
    app.add_middleware(
        PageGuard,
        allowed_hosts=frozenset(allowed_hosts),
        server="inbox",
        setting="POSTROOM_SANDBOX_ALLOWED_HOSTS",
    )
    return app


@routes.get("/healthz")
async def healthz() -> dict[str, str]:
    """Liveness: the event loop answers."""
    return {"status": "alive"}


@routes.get("/readyz")
def readyz(inbox: InboxDep, response: Response) -> dict[str, str]:
    """Readiness: the database answers, so that letters can be stored."""
    try:
        inbox.store.counts()
    except sqlite3.Error as error:
        response.status_code = 503
        return {"status": "not ready", "reason": f"database: {error}"}
    return {"status": "ready"}


@routes.get("/metrics")
def metrics(inbox: InboxDep) -> Response:
    """Metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(SandboxMetrics(inbox))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class SandboxMetrics(Collector):
    """Counts of the mail server and of the stored letters, read at each scrape."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield each metric with its current value."""
        stats, counts = self._inbox.stats, self._inbox.store.counts()
        name = "postroom_sandbox"
        yield CounterMetricFamily(
            f"{name}_letters_captured", "Letters stored since the start.", stats.captured
        )
        yield CounterMetricFamily(
            f"{name}_bytes_captured", "Bytes of letters stored since the start.", stats.captured_bytes
        )
        yield CounterMetricFamily(f"{name}_smtp_sessions", "SMTP sessions since the start.", stats.sessions)
        refused = CounterMetricFamily(
            f"{name}_letters_refused", "Letters refused after DATA.", labels=["reason"]
        )
        for reason in ("too_large", "line_too_long", "storage", "internal_error"):
            refused.add_metric([reason], stats.refused[reason])
        yield refused
        yield GaugeMetricFamily(f"{name}_letters", "Letters in the inbox.", counts.letters)
        yield GaugeMetricFamily(f"{name}_letters_unread", "Unread letters in the inbox.", counts.unread)
        yield GaugeMetricFamily(f"{name}_letters_bytes", "Bytes of the letters in the inbox.", counts.bytes)
        yield GaugeMetricFamily(
            f"{name}_listeners", "Open event streams and waiting calls.", len(self._inbox.subscriptions)
        )
