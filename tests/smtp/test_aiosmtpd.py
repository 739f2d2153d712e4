"""The SMTP adapter against aiosmtpd, an independent server: with and without PIPELINING, STARTTLS, AUTH."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from postroom.adapters.smtp.settings import AuthMethod, AuthSettings, Credentials, TlsSettings
from postroom.ports.relay import Lost, Reply, Result, Stage
from tests.smtp.outbound_messages import IN_CLEAR, Letter, Register, letters, pool


class Inbox:
    """A handler that stores what it accepts; `pipelining`: EHLO offers PIPELINING."""

    def __init__(self, pipelining: bool) -> None:
        self.pipelining = pipelining
        self.taken: list[tuple[list[str], bytes]] = []

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [responses[0], *(["250-PIPELINING"] if self.pipelining else []), *responses[1:]]

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("unknown"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.taken.append((list(envelope.rcpt_tos), envelope.content))
        return "250 2.0.0 taken"


@asynccontextmanager
async def server(inbox: Inbox, **options: Any) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    protocols: list[SMTP] = []

    def accept() -> SMTP:
        protocols.append(SMTP(inbox, hostname="aiosmtpd.test", enable_SMTPUTF8=True, loop=loop, **options))
        return protocols[-1]

    listening = await loop.create_server(accept, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await listening.wait_closed()
        for protocol in protocols:
            if isinstance(protocol.transport, asyncio.WriteTransport):
                protocol.transport.abort()
        await asyncio.sleep(0)


async def send(
    inbox: Inbox, given: list[Letter], settings: dict[str, Any], **options: Any
) -> dict[str, Result]:
    register = Register()
    async with server(inbox, **options) as port, pool(port, **settings) as sender:
        sender.deliver(given, register.note)
        await register.of(len(given))
    for recipients, content in inbox.taken:
        assert len(recipients) == 1
        assert f"for {recipients[0]}\r\n".encode() in content
    return register.results


PIPELINED = pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "lockstep"])
TAKEN = Reply(Stage.END_OF_DATA, 250, "2.0.0 taken")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> tuple[ssl.SSLContext, TlsSettings]:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context, TlsSettings(ca_file=file)


@PIPELINED
def test_letters_arrive_once_each_and_whole(pipelining: bool) -> None:
    inbox = Inbox(pipelining)
    results = asyncio.run(send(inbox, letters(60, size=5000), {"tls": IN_CLEAR, "connections": 4}))
    assert set(results.values()) == {TAKEN}
    assert sorted(recipients[0] for recipients, _ in inbox.taken) == sorted(results)


@PIPELINED
def test_an_unknown_recipient_does_not_affect_other_letters(pipelining: bool) -> None:
    inbox = Inbox(pipelining)
    given = [
        Letter("unknown0@example.net"),
        *letters(5),
        Letter("unknown1@example.net"),
        Letter("last@example.net"),
    ]
    results = asyncio.run(send(inbox, given, {"tls": IN_CLEAR}))
    assert results["unknown0@example.net"] == Reply(Stage.RCPT, 550, "5.1.1 no such user")
    assert results["unknown1@example.net"] == Reply(Stage.RCPT, 550, "5.1.1 no such user")
    assert list(results.values()).count(TAKEN) == len(inbox.taken) == 6


@PIPELINED
@pytest.mark.parametrize("method", AuthMethod)
def test_letters_are_sent_under_tls_after_authentication(
    pipelining: bool, method: AuthMethod, tls: tuple[ssl.SSLContext, TlsSettings]
) -> None:
    context, ours = tls

    def authenticate(
        server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        known = isinstance(data, LoginPassword) and data == LoginPassword(b"alice", b"open sesame")
        return AuthResult(success=known, handled=False)

    options = {
        "tls_context": context,
        "require_starttls": True,
        "authenticator": authenticate,
        "auth_required": True,
    }
    for password, taken in (("open sesame", 10), ("wrong", 0)):
        inbox = Inbox(pipelining)
        auth = AuthSettings(method, lambda password=password: Credentials("alice", password))  # type: ignore[misc]
        results = asyncio.run(send(inbox, letters(10), {"tls": ours, "auth": auth}, **options))
        assert len(inbox.taken) == list(results.values()).count(TAKEN) == taken
        if not taken:
            lost = set(results.values()).pop()
            assert isinstance(lost, Lost)
            assert (lost.stage, lost.reason[:3]) == (Stage.AUTH, "535")


@PIPELINED
def test_a_letter_over_the_announced_size_is_not_sent_and_others_are(pipelining: bool) -> None:
    inbox = Inbox(pipelining)
    given = [Letter("big@example.net", 5000), *letters(2)]
    results = asyncio.run(send(inbox, given, {"tls": IN_CLEAR}, data_size_limit=2000))
    big = results["big@example.net"]
    assert isinstance(big, Reply)
    assert (big.stage, big.code) == (Stage.MAIL, 552)
    assert len(inbox.taken) == 2


def test_an_address_beyond_ascii_travels_with_smtputf8() -> None:
    inbox = Inbox(pipelining=True)
    results = asyncio.run(send(inbox, [Letter("żółw@example.net")], {"tls": IN_CLEAR}))
    assert results == {"żółw@example.net": TAKEN}
