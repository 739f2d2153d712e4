"""Status pages: /healthz, /readyz, /metrics and /statusz, without personal data.

A worker is ready while it can receive events and settle them. An unreachable relay does not affect readiness:
letters wait in the ledger, and another pod would use the same relay.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from postroom.worker.conditions import Condition, to_json
from postroom.worker.config import WorkerConfig


class StatusSource(Protocol):
    """The source of the pages: a running worker, a waiting worker or the bounce intake."""

    registry: CollectorRegistry

    def status(self) -> Mapping[str, Any]:
        """Return the content of /statusz; `problems` is empty if the program is ready."""
        ...


class StatusServer:
    """Holds the current source of the pages; a worker replaces it when it starts running."""

    def __init__(self, shown: StatusSource) -> None:
        self.shown = shown


def status_pages(board: StatusServer) -> Starlette:
    """The pages as an ASGI application."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        problems = board.shown.status()["problems"]
        return JSONResponse({"ready": not problems, "problems": problems}, 503 if problems else 200)

    async def statusz(_: Request) -> Response:
        return JSONResponse(dict(board.shown.status()))

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(board.shown.registry), media_type=CONTENT_TYPE_LATEST)

    pages = (healthz, readyz, statusz, metrics)
    return Starlette(routes=[Route(f"/{page.__name__}", page) for page in pages])


def build_status(
    config: WorkerConfig, conditions: Mapping[str, Condition], problems: list[str]
) -> dict[str, Any]:
    """Build the fields of /statusz that every worker has; a running worker adds its own."""
    return {
        "profile": config.policy.profile,
        "mode": config.exit.mode,
        "guarded": config.exit.guarded,
        "suspended": config.profile.spec.suspend,
        "pod": config.settings.pod,
        "profile_hash": config.settings.profile_hash,
        "fields_left_out": list(config.left_out),
        "problems": problems,
        "conditions": to_json(conditions),
        "templates": {},
        "templates_problem": "",
        "partitions": [],
        "inflight_records": 0,
        "lag": None,
        "letters": {},
        "last_refusal": "",
        "clock_ahead": 0.0,
    }
