"""The mail server: its replies, what it stores, and how it treats clients that break the rules."""

import smtplib
import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace

import pytest

from postroom.http.endpoint import Endpoint
from postroom.sandbox import mta
from postroom.sandbox.mime import StoredLetter
from postroom.sandbox.mta import MailServer
from postroom.sandbox.search import LetterFilter
from postroom.sandbox.store import LetterStore
from postroom.smtpd import SmtpSession
from tests.sandbox.sample_letters import letter, raw

Mail = tuple[Endpoint, MailServer]
ENVELOPE = b"MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n"


class SmtpClient:
    """A client that sends exactly the given bytes."""

    def __init__(self, where: Endpoint) -> None:
        self.socket = socket.create_connection(where, timeout=5)
        self.lines = self.socket.makefile("rb")
        self.read()
        self.send(b"EHLO test\r\n")
        self.offered = self.read()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> list[bytes]:
        """The lines of one reply."""
        lines = [self.lines.readline()]
        while lines[-1][3:4] == b"-":
            lines.append(self.lines.readline())
        return lines

    def codes(self, number: int) -> list[int]:
        return [int(self.read()[0][:3]) for _ in range(number)]

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@pytest.fixture
def client(mail: Mail) -> Iterator[SmtpClient]:
    client = SmtpClient(mail[0])
    yield client
    client.close()


def only_letter(store: LetterStore) -> bytes:
    (summary,) = store.find(LetterFilter(), 10)
    content = store.raw(summary.id)
    assert content is not None
    return content


def test_ehlo_lists_what_the_server_supports(client: SmtpClient) -> None:
    offered = {line[4:].strip() for line in client.offered}
    assert {b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"SIZE 26214400"} <= offered
    assert not any(line.startswith((b"AUTH", b"STARTTLS")) for line in offered)


def test_a_letter_sent_with_smtplib_is_stored_byte_for_byte(
    mail: Mail, store: LetterStore, arrivals: list[StoredLetter]
) -> None:
    message = letter("Grüße aus Gent", to="mira@example.com")
    with smtplib.SMTP(*mail[0]) as client:
        client.send_message(message)
    (summary,) = store.find(LetterFilter(), 10)
    assert summary.subject == "Grüße aus Gent"
    assert summary.recipients == ("mira@example.com",)
    assert only_letter(store) == raw(message)
    assert [arrived.id for arrived in arrivals] == [summary.id]


def test_the_250_names_the_stored_letter(client: SmtpClient, store: LetterStore) -> None:
    client.send(ENVELOPE + b"Subject: x\r\n\r\nHello\r\n.\r\n")
    assert client.codes(3) == [250, 250, 354]
    (reply,) = client.read()
    assert reply == b"250 2.0.0 Stored as letter %d\r\n" % store.find(LetterFilter(), 1)[0].id


def test_the_250_comes_only_after_the_commit(
    mail: Mail, store: LetterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed: Future[StoredLetter] = Future()
    monkeypatch.setattr(store, "capture", lambda *_: committed)
    client = SmtpClient(mail[0])
    client.send(ENVELOPE + b"\r\nHello\r\n.\r\n")
    client.codes(3)
    client.socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.socket.recv(1)
    committed.set_exception(sqlite3.OperationalError("database or disk is full"))
    client.socket.settimeout(5)
    assert client.socket.recv(200).startswith(b"452 4.3.1 Letter not stored: database or disk is full")
    client.close()


def test_content_and_the_next_envelope_may_arrive_in_one_segment(
    client: SmtpClient, store: LetterStore
) -> None:
    body = b"Subject: %d\r\n\r\nHello\r\n.\r\n"
    client.send(ENVELOPE)
    assert client.codes(3) == [250, 250, 354]
    for number in range(20):
        client.send(body % number + ENVELOPE)
        assert client.codes(4) == [250, 250, 250, 354]
    client.send(body % 20 + b"QUIT\r\n")
    assert client.codes(2) == [250, 221]
    assert [found.subject for found in store.find(LetterFilter(), 50)] == [str(n) for n in range(20, -1, -1)]


def test_sixty_four_connections_at_once_lose_nothing(mail: Mail, store: LetterStore) -> None:
    clients = [SmtpClient(mail[0]) for _ in range(64)]
    for _ in range(3):
        for client in clients:
            client.send(ENVELOPE + b"Subject: one of many\r\n\r\nHello\r\n.\r\n")
    for client in clients:
        assert client.codes(12) == [250, 250, 354, 250] * 3
        client.close()
    assert store.counts().letters == 192


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_the_end_of_the_content_is_found_in_any_segmentation(
    mail: Mail, store: LetterStore, size: int
) -> None:
    client = SmtpClient(mail[0])
    client.send(ENVELOPE)
    client.codes(3)
    stream = b"a\r\n..b\r\n\r\n.\r\n"
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start in range(0, len(stream), size):
        client.send(stream[start : start + size])
    assert client.codes(1) == [250]
    assert only_letter(store) == b"a\r\n.b\r\n\r\n"
    client.close()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b".\r\n", b""),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"..a\r\n.b\r\n.\r\n", b".a\r\nb\r\n"),
        (b"a\n.\nb\r\n.\r\n", b"a\n.\nb\r\n"),
        (b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n"),
        (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n"),
        (b"a\r.\rb\r\n.\r\n", b"a\r.\rb\r\n"),
    ],
)
def test_only_a_dot_alone_between_crlf_ends_a_letter(
    client: SmtpClient, store: LetterStore, sent: bytes, kept: bytes
) -> None:
    client.send(ENVELOPE)
    client.codes(3)
    client.send(sent + b"NOOP\r\n")
    assert client.codes(2) == [250, 250]
    assert only_letter(store) == kept


def test_a_smuggled_envelope_stays_content(client: SmtpClient, store: LetterStore) -> None:
    second = b"MAIL FROM:<evil@x.org>\nRCPT TO:<victim@y.org>\nDATA\nSubject: two\n"
    smuggled = b"Subject: one\r\n\r\nx\n.\n" + second + b"\r\n.\r\n"
    client.send(ENVELOPE + smuggled)
    assert client.codes(4) == [250, 250, 354, 250]
    assert [found.subject for found in store.find(LetterFilter(), 10)] == ["one"]


def test_a_declared_size_over_the_limit_is_refused_and_the_session_goes_on(client: SmtpClient) -> None:
    client.send(b"MAIL FROM:<a@x.org> SIZE=26214401\r\n")
    assert client.codes(1) == [552]
    client.send(ENVELOPE + b"\r\nHello\r\n.\r\n")
    assert client.codes(4) == [250, 250, 354, 250]


def test_a_letter_over_the_limit_is_refused_and_the_session_goes_on(
    client: SmtpClient, mail: Mail, store: LetterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = mail[1].handler
    monkeypatch.setattr(desk, "limits", replace(desk.limits, max_bytes=300_000, kept_bytes=300_000))
    client.send(ENVELOPE + (b"x" * 900 + b"\r\n") * 500 + b".\r\n" + ENVELOPE + b"\r\nHello\r\n.\r\n")
    assert client.codes(8) == [250, 250, 354, 552, 250, 250, 354, 250]
    assert store.counts().letters == 1
    assert mail[1].stats.refused == {"too_large": 1}


def test_a_line_over_1000_bytes_is_refused_and_the_session_goes_on(
    client: SmtpClient, store: LetterStore
) -> None:
    client.send(ENVELOPE + b"x" * 998 + b"\r\n.\r\n" + ENVELOPE + b"x" * 999 + b"\r\n.\r\n" + b"NOOP\r\n")
    assert client.codes(9) == [250, 250, 354, 250, 250, 250, 354, 500, 250]
    assert store.counts().letters == 1


def test_a_command_of_600_bytes_is_refused(client: SmtpClient) -> None:
    client.send(b"NOOP " + b"x" * 600 + b"\r\n")
    assert client.codes(1) == [500]


def test_garbage_ends_the_session_at_the_fifth_line(client: SmtpClient) -> None:
    client.send(b"\x00\x01\x02\r\n" * 5)
    assert client.codes(5)[-1] == 502
    assert client.read() == [b""]


def test_starttls_is_refused_and_the_session_goes_on_in_plain_text(
    client: SmtpClient, store: LetterStore
) -> None:
    client.send(b"STARTTLS\r\n" + ENVELOPE + b"\r\nHello\r\n.\r\n")
    assert client.codes(5) == [454, 250, 250, 354, 250]


def test_auth_in_the_clear_is_refused(client: SmtpClient) -> None:
    client.send(b"AUTH PLAIN AGEAYg==\r\n")
    assert client.read() == [b"538 5.7.11 Encryption required for requested authentication mechanism\r\n"]


def test_a_bounce_has_an_empty_sender(client: SmtpClient, store: LetterStore) -> None:
    client.send(b"MAIL FROM:<>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n\r\nHello\r\n.\r\n")
    assert client.codes(4) == [250, 250, 354, 250]
    assert store.find(LetterFilter(), 1)[0].mail_from == ""


def test_addresses_beyond_ascii_are_accepted(client: SmtpClient, store: LetterStore) -> None:
    client.send("MAIL FROM:<grüße@x.org> SMTPUTF8 BODY=8BITMIME\r\nRCPT TO:<用户@例え.jp>\r\n".encode())
    client.send(b"DATA\r\nSubject: x\r\n\r\nHello\r\n.\r\n")
    assert client.codes(4) == [250, 250, 354, 250]
    assert store.find(LetterFilter(), 1)[0].recipients == ("用户@例え.jp",)


def test_commands_out_of_order_are_refused(client: SmtpClient) -> None:
    client.send(b"DATA\r\nRCPT TO:<b@y.org>\r\nMAIL FROM:<a@x.org>\r\nDATA\r\nRCPT TO:<>\r\n")
    assert client.codes(5) == [503, 503, 250, 503, 501]


def test_a_client_that_disconnects_during_data_stores_nothing(mail: Mail, store: LetterStore) -> None:
    client = SmtpClient(mail[0])
    client.send(ENVELOPE + b"Subject: half\r\n")
    client.codes(3)
    client.close()
    next_client = SmtpClient(mail[0])
    next_client.send(ENVELOPE + b"Subject: whole\r\n\r\n.\r\n")
    next_client.codes(4)
    next_client.close()
    assert [found.subject for found in store.find(LetterFilter(), 10)] == ["whole"]


def test_open_sessions_get_421_when_the_server_stops(mail: Mail, loop, client: SmtpClient) -> None:  # type: ignore[no-untyped-def]
    loop.run(mail[1].stop())
    assert client.read() == [b"421 4.3.2 The sandbox is closing\r\n"]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("<a@x.org>", ("a@x.org", "")),
        ("<a.b+c@x-y.org> SIZE=10", ("a.b+c@x-y.org", " SIZE=10")),
        (f"<{'a' * 65}@x.org>", (f"{'a' * 65}@x.org", "")),
    ],
)
def test_the_fast_path_parser_agrees_with_the_library(
    argument: str, expected: tuple[str, str], store: LetterStore, read_path: Callable[[str], object]
) -> None:
    assert read_path(argument) == expected


@pytest.fixture
def read_path(store: LetterStore, loop) -> Callable[[str], object]:  # type: ignore[no-untyped-def]
    async def read(argument: str) -> tuple[object, object]:
        import asyncio

        handler = mta.CaptureHandler(store, lambda _: None, mta.CaptureStats())
        session = SmtpSession(handler, asyncio.get_running_loop())
        quick, slow = session._getaddr(argument), super(SmtpSession, session)._getaddr(argument)
        assert (quick[0], (quick[1] or "").split()) == (slow[0], (slow[1] or "").split())
        return quick

    return lambda argument: loop.run(read(argument))
