"""The wire counts what the socket has taken, to the byte in clear and to the record under TLS."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import trustme

from postroom.adapters.smtp.counters import CloseCause
from postroom.adapters.smtp.transport import HandshakeStream, SocketTransport, TlsRecords
from tests.smtp.outbound_messages import until

LARGE = b"0123456789abcde\n" * 40_000 + b".\r\n"


@dataclass
class Ear:
    """What the wire brought."""

    heard: bytearray = field(default_factory=bytearray)
    ends: list[str] = field(default_factory=list)

    def on_data(self, data: bytes) -> None:
        self.heard += data

    def on_broken(self, cause: CloseCause, reason: str) -> None:
        self.ends.append(reason)


class Peer:
    """The relay's end: reads as much as it is told to."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLObject | None, read: ssl.MemoryBIO) -> None:
        self.sock, self.tls, self.read_bio = sock, tls, read
        self.plain = bytearray()
        self.taken_leave_of = False

    def read(self, size: int) -> int:
        """Take at most `size` bytes off the socket; keep what can be understood of them."""
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            return 0
        if self.tls is None:
            self.plain += data
            return len(data)
        self.read_bio.write(data)
        with suppress(ssl.SSLWantReadError):
            while piece := self.tls.read(65536):
                self.plain += piece
            self.taken_leave_of = True
        return len(data)


@asynccontextmanager
async def wired(authority: trustme.CA | None) -> AsyncIterator[tuple[SocketTransport, Ear, Peer]]:
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    channel, ear = HandshakeStream(ours), Ear()
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = Peer(theirs, None, into)
    if authority is not None:
        channel.tls, peer.tls = shake_hands(authority, into, out)
    wire = SocketTransport(channel, ear)
    try:
        yield wire, ear, peer
    finally:
        wire.close()
        theirs.close()


def shake_hands(
    authority: trustme.CA, into: ssl.MemoryBIO, out: ssl.MemoryBIO
) -> tuple[TlsRecords, ssl.SSLObject]:
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("relay.example.com").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    server = theirs.wrap_bio(into, out, server_side=True)
    client = TlsRecords(ours, "relay.example.com")
    data, done = b"", False
    while not done:
        done = client.handshake(data)
        into.write(client.pending())
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            done = False
        data = out.read()
    return client, server


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["in clear", "under TLS"])
def secured(request: pytest.FixtureRequest, authority: trustme.CA) -> trustme.CA | None:
    return authority if request.param == "under TLS" else None


def test_when_the_relay_has_the_dot_the_wire_says_that_it_was_sent(secured: trustme.CA | None) -> None:
    async def run() -> None:
        async with wired(secured) as (wire, _, peer):
            wire.write_content(LARGE, b"MAIL FROM:<>\r\n" * 2000)
            states = [wire.end_of_data_sent]
            while len(peer.plain) < len(LARGE):
                peer.read(1000)
                states.append(wire.end_of_data_sent)
                await asyncio.sleep(0)
            assert states[-1]
            assert states == sorted(states)
            assert not states[0]

    asyncio.run(run())


def test_when_the_wire_says_that_the_dot_was_sent_the_relay_can_read_it(secured: trustme.CA | None) -> None:
    async def run() -> None:
        async with wired(secured) as (wire, _, peer):
            wire.write_content(LARGE, b"MAIL FROM:<>\r\n" * 20_000)
            while not wire.end_of_data_sent:
                peer.read(1000)
                await asyncio.sleep(0)
            wire.close()
            while peer.read(65536):
                pass
            assert peer.plain.startswith(LARGE)
            assert len(peer.plain) < len(LARGE) + 280_000

    asyncio.run(run())


def test_what_the_socket_takes_at_once_has_left_at_once(secured: trustme.CA | None) -> None:
    async def run() -> None:
        async with wired(secured) as (wire, _, peer):
            wire.write_content(b"short\r\n.\r\n", b"")
            assert wire.end_of_data_sent
            peer.read(4096)
            assert peer.plain == b"short\r\n.\r\n"

    asyncio.run(run())


def test_bytes_arrive_in_order_however_slowly_they_are_taken(secured: trustme.CA | None) -> None:
    async def run() -> None:
        pieces = [b"%d," % number * 3000 for number in range(20)]
        async with wired(secured) as (wire, _, peer):
            for piece in pieces:
                wire.write(piece)
            while len(peer.plain) < sum(map(len, pieces)):
                peer.read(3001)
                await asyncio.sleep(0)
            assert bytes(peer.plain) == b"".join(pieces)
            assert wire.progressed()
            assert not wire.progressed()

    asyncio.run(run())


def test_a_letter_that_was_cut_short_has_not_left(secured: trustme.CA | None) -> None:
    async def run() -> None:
        async with wired(secured) as (wire, ear, peer):
            wire.write_content(LARGE, b"QUIT\r\n")
            peer.read(4096)
            peer.sock.close()
            await until(lambda: bool(ear.ends))
            wire.write(b"more")
            assert not wire.end_of_data_sent
            assert len(ear.ends) == 1

    asyncio.run(run())


def test_what_the_relay_said_before_it_hung_up_is_heard() -> None:
    async def run() -> None:
        async with wired(None) as (wire, ear, peer):
            peer.sock.send(b"421 4.3.2 closing\r\n")
            peer.sock.close()
            wire.write_content(b"letter\r\n.\r\n", b"")
            assert not wire.end_of_data_sent
            await until(lambda: bool(ear.ends))
            assert ear.heard == b"421 4.3.2 closing\r\n"
            assert len(ear.ends) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    "end", [lambda peer: peer.sock.close(), lambda peer: peer.sock.shutdown(socket.SHUT_WR)]
)
def test_an_end_is_told_once_and_never_from_within_a_call(end: Callable[[Peer], None]) -> None:
    async def run() -> None:
        async with wired(None) as (wire, ear, peer):
            end(peer)
            wire.write(b"a")
            wire.write(b"b")
            within = len(ear.ends)
            await until(lambda: bool(ear.ends))
            await asyncio.sleep(0)
            assert (within, len(ear.ends)) == (0, 1)

    asyncio.run(run())


def test_a_closed_wire_tells_nothing_and_takes_nothing() -> None:
    async def run() -> None:
        async with wired(None) as (wire, ear, _):
            wire.close()
            wire.close()
            wire.write_content(b"letter\r\n.\r\n", b"")
            assert not wire.end_of_data_sent
            await asyncio.sleep(0)
            assert ear.ends == []

    asyncio.run(run())


def test_a_connection_under_tls_is_closed_with_the_alert_that_tells_it_from_a_cut(
    authority: trustme.CA,
) -> None:
    async def run() -> None:
        async with wired(authority) as (wire, _, peer):
            wire.write(b"QUIT\r\n")
            wire.close()
            peer.read(65536)
            assert peer.plain == b"QUIT\r\n"
            assert peer.taken_leave_of

    asyncio.run(run())
