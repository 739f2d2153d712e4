"""What the log says of a batch."""

import asyncio
from typing import Any

from structlog.testing import capture_logs

from postroom.adapters.metrics import WorkerMetrics
from postroom.ports.relay import Reply, Stage
from postroom.worker.telemetry import Reporter
from tests.delivery.fakes import FakeRelay, Shelf
from tests.delivery.letters import KIND, record
from tests.delivery.pipeline_harness import Bench


def logged(bench: Bench) -> list[Any]:
    progress = asyncio.run(bench.carry(record("a")))
    with capture_logs() as lines:
        Reporter(WorkerMetrics(dict, dict), bench.clock).take(progress)
    return lines


def test_a_letter_without_a_template_is_told_by_its_event_type() -> None:
    [line] = logged(Bench(shelf=Shelf({})))
    assert (line["event"], line["event_type"]) == ("letters deferred", KIND)
    assert "template" not in line


def test_a_letter_that_a_relay_defers_is_told_by_its_template() -> None:
    relay = FakeRelay({"a@example.net": Reply(Stage.RCPT, 451, "4.7.1 greylisted")})
    [line] = logged(Bench(relay=relay))
    assert (line["event"], line["template"]) == ("letters deferred", "order@0123456789ab")
    assert "event_type" not in line
