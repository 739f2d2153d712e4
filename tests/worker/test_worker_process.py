"""The worker as its platform sees it: a process with an environment, a few pages, and an exit status."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, TopicPartition

from postroom.letter.profile_format import FORMAT_ANNOTATION, PROFILE_FORMAT
from postroom.local.broker import LocalBroker
from postroom.local.machine import free_port
from postroom.worker.main import main
from tests.fixtures.pipeline import TOPIC, WorkerUnderTest, events, publish, wait_until
from tests.fixtures.recording_sink import RecordingSink

MALFORMED = {
    b"": "not_utf8_json",
    b"\xff\xfe": "not_utf8_json",
    b"\xef\xbb\xbf{}": "not_utf8_json",
    b"[" * 100_000: "too_deep",
    b'{"message_id": "1", "data": {"x": NaN}}': "number_out_of_range",
    b'{"message_id": "1", "data": {"x": 1e999}}': "number_out_of_range",
    b'{"message_id": "1", "message_id": "2"}': "duplicate_key",
    b'{"x": ' + b"9" * 5000 + b"}": "number_out_of_range",
    b'{"message_id": "\\ud800"}': "lone_surrogate",
}


def event(name: str, **changes: Any) -> bytes:
    whole = json.loads(next(events(1, seed=0, prefix=name)))
    return json.dumps(whole | changes).encode()


UNFIT = {
    event("a", recipient=None): "recipient_missing",
    event("b", recipient=[]): "recipient_missing",
    event("c", recipient=["a@example.org", "b@example.org"]): "one_address_per_item",
    event("d", recipient="a@example.org,b@example.org"): "one_address_per_item",
    event("e", recipient="alice@example.org)bob@evil.example"): "recipient_invalid",
    event("f", message_id="line\nbreak"): "control_character",
    event("g", subjet="typo"): "field_unknown",
    event("h", data={}): "variable_missing",
}


def test_missing_settings_are_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("POSTROOM_")]:
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    output = capsys.readouterr().err
    for name in ("PROFILE", "BUNDLES", "BOOTSTRAP_SERVERS", "LEDGER"):
        assert f"POSTROOM_{name}: is not set" in output


@pytest.mark.processes
def test_a_worker_starts_without_what_only_a_migration_or_a_proof_needs() -> None:
    program = "import sys, postroom.worker.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"alembic", "mako", "premailer", "psycopg"} & set(done.stdout.split()) == set()


@pytest.fixture
def own_broker() -> Iterator[LocalBroker]:
    with LocalBroker() as running:
        yield running


def page(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError as error:
        return 0, str(error)


def dead_letters(bootstrap: str) -> dict[bytes, dict[str, str]]:
    """What lies on the dead-letter topic: value → headers."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "readers", "log_level": 0})
    place = TopicPartition(f"{TOPIC}.dlq", 0, 0)
    _, high = consumer.get_watermark_offsets(place, 10)
    consumer.assign([place])
    found: dict[bytes, dict[str, str]] = {}
    read = 0
    while read < high:
        for message in consumer.consume(high, 0.5):
            headers: Any = message.headers() or ()
            found[message.value() or b""] = {name: (value or b"").decode() for name, value in headers}
            read += 1
    consumer.close()
    return found


@pytest.mark.kafka
def test_a_worker_serves_until_it_is_told_to_end(
    own_broker: LocalBroker, recording_sink: RecordingSink, tmp_path: Path
) -> None:
    plant = WorkerUnderTest(tmp_path / "plant", own_broker.bootstrap, recording_sink.address).prepare()
    address = f"127.0.0.1:{free_port()}"
    bad = MALFORMED | UNFIT
    publish(own_broker.bootstrap, [*events(100, seed=1), *bad, *events(100, seed=2, prefix="z")])
    plant.start(POSTROOM_HTTP=address)
    try:
        wait_until(lambda: page(address, "/readyz")[0] == 200, "the worker is ready")
        wait_until(lambda: plant.through(201), "every good letter settled")
        assert page(address, "/healthz") == (200, "alive\n")
        status = json.loads(page(address, "/statusz")[1])
        assert (status["profile"], status["mode"], status["problems"]) == ("default/plant", "Sandbox", [])
        assert status["letters"]["captured"] == 200
        output = page(address, "/statusz")[1]
        for ours in ("order@", "l…@domain", "@-sign", "'@'"):  # as the last dead letter's problem has them
            output = output.replace(ours, "")
        assert "@" not in output
        metrics = page(address, "/metrics")[1]
        assert re.search(r'postroom_letters_total\{code="",state="captured"\} 200\.0', metrics)
        assert "postroom_ledger_commits_total" in metrics
        assert plant.end() == 0
    finally:
        if plant.process is not None and plant.process.poll() is None:
            plant.kill()
    assert recording_sink.copies.total() == 200
    found = dead_letters(own_broker.bootstrap)
    assert {value: headers["postroom_problem_code"] for value, headers in found.items()} == bad
    assert all(
        headers["postroom_problem"] and headers["postroom_problem_field"] for headers in found.values()
    )
    output = (plant.folder / "worker.log").read_text()
    assert "Traceback" not in output


@pytest.mark.kafka
def test_a_worker_starts_with_what_a_later_release_wrote_and_says_what_it_leaves_out(
    own_broker: LocalBroker, recording_sink: RecordingSink, tmp_path: Path
) -> None:
    plant = WorkerUnderTest(tmp_path / "plant", own_broker.bootstrap, recording_sink.address).prepare()
    profile, bundle = plant.folder / "profile.yaml", plant.folder / "bundles" / "templates.json"
    handed = yaml.safe_load(profile.read_text())
    handed["metadata"]["annotations"] = {FORMAT_ANNOTATION: PROFILE_FORMAT}
    handed["spec"]["retry"] = {"budget": {"count": 5, "period": "1h"}}
    profile.write_text(json.dumps(handed))
    bundle.write_text(bundle.read_text().replace('"reply_to":', '"list_id": "x", "reply_to":'))
    address = f"127.0.0.1:{free_port()}"
    publish(own_broker.bootstrap, events(10, seed=3))
    plant.start(POSTROOM_HTTP=address)
    try:
        wait_until(lambda: plant.through(10), "every letter settled")
        status = json.loads(page(address, "/statusz")[1])
        unknown_fields = ["default/plant: spec.retry.budget", "bundle: list_id"]
        assert (status["unknown_fields"], status["problems"]) == (unknown_fields, [])
        assert plant.end() == 0
    finally:
        if plant.process is not None and plant.process.poll() is None:
            plant.kill()
    output = (plant.folder / "worker.log").read_text()
    assert [output.count(each) for each in unknown_fields] == [1, 1]
    assert recording_sink.copies.total() == 10


@pytest.mark.kafka
def test_a_worker_of_a_suspended_profile_tells_what_waits_and_takes_none_of_it(
    own_broker: LocalBroker, recording_sink: RecordingSink, tmp_path: Path
) -> None:
    plant = WorkerUnderTest(
        tmp_path / "plant", own_broker.bootstrap, recording_sink.address, spec={"suspend": True}
    )
    plant.prepare()
    address = f"127.0.0.1:{free_port()}"
    publish(own_broker.bootstrap, events(10, seed=4))
    plant.start(POSTROOM_HTTP=address)
    try:
        wait_until(lambda: '"lag":10' in page(address, "/statusz")[1], "the lag is reported")
        assert "\npostroom_suspended_lag_records 10.0\n" in page(address, "/metrics")[1]
        assert page(address, "/readyz")[0] == 200
        assert plant.end() == 0
    finally:
        if plant.process is not None and plant.process.poll() is None:
            plant.kill()
    assert recording_sink.copies.total() == 0


@pytest.mark.kafka
def test_a_second_worker_on_the_ledger_is_refused_and_the_first_goes_on(
    own_broker: LocalBroker, recording_sink: RecordingSink, tmp_path: Path
) -> None:
    plant = WorkerUnderTest(tmp_path / "plant", own_broker.bootstrap, recording_sink.address).prepare()
    first = plant.start()
    try:
        wait_until(plant.is_member, "the first worker's partitions")
        second = plant.start()
        assert second.wait(120) == 2
        assert "a SQLite ledger has one worker" in (plant.folder / "worker.log").read_text()
        publish(own_broker.bootstrap, events(10, seed=1))
        wait_until(lambda: plant.through(10), "the first worker's letters")
    finally:
        plant.process = first
        assert plant.end() == 0


@pytest.mark.kafka
def test_a_worker_without_its_broker_ends_when_it_is_told_to(
    own_broker: LocalBroker, recording_sink: RecordingSink, tmp_path: Path
) -> None:
    plant = WorkerUnderTest(tmp_path / "plant", own_broker.bootstrap, recording_sink.address).prepare()
    address = f"127.0.0.1:{free_port()}"
    plant.start(POSTROOM_HTTP=address, POSTROOM_GRACE="2")
    try:
        wait_until(lambda: page(address, "/readyz")[0] == 200, "the worker is ready")
        publish(own_broker.bootstrap, events(50, seed=1))
        wait_until(lambda: plant.through(50), "the letters settled")
        own_broker.kill()
        wait_until(lambda: "kafka: no broker answers" in page(address, "/readyz")[1], "the outage shows")
        assert page(address, "/healthz")[0] == 200
        assert plant.end() == 0
    finally:
        if plant.process is not None and plant.process.poll() is None:
            plant.kill()
