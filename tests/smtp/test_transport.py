"""`end_of_data_sent` is exact: the kernel has the last byte, under TLS the last byte of the last record."""

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
class StubReader:
    """Records the bytes and the failures of a transport."""

    received: bytearray = field(default_factory=bytearray)
    failures: list[str] = field(default_factory=list)

    def on_data(self, data: bytes) -> None:
        self.received += data

    def on_broken(self, cause: CloseCause, reason: str) -> None:
        self.failures.append(reason)


class Peer:
    """The relay's end of the connection: reads as many bytes as a test requests."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLObject | None, read: ssl.MemoryBIO) -> None:
        self.sock, self.tls, self.read_bio = sock, tls, read
        self.plain = bytearray()
        self.closure_alert_received = False

    def read(self, size: int) -> int:
        """Read at most `size` bytes from the socket; under TLS store what complete records decrypt to."""
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
            self.closure_alert_received = True
        return len(data)


@asynccontextmanager
async def wired(authority: trustme.CA | None) -> AsyncIterator[tuple[SocketTransport, StubReader, Peer]]:
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    stream, reader = HandshakeStream(ours), StubReader()
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = Peer(theirs, None, into)
    if authority is not None:
        stream.tls, peer.tls = complete_handshake(authority, into, out)
    transport = SocketTransport(stream, reader)
    try:
        yield transport, reader, peer
    finally:
        transport.close()
        theirs.close()


def complete_handshake(
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


def test_when_the_relay_has_the_end_of_data_it_counts_as_sent(secured: trustme.CA | None) -> None:
    async def run() -> None:
        async with wired(secured) as (transport, _, peer):
            transport.write_content(LARGE, b"MAIL FROM:<>\r\n" * 2000)
            states = [transport.end_of_data_sent]
            while len(peer.plain) < len(LARGE):
                peer.read(1000)
                states.append(transport.end_of_data_sent)
                await asyncio.sleep(0)
            assert states[-1]
            assert states == sorted(states)
            assert not states[0]

    asyncio.run(run())


def test_when_the_end_of_data_counts_as_sent_the_relay_can_read_it(secured: trustme.CA | None) -> None:
    async def run() -> None:
        async with wired(secured) as (transport, _, peer):
            transport.write_content(LARGE, b"MAIL FROM:<>\r\n" * 20_000)
            while not transport.end_of_data_sent:
                peer.read(1000)
                await asyncio.sleep(0)
            transport.close()
            while peer.read(65536):
                pass
            assert peer.plain.startswith(LARGE)
            assert len(peer.plain) < len(LARGE) + 280_000

    asyncio.run(run())


def test_content_that_the_socket_accepts_at_once_is_sent_at_once(secured: trustme.CA | None) -> None:
    async def run() -> None:
        async with wired(secured) as (transport, _, peer):
            transport.write_content(b"short\r\n.\r\n", b"")
            assert transport.end_of_data_sent
            peer.read(4096)
            assert peer.plain == b"short\r\n.\r\n"

    asyncio.run(run())


def test_content_counts_as_sent_with_the_last_byte_of_its_last_record_and_not_when_it_is_encrypted(
    authority: trustme.CA,
) -> None:
    """Encrypted content that the kernel has not accepted has not reached the relay."""

    async def run() -> None:
        async with wired(authority) as (transport, _, peer):
            transport.write_content(LARGE, b"")
            while not transport.end_of_data_sent:
                peer.read(1000)
                assert not peer.plain.endswith(b"\n.\r\n")
                await asyncio.sleep(0)
            while peer.read(65536):
                pass
            assert peer.plain == LARGE

    asyncio.run(run())


def test_bytes_arrive_in_order_when_the_relay_reads_slowly(secured: trustme.CA | None) -> None:
    async def run() -> None:
        pieces = [b"%d," % number * 3000 for number in range(20)]
        async with wired(secured) as (transport, _, peer):
            for piece in pieces:
                transport.write(piece)
            while len(peer.plain) < sum(map(len, pieces)):
                peer.read(3001)
                await asyncio.sleep(0)
            assert bytes(peer.plain) == b"".join(pieces)
            assert transport.progressed()
            assert not transport.progressed()

    asyncio.run(run())


def test_a_truncated_letter_does_not_count_as_sent(secured: trustme.CA | None) -> None:
    async def run() -> None:
        async with wired(secured) as (transport, reader, peer):
            transport.write_content(LARGE, b"QUIT\r\n")
            peer.read(4096)
            peer.sock.close()
            await until(lambda: bool(reader.failures))
            transport.write(b"more")
            assert not transport.end_of_data_sent
            assert len(reader.failures) == 1

    asyncio.run(run())


def test_a_reply_before_the_close_is_received() -> None:
    async def run() -> None:
        async with wired(None) as (transport, reader, peer):
            peer.sock.send(b"421 4.3.2 closing\r\n")
            peer.sock.close()
            transport.write_content(b"letter\r\n.\r\n", b"")
            assert not transport.end_of_data_sent
            await until(lambda: bool(reader.failures))
            assert reader.received == b"421 4.3.2 closing\r\n"
            assert len(reader.failures) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    "end", [lambda peer: peer.sock.close(), lambda peer: peer.sock.shutdown(socket.SHUT_WR)]
)
def test_a_failure_is_reported_once_and_never_from_within_a_call(end: Callable[[Peer], None]) -> None:
    async def run() -> None:
        async with wired(None) as (transport, reader, peer):
            end(peer)
            transport.write(b"a")
            transport.write(b"b")
            within = len(reader.failures)
            await until(lambda: bool(reader.failures))
            await asyncio.sleep(0)
            assert (within, len(reader.failures)) == (0, 1)

    asyncio.run(run())


def test_a_closed_transport_reports_nothing_and_sends_nothing() -> None:
    async def run() -> None:
        async with wired(None) as (transport, reader, _):
            transport.close()
            transport.close()
            transport.write_content(b"letter\r\n.\r\n", b"")
            assert not transport.end_of_data_sent
            await asyncio.sleep(0)
            assert reader.failures == []

    asyncio.run(run())


def test_a_tls_connection_is_closed_with_the_closure_alert(
    authority: trustme.CA,
) -> None:
    async def run() -> None:
        async with wired(authority) as (transport, _, peer):
            transport.write(b"QUIT\r\n")
            transport.close()
            peer.read(65536)
            assert peer.plain == b"QUIT\r\n"
            assert peer.closure_alert_received

    asyncio.run(run())
