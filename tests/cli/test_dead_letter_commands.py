"""Commands about dead letters and recipients on a running `postroom up`."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from postroom.local import http_client
from tests.fixtures.pipeline import wait_until
from tests.local.manifest_texts import TEMPLATE, write_manifests
from tests.local.up_process import UpProcess, run_postroom, with_one_template

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("broker")]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[UpProcess]:
    yield from with_one_template(tmp_path)


def send(up: UpProcess, recipient: str) -> str:
    message = {"event_type": "user.welcomed", "recipient": recipient, "data": {"name": "Ada"}}
    answer = http_client.post(f"{up.addresses.gateway}/v1/messages", message)
    assert answer.status == 202, answer.body
    return str(answer.body["id"])


def run(up: UpProcess, *arguments: str) -> str:
    done = run_postroom(*arguments, "--data", str(up.data))
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_recipients_are_suppressed_and_erased_while_a_worker_sends(up: UpProcess) -> None:
    send(up, "ada@example.net")
    up.wait_for("ada@example.net")
    wait_until(lambda: "captured" in run(up, "letter", "ada@example.net"), "the letter in the ledger")

    assert "suppressed for default/shop as manual" in run(up, "suppressions", "add", "Ada@example.net")
    assert "already" in run(up, "suppressions", "add", "ada@example.net")
    assert "ada@" not in run(up, "suppressions", "list").lower()
    second = send(up, "ada@example.net")
    wait_until(
        lambda: "suppressed" in run_postroom("letter", second, "--data", str(up.data)).stdout, "no letter"
    )

    dry_run = run(up, "erase", "ada@example.net", "--dry-run")
    assert "2 letters in the ledger would be erased" in dry_run
    report = json.loads(run(up, "erase", "ada@example.net", "--json"))
    assert (report["letters"], report["inbox"], report["suppressions"], report["in_progress"]) == (2, 1, 1, 0)
    assert report["topics"] == ["postroom.default.shop", "postroom.default.shop.dlq"]
    assert "0 letters in the ledger erased" in run(up, "erase", "ada@example.net")
    assert run_postroom("letter", "ada@example.net", "--data", str(up.data)).returncode == 1
    assert "(erased)" in run(up, "suppressions", "list")
    assert "removed from the list" in run(up, "suppressions", "remove", "ada@example.net")
    assert run(up, "dlq", "list").strip() == "no dead letters"
    assert run_postroom("dlq", "replay", "--data", str(up.data)).returncode == 1


def test_a_dead_letter_is_sent_to_the_sandbox_before_its_replay(up: UpProcess) -> None:
    producer = Producer({"bootstrap.servers": up.addresses.bootstrap_servers})
    event = {"message_id": "m1", "event_type": "user.welcomed", "timestamp": "2026-11-23T12:00:00Z"}
    producer.produce(
        "postroom.default.shop", json.dumps(event | {"recipient": "ada@example.net", "data": {}})
    )
    producer.produce("postroom.default.shop", b"no json")
    assert producer.flush(30) == 0
    wait_until(lambda: len(json.loads(run(up, "dlq", "list", "--json"))) == 2, "two dead letters")
    listed = run(up, "dlq", "list", "--code", "variable_missing")
    assert "a…@example.net" in listed
    assert "ada@" not in listed
    assert "ada@example.net" in run(up, "dlq", "show", "m1", "--reveal")
    refused = run_postroom("dlq", "replay", "m1", "--to-sandbox", "--data", str(up.data))
    assert refused.returncode == 1
    assert "name" in refused.stdout

    write_manifests(
        up.data.parent / "manifests",
        welcome=TEMPLATE.replace("    required: [name]\n", "").replace(
            "{type: string}", "{type: string, default: you}"
        ),
    )
    up.until("welcome")
    assert "1 of 1 sent to the sandbox" in run(up, "dlq", "replay", "m1", "--to-sandbox")
    up.wait_for("ada@example.net")
    assert "render_failed" in run(up, "letter", "m1")
    nowhere = run_postroom(
        "dlq", "replay", "m1", "--to-sandbox", "--sandbox", "127.0.0.1:1", "--data", str(up.data)
    )
    assert nowhere.returncode == 1
    assert "does not answer" in nowhere.stdout
