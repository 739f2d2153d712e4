import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from postroom_operator import workers as module
from postroom_operator.models import Manifest, WorkerCondition
from postroom_operator.names import labels
from postroom_operator.workers import Group, WorkerPoller

GROUP = ("shop", "orders")
PAGE = {
    "profile": "shop/orders",
    "mode": "Sandbox",
    "guarded": True,
    "pod": "orders-x",
    "problems": [],
    "conditions": {
        "ledger": {"ok": True, "reason": "Reachable", "message": "yes"},
        "relay": {"ok": None, "reason": "NotAsked", "message": ""},
    },
    "templates": {"paid": "abc"},
    "lag": 12,
    "suspended": False,
    "partitions": ["postroom.shop.orders/0"],
}


def pod(
    name: str = "orders-x", ip: str = "127.0.0.1", component: str = "worker", phase: str = "Running"
) -> Manifest:
    metadata = {"namespace": "shop", "name": name, "labels": labels(component, "orders")}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"podIP": ip, "phase": phase}}


class WorkerServer:
    """Polled workers and their pages."""

    def __init__(self) -> None:
        self.pods = [pod()]
        self.answer: Any = PAGE
        self.external = 0
        self.changed_event = asyncio.Event()
        self.news = 0
        self.workers = WorkerPoller(lambda: self.pods, self._changed)

    def _changed(self, group: Group) -> None:
        assert group == GROUP
        self.news += 1
        self.changed_event.set()

    async def page(self, request: web.Request) -> web.Response:
        self.external += 1
        if isinstance(self.answer, type):
            raise self.answer("/elsewhere")
        return web.Response(text=self.answer if isinstance(self.answer, str) else json.dumps(self.answer))

    async def elsewhere(self, request: web.Request) -> web.Response:
        return web.json_response(PAGE)

    async def next(self) -> None:
        self.changed_event.clear()
        await self.changed_event.wait()

    async def rounds(self, count: int) -> None:
        """Wait until this many more pages were read."""
        wanted = self.external + count
        while self.external < wanted:  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0.005)


def run(monkeypatch: pytest.MonkeyPatch, test: Callable[[WorkerServer], Awaitable[None]]) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "FAST_SECONDS", 0.01)

    async def begin() -> None:
        station = WorkerServer()
        app = web.Application()
        app.router.add_get("/statusz", station.page)
        app.router.add_get("/elsewhere", station.elsewhere)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        monkeypatch.setattr(module, "PORT", runner.addresses[0][1])
        asking = asyncio.create_task(station.workers.run())
        try:
            async with asyncio.timeout(30):
                await test(station)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await runner.cleanup()

    asyncio.run(begin())


def test_a_status_page_becomes_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(station: WorkerServer) -> None:
        await station.next()
        (report,) = station.workers.reports(GROUP)
        assert (report.pod, report.mode, report.guarded, report.lag) == ("orders-x", "Sandbox", True, 12)
        assert (report.suspended, report.has_partitions) == (False, True)
        assert report.templates == {"paid": "abc"}
        assert report.conditions["ledger"] == WorkerCondition(True, "Reachable", "yes")
        assert report.conditions["relay"].ok is None

    run(monkeypatch, test)


def test_a_changed_lag_is_no_change_of_reports_and_everything_else_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(station: WorkerServer) -> None:
        await station.next()
        station.answer = {**PAGE, "lag": 99}
        await station.rounds(4)
        assert station.news == 1
        assert station.workers.reports(GROUP)[0].lag == 99
        station.answer = {**PAGE, "lag": None}
        await station.next()
        station.answer = {**PAGE, "templates": {"paid": "abd"}}
        await station.next()

    run(monkeypatch, test)


NONSENSE = {
    "text": "no JSON",
    "list": "[]",
    "conditions that are a number": '{"conditions": 3}',
    "lag in words": '{"lag": "many"}',
    "lag without end": '{"lag": 1e999}',
    "lag that no status holds": '{"lag": 1000000000000000000000000000000}',
    "less than no lag": '{"lag": -1}',
    "neither yes nor no": '{"conditions": {"relay": {"ok": "perhaps"}}}',
    "deep": "[" * 200_000,
    "another pod's": json.dumps(PAGE | {"pod": "payments-y"}),
    "more than a page": json.dumps(PAGE | {"mode": "x" * module.MAX_PAGE_BYTES}),
}


@pytest.mark.parametrize("page", NONSENSE.values(), ids=NONSENSE)
def test_a_pod_that_answers_nonsense_has_no_report_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    async def test(station: WorkerServer) -> None:
        await station.next()
        station.answer = page
        await station.next()
        assert station.workers.reports(GROUP) == ()
        station.answer = PAGE
        await station.next()
        assert station.workers.reports(GROUP), "others are asked as ever"

    run(monkeypatch, test)


def test_a_long_status_page_that_arrives_in_pieces_is_read_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = {f"template-{number}": "0123456789abcdef" for number in range(10_000)}

    async def test(station: WorkerServer) -> None:
        await station.next()
        station.answer = {**PAGE, "templates": many}
        await station.next()
        (report,) = station.workers.reports(GROUP)
        assert report.templates == many

    run(monkeypatch, test)


def test_redirects_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(station: WorkerServer) -> None:
        await station.next()
        station.answer = web.HTTPFound
        await station.next()
        assert station.workers.reports(GROUP) == ()

    run(monkeypatch, test)


def test_workers_that_do_not_answer_for_a_minute_are_unresponsive_until_they_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(station: WorkerServer) -> None:
        assert not station.workers.unresponsive(GROUP)
        await station.next()
        station.answer = "no JSON"
        await station.next()
        assert (station.workers.reports(GROUP), station.workers.unresponsive(GROUP)) == ((), False)
        monkeypatch.setattr(module, "UNRESPONSIVE_SECONDS", 0.0)
        await station.next()
        assert station.workers.unresponsive(GROUP)
        news = station.news
        await station.rounds(3)
        assert station.news == news
        monkeypatch.setattr(module, "UNRESPONSIVE_SECONDS", 60.0)
        station.answer = PAGE
        await station.next()
        assert not station.workers.unresponsive(GROUP)

    run(monkeypatch, test)


def test_a_pod_that_is_gone_or_has_no_address_or_is_no_worker_has_no_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(station: WorkerServer) -> None:
        await station.next()
        station.pods = [pod(ip=""), pod("sandbox", component="sandbox"), pod(phase="Failed")]
        await station.next()
        assert station.workers.reports(GROUP) == ()

    run(monkeypatch, test)
