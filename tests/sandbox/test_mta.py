"""The mail server: what it says, what it keeps, and what it does with senders who do not keep the rules."""

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
    """A sender that writes exactly the bytes it is told to."""

    def __init__(self, where: Endpoint) -> None:
        self.socket = socket.create_connection(where, timeout=5)
        self.lines = self.socket.makefile("rb")
        self.read()
        self.say(b"EHLO test\r\n")
        self.offered = self.read()

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> list[bytes]:
        """One reply, all its lines."""
        found = [self.lines.readline()]
        while found[-1][3:4] == b"-":
            found.append(self.lines.readline())
        return found

    def codes(self, number: int) -> list[int]:
        return [int(self.read()[0][:3]) for _ in range(number)]

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@pytest.fixture
def talk(mail: Mail) -> Iterator[SmtpClient]:
    talk = SmtpClient(mail[0])
    yield talk
    talk.close()


def only_letter(store: LetterStore) -> bytes:
    (summary,) = store.find(LetterFilter(), 10)
    content = store.raw(summary.id)
    assert content is not None
    return content


def test_what_it_offers_is_what_it_can(talk: SmtpClient) -> None:
    offered = {line[4:].strip() for line in talk.offered}
    assert {b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"SIZE 26214400"} <= offered
    assert not any(line.startswith((b"AUTH", b"STARTTLS")) for line in offered)


def test_a_letter_sent_with_smtplib_is_kept_byte_for_byte(
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


def test_the_250_names_the_stored_letter(talk: SmtpClient, store: LetterStore) -> None:
    talk.say(ENVELOPE + b"Subject: x\r\n\r\nHello\r\n.\r\n")
    assert talk.codes(3) == [250, 250, 354]
    (reply,) = talk.read()
    assert reply == b"250 2.0.0 Stored as letter %d\r\n" % store.find(LetterFilter(), 1)[0].id


def test_the_250_comes_only_after_the_commit(
    mail: Mail, store: LetterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed: Future[StoredLetter] = Future()
    monkeypatch.setattr(store, "capture", lambda *_: committed)
    talk = SmtpClient(mail[0])
    talk.say(ENVELOPE + b"\r\nHello\r\n.\r\n")
    talk.codes(3)
    talk.socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        talk.socket.recv(1)
    committed.set_exception(sqlite3.OperationalError("database or disk is full"))
    talk.socket.settimeout(5)
    assert talk.socket.recv(200).startswith(b"452 4.3.1 Letter not stored: database or disk is full")
    talk.close()


def test_content_and_the_next_envelope_may_come_in_one_segment(talk: SmtpClient, store: LetterStore) -> None:
    body = b"Subject: %d\r\n\r\nHello\r\n.\r\n"
    talk.say(ENVELOPE)
    assert talk.codes(3) == [250, 250, 354]
    for number in range(20):
        talk.say(body % number + ENVELOPE)
        assert talk.codes(4) == [250, 250, 250, 354]
    talk.say(body % 20 + b"QUIT\r\n")
    assert talk.codes(2) == [250, 221]
    assert [found.subject for found in store.find(LetterFilter(), 50)] == [str(n) for n in range(20, -1, -1)]


def test_sixty_four_connections_at_once_lose_nothing(mail: Mail, store: LetterStore) -> None:
    talks = [SmtpClient(mail[0]) for _ in range(64)]
    for _ in range(3):
        for talk in talks:
            talk.say(ENVELOPE + b"Subject: one of many\r\n\r\nHello\r\n.\r\n")
    for talk in talks:
        assert talk.codes(12) == [250, 250, 354, 250] * 3
        talk.close()
    assert store.counts().letters == 192


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_the_end_of_the_content_is_found_however_it_is_cut_up(
    mail: Mail, store: LetterStore, size: int
) -> None:
    talk = SmtpClient(mail[0])
    talk.say(ENVELOPE)
    talk.codes(3)
    stream = b"a\r\n..b\r\n\r\n.\r\n"
    talk.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start in range(0, len(stream), size):
        talk.say(stream[start : start + size])
    assert talk.codes(1) == [250]
    assert only_letter(store) == b"a\r\n.b\r\n\r\n"
    talk.close()


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
    talk: SmtpClient, store: LetterStore, sent: bytes, kept: bytes
) -> None:
    talk.say(ENVELOPE)
    talk.codes(3)
    talk.say(sent + b"NOOP\r\n")
    assert talk.codes(2) == [250, 250]
    assert only_letter(store) == kept


def test_a_smuggled_envelope_stays_content(talk: SmtpClient, store: LetterStore) -> None:
    second = b"MAIL FROM:<evil@x.org>\nRCPT TO:<victim@y.org>\nDATA\nSubject: two\n"
    smuggled = b"Subject: one\r\n\r\nx\n.\n" + second + b"\r\n.\r\n"
    talk.say(ENVELOPE + smuggled)
    assert talk.codes(4) == [250, 250, 354, 250]
    assert [found.subject for found in store.find(LetterFilter(), 10)] == ["one"]


def test_a_declared_size_over_the_limit_is_refused_and_the_session_goes_on(talk: SmtpClient) -> None:
    talk.say(b"MAIL FROM:<a@x.org> SIZE=26214401\r\n")
    assert talk.codes(1) == [552]
    talk.say(ENVELOPE + b"\r\nHello\r\n.\r\n")
    assert talk.codes(4) == [250, 250, 354, 250]


def test_a_letter_over_the_limit_is_refused_and_the_session_goes_on(
    talk: SmtpClient, mail: Mail, store: LetterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = mail[1].handler
    monkeypatch.setattr(desk, "limits", replace(desk.limits, most_bytes=300_000, kept_bytes=300_000))
    talk.say(ENVELOPE + (b"x" * 900 + b"\r\n") * 500 + b".\r\n" + ENVELOPE + b"\r\nHello\r\n.\r\n")
    assert talk.codes(8) == [250, 250, 354, 552, 250, 250, 354, 250]
    assert store.counts().letters == 1
    assert mail[1].stats.refused == {"too_large": 1}


def test_a_line_over_1000_bytes_is_refused_and_the_session_goes_on(
    talk: SmtpClient, store: LetterStore
) -> None:
    talk.say(ENVELOPE + b"x" * 998 + b"\r\n.\r\n" + ENVELOPE + b"x" * 999 + b"\r\n.\r\n" + b"NOOP\r\n")
    assert talk.codes(9) == [250, 250, 354, 250, 250, 250, 354, 500, 250]
    assert store.counts().letters == 1


def test_a_command_of_600_bytes_is_refused(talk: SmtpClient) -> None:
    talk.say(b"NOOP " + b"x" * 600 + b"\r\n")
    assert talk.codes(1) == [500]


def test_garbage_ends_the_session_at_the_fifth_line(talk: SmtpClient) -> None:
    talk.say(b"\x00\x01\x02\r\n" * 5)
    assert talk.codes(5)[-1] == 502
    assert talk.read() == [b""]


def test_starttls_is_not_to_be_had_and_what_follows_is_read_in_the_clear(
    talk: SmtpClient, store: LetterStore
) -> None:
    talk.say(b"STARTTLS\r\n" + ENVELOPE + b"\r\nHello\r\n.\r\n")
    assert talk.codes(5) == [454, 250, 250, 354, 250]


def test_auth_in_the_clear_is_refused(talk: SmtpClient) -> None:
    talk.say(b"AUTH PLAIN AGEAYg==\r\n")
    assert talk.read() == [b"538 5.7.11 Encryption required for requested authentication mechanism\r\n"]


def test_a_bounce_has_an_empty_sender(talk: SmtpClient, store: LetterStore) -> None:
    talk.say(b"MAIL FROM:<>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n\r\nHello\r\n.\r\n")
    assert talk.codes(4) == [250, 250, 354, 250]
    assert store.find(LetterFilter(), 1)[0].mail_from == ""


def test_addresses_beyond_ascii_are_taken(talk: SmtpClient, store: LetterStore) -> None:
    talk.say("MAIL FROM:<grüße@x.org> SMTPUTF8 BODY=8BITMIME\r\nRCPT TO:<用户@例え.jp>\r\n".encode())
    talk.say(b"DATA\r\nSubject: x\r\n\r\nHello\r\n.\r\n")
    assert talk.codes(4) == [250, 250, 354, 250]
    assert store.find(LetterFilter(), 1)[0].recipients == ("用户@例え.jp",)


def test_commands_out_of_order_are_named(talk: SmtpClient) -> None:
    talk.say(b"DATA\r\nRCPT TO:<b@y.org>\r\nMAIL FROM:<a@x.org>\r\nDATA\r\nRCPT TO:<>\r\n")
    assert talk.codes(5) == [503, 503, 250, 503, 501]


def test_a_sender_that_leaves_in_the_middle_leaves_nothing(mail: Mail, store: LetterStore) -> None:
    talk = SmtpClient(mail[0])
    talk.say(ENVELOPE + b"Subject: half\r\n")
    talk.codes(3)
    talk.close()
    follow = SmtpClient(mail[0])
    follow.say(ENVELOPE + b"Subject: whole\r\n\r\n.\r\n")
    follow.codes(4)
    follow.close()
    assert [found.subject for found in store.find(LetterFilter(), 10)] == ["whole"]


def test_closing_tells_open_sessions(mail: Mail, loop, talk: SmtpClient) -> None:  # type: ignore[no-untyped-def]
    loop.run(mail[1].stop())
    assert talk.read() == [b"421 4.3.2 The sandbox is closing\r\n"]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("<a@x.org>", ("a@x.org", "")),
        ("<a.b+c@x-y.org> SIZE=10", ("a.b+c@x-y.org", " SIZE=10")),
        (f"<{'a' * 65}@x.org>", (f"{'a' * 65}@x.org", "")),
    ],
)
def test_the_quick_reading_of_a_path_agrees_with_the_librarys(
    argument: str, expected: tuple[str, str], store: LetterStore, read_path: Callable[[str], object]
) -> None:
    assert read_path(argument) == expected


@pytest.fixture
def read_path(store: LetterStore, loop) -> Callable[[str], object]:  # type: ignore[no-untyped-def]
    async def read(argument: str) -> tuple[object, object]:
        import asyncio

        desk = mta.CaptureHandler(store, lambda _: None, mta.CaptureStats())
        dialogue = SmtpSession(desk, asyncio.get_running_loop())
        quick, slow = dialogue._getaddr(argument), super(SmtpSession, dialogue)._getaddr(argument)
        assert (quick[0], (quick[1] or "").split()) == (slow[0], (slow[1] or "").split())
        return quick

    return lambda argument: loop.run(read(argument))
