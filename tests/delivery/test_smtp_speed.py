"""What a letter costs: the pool beside Postfix's own load generator, in one run, into the same sink."""

import asyncio
import math
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from statistics import median

import pytest

from postroom.adapters.smtp import RelaySettings, SmtpRelay
from postroom.ports.relay import Grant, Parcel, Reply, Result
from tests.delivery.smtp_letters import IN_CLEAR, Letter

SINK = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin")
SOURCE = shutil.which("smtp-source", path="/usr/sbin:/usr/bin")
LETTERS = 20_000
CONNECTIONS = 32
SIZE = 10_000
ROUNDS = 3

pytestmark = [
    pytest.mark.bench,
    pytest.mark.skipif(SINK is None or SOURCE is None, reason="needs smtp-sink and smtp-source of Postfix"),
]


@pytest.fixture
def sink() -> Iterator[int]:
    """Postfix's smtp-sink, which takes letters and throws them away."""
    assert SINK is not None
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    process = subprocess.Popen([SINK, "-u", "nobody", f"127.0.0.1:{port}", "1000"])
    try:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield port
    finally:
        process.terminate()
        process.wait()


async def send_all(port: int) -> float:
    """Microseconds of this process's CPU for a letter."""
    relay = SmtpRelay(RelaySettings("127.0.0.1", port, IN_CLEAR, connections=CONNECTIONS))
    made, decided, over = 0, 0, asyncio.Event()
    content = Letter("reader@example.net", SIZE).content

    class Ready:
        def __init__(self, recipient: str) -> None:
            self.envelope = Letter(recipient).envelope
            self.content = content

    async def fence(parcels: Sequence[Parcel]) -> Grant:
        return Grant(parcels, math.inf)

    def feed() -> None:
        nonlocal made
        batch = min(500, LETTERS - made)
        relay.deliver([Ready(f"reader{made + n}@example.net") for n in range(batch)], note)
        made += batch

    def note(results: Sequence[tuple[Parcel, Result]]) -> None:
        nonlocal decided
        decided += len(results)
        assert all(isinstance(result, Reply) and result.code == 250 for _, result in results)
        if made - decided < 300:
            feed()
        if decided == LETTERS:
            over.set()

    await relay.open(fence)
    began = time.process_time()
    feed()
    await over.wait()
    cost = time.process_time() - began
    await relay.drain(5)
    return cost / LETTERS * 1e6


def run_source(port: int) -> float:
    """Microseconds of CPU that smtp-source spends on the same letter over reused connections."""
    assert SOURCE is not None
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    sessions = ["-d", "-s", str(CONNECTIONS), "-m", str(LETTERS), "-l", str(SIZE)]
    subprocess.run([SOURCE, *sessions, "-f", "a@example.com", f"127.0.0.1:{port}"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / LETTERS * 1e6


def test_a_letter_costs_no_more_than_one_and_a_half_times_what_smtp_source_spends(sink: int) -> None:
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(asyncio.run(send_all(sink)))
        theirs.append(run_source(sink))
    print(f"pool {ours} µs a letter, smtp-source {theirs}: {median(ours) / median(theirs):.2f} x")
    assert median(ours) <= 1.5 * median(theirs)
