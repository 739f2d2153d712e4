"""Kill `postroom up` itself, with all it started, again and again, and count every letter in its inbox."""

import random
import sqlite3
import time
from pathlib import Path

import pytest

from tests.faults.results import Fault
from tests.fixtures.pipeline import MANIFESTS, TOPIC, events, publish, wait_until
from tests.local.up_process import UpProcess

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("broker")]

EVENTS_A_KILL = 200


def copies(data: Path) -> list[int]:
    """How often each letter is in the inbox."""
    inbox = data / "sandbox.sqlite"
    if not inbox.exists():
        return []
    connection = sqlite3.connect(f"file:{inbox}?mode=ro", uri=True, timeout=30)
    try:
        rows = connection.execute("SELECT count(*) FROM letters GROUP BY message_id").fetchall()
    finally:
        connection.close()
    return [count for (count,) in rows]


def doubts(data: Path) -> int:
    """Letters that the ledgers have a doubt about."""
    (ledger,) = (data / "ledgers").glob("**/*.sqlite")
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=30)
    try:
        return int(connection.execute("SELECT count(*) FROM letter WHERE in_doubt_count > 0").fetchone()[0])
    finally:
        connection.close()


@pytest.mark.fault(2)
def test_no_letter_is_lost_when_everything_is_killed_at_random(tmp_path: Path, fault: Fault) -> None:
    chance, data, published = random.Random(11), tmp_path / "data", 0
    kills = fault.size(3, 10)
    for burst in range(kills):
        up = UpProcess(MANIFESTS, data)
        up.until("letters: ")
        values = events(EVENTS_A_KILL, seed=burst, prefix=f"u{burst}-")
        published += publish(up.addresses.bootstrap_servers, values, TOPIC)
        time.sleep(chance.random() * 0.5)
        up.kill()
    up = UpProcess(MANIFESTS, data)
    up.until("letters: ")
    wait_until(lambda: len(copies(data)) >= published, f"{published} letters in the inbox")
    assert up.end() == 0
    arrived, doubted = copies(data), doubts(data)
    doubled = sum(count - 1 for count in arrived)
    assert len(arrived) == published
    assert doubled <= doubted
    fault.record(
        f"`postroom up` killed {kills} times with all it started: {published} events, 0 lost, "
        f"{doubled} doubled, {doubted} with a doubt on record"
    )
