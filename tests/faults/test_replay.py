"""Replay dead letters on a whole `postroom up`: each once, however often it is asked for."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.faults.results import Fault
from tests.fixtures.pipeline import wait_until
from tests.local.manifest_texts import TEMPLATE, write_manifests
from tests.local.up_process import UpProcess, run_postroom, with_one_template

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("broker")]

TOPIC = "postroom.default.shop"
PARTITIONS = 3
MENDED = TEMPLATE.replace(
    "      name: {type: string}\n    required: [name]", "      name: {type: string, default: you}"
)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[UpProcess]:
    """A run whose template wants a name."""
    yield from with_one_template(tmp_path)


def event(id_: str, **data: str) -> bytes:
    value = {
        "message_id": id_,
        "event_type": "user.welcomed",
        "timestamp": "2026-11-23T12:00:00Z",
        "recipient": f"{id_}@example.net",
        "data": data,
    }
    return json.dumps(value).encode()


def publish(up: UpProcess, *values: bytes, spread: bool = False) -> None:
    """Publish events; spread: one to each partition."""
    producer = Producer({"bootstrap.servers": up.addresses.bootstrap_servers})
    for number, value in enumerate(values):
        producer.produce(TOPIC, value, partition=number if spread else -1)
    assert producer.flush(30) == 0


def ask(up: UpProcess, file: str, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(f"file:{up.data / file}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def states(up: UpProcess) -> Counter[str]:
    return Counter(str(state) for (state,) in ask(up, "ledgers/shop.sqlite", "SELECT state FROM letter"))


def in_the_inbox(up: UpProcess) -> int:
    [(count,)] = ask(up, "sandbox.sqlite", "SELECT count(*) FROM letters")
    return int(str(count))


def replay(up: UpProcess, *more: str) -> str:
    done = run_postroom("dlq", "replay", "--data", str(up.data), *more)
    assert done.returncode == 0, done.stdout
    return done.stdout


def pass_by(up: UpProcess) -> None:
    """Wait until every partition has been read to its end: a letter at each says so."""
    publish(up, *(event(f"last{number}", name="Ada") for number in range(PARTITIONS)), spread=True)
    arrived = "SELECT count(*) FROM letter WHERE event_id LIKE 'last%' AND state = 'captured'"
    wait_until(lambda: ask(up, "ledgers/shop.sqlite", arrived) == [(PARTITIONS,)], "the last letter of each")
    wait_until(lambda: set(states(up)) == {"captured"}, "every letter to be captured")


@pytest.mark.fault(31)
def test_dead_letters_that_are_replayed_twice_are_sent_once(up: UpProcess, fault: Fault) -> None:
    letters = fault.size(50, 500)
    publish(up, *(event(f"n{n}") for n in range(letters)))
    wait_until(lambda: states(up) == {"render_failed": letters}, f"{letters} letters that cannot be rendered")
    wait_until(
        lambda: f"{letters} of {letters} to be replayed" in replay(up, "--all", "--dry-run"),
        "the dead letters",
    )
    write_manifests(up.data.parent / "manifests", welcome=MENDED)
    up.until("welcome")

    assert f"{letters} of {letters} replayed" in replay(up, "--code", "variable_missing")
    wait_until(lambda: states(up) == {"captured": letters}, "all to be captured")
    first = in_the_inbox(up)
    assert f"{letters} of {letters} replayed" in replay(up, "--all")
    pass_by(up)
    second = in_the_inbox(up) - first - PARTITIONS
    reopened = ask(up, "ledgers/shop.sqlite", "SELECT count(*) FROM attempt WHERE result = 'reopened'")
    assert (first, second, reopened) == (letters, 0, [(letters,)])
    fault.record(f"{letters} dead letters; first replay sent {first}, second sent {second}")
