"""What a claim costs while a ledger grows: the same, or nearly, whatever it remembers.

A ledger is filled as eight days of traffic leave it: letters that ended, their identities in buckets of a
day. Then batches of new letters are claimed and each is measured: by the process's own CPU where the database
is in it, so that a busy machine changes little, and by the clock where it is a server.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import median

import pytest

from postroom.adapters.ledger.dedupe import bucket_of
from postroom.adapters.ledger.migrations import migrate
from postroom.adapters.ledger.rows import first_key, stamp
from postroom.adapters.ledger.sqlite import SqliteLedger
from postroom.ports.ledger import Claimed, Ledger, Letter
from tests.delivery.letters import DAY, KIND, NOON, PROFILE, TOPIC, WINDOW, letter
from tests.fixtures.postgres import Server
from tests.ledger.postgres_ledgers import SCHEMA, execute, working

pytestmark = pytest.mark.bench

BATCH, BATCHES = 250, 24
DAYS = 8
SLOWER = 3.0
"""How many times what it costs in a small ledger a claim may cost in one a hundred times as large."""

COLUMNS = (
    "row, profile, source, event_id, recipient, event_type, digest, state, worker_epoch, replies, attempts, "
    'in_doubt_count, topic, "partition", "offset", received_at, updated_at'
)


def fresh(turn: int) -> list[Letter]:
    """A batch of letters that are not in the ledger: copies of one letter under new identities."""
    model = letter()
    names = [f"new-{turn}-{number}" for number in range(BATCH)]
    return [replace(model, identity=replace(model.identity, id=name)) for name in names]


async def claim_cost(ledger: Ledger, clock: Callable[[], float]) -> float:
    """Microseconds a letter, of the median batch."""
    spent: list[float] = []
    for turn in range(BATCHES):
        batch = fresh(turn)
        begun = clock()
        answers = await ledger.claim(batch, NOON)
        spent.append(clock() - begun)
        assert all(isinstance(one, Claimed) for one in answers)
    return median(spent) / BATCH * 1e6


def moments(count: int) -> Sequence[float]:
    """When letters were received: evenly over the days before noon."""
    begin, span = stamp(NOON - timedelta(days=DAYS)), DAYS * DAY.total_seconds()
    return [begin + span * number / count for number in range(count)]


def fill(path: Path, count: int) -> None:
    """Rows as a worker would have left them."""
    chance, times = random.Random(count), moments(count)
    keys = [first_key(at) + number % 1024 for number, at in enumerate(times)]
    hashes = sorted((bucket_of(at), chance.getrandbits(63), key) for at, key in zip(times, keys, strict=True))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    marks = ", ".join("?" * len(COLUMNS.split(",")))
    connection.executemany(
        f"INSERT INTO letter ({COLUMNS}) VALUES ({marks})",
        (
            (
                *(key, PROFILE, TOPIC, f"old-{key}", f"user{key}@example.net", KIND, b"0" * 16),
                *("accepted", 1, 1, 1, 0, TOPIC, 0, number, at, at),
            )
            for number, (key, at) in enumerate(zip(keys, times, strict=True))
        ),
    )
    connection.executemany("INSERT INTO identity VALUES (?, ?, ?)", hashes)
    connection.execute("COMMIT")
    connection.close()


async def on_a_file(path: Path, count: int) -> float:
    ledger = await SqliteLedger.open(path, WINDOW, NOON)
    await ledger.close()
    await asyncio.to_thread(fill, path, count)
    ledger = await SqliteLedger.open(path, WINDOW, NOON)
    try:
        return await claim_cost(ledger, time.process_time)
    finally:
        await ledger.close()


def test_a_claim_on_sqlite_costs_the_same_in_a_large_ledger(tmp_path: Path) -> None:
    small = asyncio.run(on_a_file(tmp_path / "small.sqlite", 10_000))
    large = asyncio.run(on_a_file(tmp_path / "large.sqlite", 1_000_000))
    print(
        f"\nclaim on SQLite: {small:.0f} µs at 10^4 rows, {large:.0f} µs at 10^6: ratio {large / small:.2f}"
    )
    assert large < SLOWER * small


def fill_server(url: str, count: int) -> None:
    begin, step = stamp(NOON - timedelta(days=DAYS)), DAYS * DAY.total_seconds() / count
    at = f"({begin} + {step} * n)"
    execute(
        url,
        f"INSERT INTO letter ({COLUMNS}) SELECT (({at} * 1000)::bigint << 22) + n % 1024, '{PROFILE}', "
        f"'{TOPIC}', "
        f"'old-' || n, 'user' || n || '@example.net', 'shop.order.placed', decode(repeat('00', 16), 'hex'), "
        f"'accepted', 1, 1, 1, 0, '{TOPIC}', 0, n, {at}, {at} FROM generate_series(0, {count - 1}) n",
    )
    execute(
        url,
        "INSERT INTO identity SELECT floor(received_at / 86400)::int, "
        "('x' || substr(md5(row::text), 1, 16))::bit(64)::bigint & 9223372036854775807, row FROM letter",
    )
    execute(url, "ANALYZE letter, identity")


async def on_a_server(url: str, count: int) -> float:
    await asyncio.to_thread(fill_server, url, count)
    async with working(url) as ledger:
        return await claim_cost(ledger, time.perf_counter)


def test_a_claim_on_postgresql_costs_the_same_in_a_large_ledger(postgres_server: Server) -> None:
    costs = []
    for count in (5_000, 500_000):
        url = postgres_server.database()
        migrate(url, SCHEMA)
        costs.append(asyncio.run(on_a_server(url, count)))
    small, large = costs
    timings = f"{small:.0f} µs at 5·10^3 rows, {large:.0f} µs at 5·10^5"
    print(f"\nclaim on PostgreSQL: {timings}: ratio {large / small:.2f}")
    assert large < SLOWER * small
