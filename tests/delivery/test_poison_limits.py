"""A worker that cannot try the records that may have ended it goes on, says so, and lets none of them by."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.local.broker import LocalBroker
from postroom.local.machine import free_port
from tests.fixtures.pipeline import WorkerUnderTest, events, publish, wait_until
from tests.fixtures.recording_sink import RecordingSink
from tests.worker.test_worker_process import dead_letters, page

pytestmark = pytest.mark.kafka
STAND_IN = "stand_in_for_isolated_render"
PRELUDE = f"from postroom.worker import isolated_render; isolated_render.__name__ = {STAND_IN!r}"
"""The worker starts another module for its isolated renderer, which is not there at first."""


@pytest.fixture
def own_broker() -> Iterator[LocalBroker]:
    with LocalBroker() as running:
        yield running


def test_a_worker_whose_renderer_does_not_start_goes_on_and_sends_nothing_untried(
    own_broker: LocalBroker, recording_sink: RecordingSink, tmp_path: Path
) -> None:
    plant = WorkerUnderTest(tmp_path / "plant", own_broker.bootstrap, recording_sink.address).prepare()
    address = f"127.0.0.1:{free_port()}"
    reported = {"POSTROOM_HTTP": address, "PYTHONPATH": os.pathsep.join([str(plant.folder), *sys.path])}
    try:
        plant.start()
        wait_until(plant.is_member, "a first life")
        plant.kill()
        publish(own_broker.bootstrap, events(10, seed=1))
        plant.prelude = PRELUDE
        for life in ("the trouble shows", "the next life is as careful"):
            plant.start(**reported)
            wait_until(lambda: "renderer: " in page(address, "/readyz")[1], life)
            condition = json.loads(page(address, "/statusz")[1])["conditions"]["renderer"]
            assert (condition["ok"], condition["reason"]) == (False, "RendererNotStarted")
            assert "it ended with status 1" in condition["message"]
            assert page(address, "/healthz")[0] == 200
            assert plant.query("SELECT count(*) FROM letter") == [(0,)]
            if life == "the trouble shows":
                assert plant.end() == 0
        program = "from postroom.worker.isolated_render import main; main()"
        (plant.folder / f"{STAND_IN}.py").write_text(program)
        wait_until(lambda: plant.through(10), "the letters of records that were tried")
        wait_until(lambda: page(address, "/readyz")[0] == 200, "the worker is ready")
        assert "renderer" not in json.loads(page(address, "/statusz")[1])["conditions"]
        assert plant.end() == 0
    finally:
        if plant.process is not None and plant.process.poll() is None:
            plant.kill()
    assert recording_sink.copies.total() == 10
    assert dead_letters(own_broker.bootstrap) == {}
