"""The worker's small web server: /healthz, /readyz, /metrics, /statusz. No personal data in any of them."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from postroom.adapters.kafka import KafkaEvents
from postroom.adapters.metrics import Facts, Metrics
from postroom.adapters.templates import FolderTemplates
from postroom.delivery.post import Post
from postroom.delivery.programs.relays import Exit
from postroom.delivery.programs.report import Reporter
from postroom.delivery.receive import Reception
from postroom.letter.profile import SmtpProfile

Status = Callable[[], Mapping[str, Any]]
"""What /statusz says; its member `problems` is empty when the worker is ready."""


def status_pages(registry: CollectorRegistry, status: Status) -> Starlette:
    """The pages as an ASGI application."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        problems = status()["problems"]
        return JSONResponse({"ready": not problems, "problems": problems}, 503 if problems else 200)

    async def statusz(_: Request) -> Response:
        return JSONResponse(dict(status()))

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    pages = (healthz, readyz, statusz, metrics)
    return Starlette(routes=[Route(f"/{page.__name__}", page) for page in pages])


class Inspected(Protocol):
    """What is looked at, besides the intake."""

    @property
    def profile(self) -> SmtpProfile: ...
    @property
    def exit(self) -> Exit: ...
    @property
    def post(self) -> Post: ...
    @property
    def templates(self) -> FolderTemplates: ...


class Watch:
    """Looks at a worker's parts from outside and says how they are."""

    def __init__(self, parts: Inspected, events: KafkaEvents, reception: Reception) -> None:
        self._profile, self._exit = parts.profile, parts.exit
        self._post, self._templates = parts.post, parts.templates
        self._events, self._reception = events, reception
        self.metrics = Metrics(self._gauges, self._counters)
        self.reporter: Reporter | None = None
        self.draining = False

    def status(self) -> dict[str, Any]:
        """Everything /statusz says."""
        catalog = self._templates.current()
        return {
            "profile": self._post.house.profile,
            "mode": self._exit.mode,
            "guarded": self._exit.guarded,
            "suspended": self._profile.spec.suspend,
            "problems": self._problems(),
            "relay_reachable": self._exit.relay.reachable,
            "kafka_connected": self._events.connected,
            "partitions": [f"{topic}/{number}" for topic, number in self._reception.partitions],
            "open_records": self._reception.open_records,
            "lag": self._events.lag,
            "templates": {one.name: one.revision for one in catalog.templates.values()},
            "letters": dict(self.reporter.totals) if self.reporter else {},
            "last_refusal": self.reporter.last_refusal if self.reporter else "",
        }

    def _problems(self) -> list[str]:
        health = self._post.ledger.health
        problems = []
        if self.draining:
            problems.append("draining")
        if not health.ok:
            problems.append(f"ledger: {health.reason}")
        if self._events.connected is False:
            problems.append("kafka: no broker answers")
        if self._events.connected is None and not self._profile.spec.suspend:
            problems.append("kafka: not connected yet")
        if self._templates.problem:
            problems.append(f"templates: {self._templates.problem}")
        return problems

    def _gauges(self) -> Facts:
        return {
            "open_records": (
                self._reception.open_records,
                "Records received and not yet behind the watermark.",
            ),
            "lag": (self._events.lag or 0, "Records on the assigned partitions that were not received yet."),
            "relay_reachable": (
                float(self._exit.relay.reachable or 0),
                "Whether the relay answered last time.",
            ),
            "ledger_ok": (float(self._post.ledger.health.ok), "Whether the ledger takes writes."),
        }

    def _counters(self) -> Facts:
        health, relay = self._post.ledger.health, self._exit.counters
        facts: dict[str, tuple[float, str]] = {
            "ledger_commits": (health.commits, "Transactions of the ledger."),
            "ledger_rows": (health.rows, "Rows claimed, fenced or settled."),
            "late_settlements": (
                health.late_settlements,
                "Settlements that came after somebody else took over.",
            ),
        }
        if relay is not None:
            facts |= {
                "relay_connects": (relay.connects, "SMTP connections opened."),
                "relay_connect_failures": (
                    relay.connect_failures,
                    "SMTP connections that could not be opened.",
                ),
                "relay_letters": (relay.letters, "Letters offered to the relay."),
                "relay_pipelined": (relay.pipelined, "Letters whose envelope was pipelined."),
            }
        return facts
