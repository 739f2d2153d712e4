"""TLS and credentials over real sockets: what is required, what is never sent in clear, what is reported."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from postroom.adapters.smtp.settings import (
    AuthMethod,
    AuthSettings,
    Credentials,
    RelaySettings,
    Timeouts,
    TlsMode,
    TlsSettings,
)
from postroom.adapters.smtp.transport import TlsContexts
from postroom.ports.relay import Lost, Result, Stage
from tests.delivery.scripted_relay import DROP, FULL, Raw, ScriptedRelay, Step, served
from tests.smtp.outbound_messages import ACCEPTED, IN_CLEAR, Register, letters, pool

USER = Credentials("alice", "open sesame")
PLAIN = AuthSettings(AuthMethod.PLAIN, lambda: USER)
LOGIN = AuthSettings(AuthMethod.LOGIN, lambda: USER)
WITH_AUTH = (*FULL, "AUTH PLAIN LOGIN")


class Authority:
    """A certificate authority for the tests, and contexts of servers with its certificates."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.file = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.file)

    def server(self, *names: str) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert(*(names or ("127.0.0.1", "relay.example.com"))).configure_cert(context)
        return context

    def tls(self, mode: TlsMode = TlsMode.REQUIRED, **more: Any) -> TlsSettings:
        return TlsSettings(mode, ca_file=self.file, **more)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def send(relay: ScriptedRelay, count: int = 3, **settings: Any) -> list[Result]:
    register = Register()
    async with served(relay), pool(relay.port, **settings) as sender:
        sender.deliver(letters(count), register.note)
        return await register.of(count)


def refused(results: list[Result], stage: Stage) -> str:
    """The reason, the same for all letters, why none could be sent."""
    (result, *others) = results
    assert isinstance(result, Lost)
    assert (result.stage, result.end_of_data_sent) == (stage, False)
    assert others == [result] * len(others)
    return result.reason


def test_starttls_is_verified_and_ehlo_is_read_again_after_it(authority: Authority) -> None:
    relay = ScriptedRelay(tls=authority.server())
    assert asyncio.run(send(relay, 10, tls=authority.tls())) == [ACCEPTED] * 10
    assert relay.secured == 1
    assert [command[:4] for command in relay.commands[:3]] == ["EHLO", "STAR", "EHLO"]


def test_tls_may_begin_with_the_first_byte(authority: Authority) -> None:
    relay = ScriptedRelay(tls=authority.server(), implicit_tls=True)
    assert asyncio.run(send(relay, 10, tls=authority.tls(TlsMode.IMPLICIT))) == [ACCEPTED] * 10


def test_a_relay_that_does_not_offer_starttls_gets_no_letter_when_it_is_required() -> None:
    relay = ScriptedRelay()
    assert refused(asyncio.run(send(relay, tls=TlsSettings())), Stage.TLS) == "STARTTLS not offered"
    assert not any(command.startswith("MAIL") for command in relay.commands)


def test_a_certificate_of_an_unknown_authority_is_refused(authority: Authority) -> None:
    reason = refused(asyncio.run(send(ScriptedRelay(tls=authority.server()), tls=TlsSettings())), Stage.TLS)
    assert "certificate verify failed" in reason


def test_a_certificate_for_another_name_is_refused_unless_server_name_is_that_name(
    authority: Authority,
) -> None:
    results = asyncio.run(send(ScriptedRelay(tls=authority.server("relay.example.com")), tls=authority.tls()))
    assert "certificate verify failed" in refused(results, Stage.TLS)
    tls = authority.tls(server_name="relay.example.com")
    relay = ScriptedRelay(tls=authority.server("relay.example.com"))
    assert asyncio.run(send(relay, tls=tls)) == [ACCEPTED] * 3


@pytest.mark.parametrize("step", ["454 4.7.0 not now", "500 what", DROP])
def test_starttls_refused_is_a_connection_not_opened(authority: Authority, step: Step) -> None:
    relay = ScriptedRelay({"STARTTLS": [step]}, tls=authority.server())
    assert refused(asyncio.run(send(relay, tls=authority.tls())), Stage.TLS)


def test_clear_text_after_the_220_is_an_injection(authority: Authority) -> None:
    relay = ScriptedRelay(
        {"STARTTLS": [Raw(b"220 go ahead\r\n250-evil\r\n250 AUTH PLAIN\r\n")]}, tls=authority.server()
    )
    assert "injected" in refused(asyncio.run(send(relay, tls=authority.tls())), Stage.TLS)


def test_opportunistic_tls_takes_any_certificate_and_falls_back_to_clear(authority: Authority) -> None:
    opportunistic = TlsSettings(TlsMode.OPPORTUNISTIC)
    secured = ScriptedRelay(tls=authority.server())
    assert asyncio.run(send(secured, tls=opportunistic)) == [ACCEPTED] * 3
    assert secured.secured == 1
    assert asyncio.run(send(ScriptedRelay(), tls=opportunistic)) == [ACCEPTED] * 3
    broken = ScriptedRelay({"STARTTLS": ["454 4.7.0 not now"]}, tls=authority.server())
    assert asyncio.run(send(broken, tls=opportunistic)) == [ACCEPTED] * 3
    assert broken.secured == 0


def test_a_client_certificate_is_shown_to_a_relay_that_asks(authority: Authority, tmp_path: Path) -> None:
    server = authority.server()
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(authority.file)
    issued = authority.authority.issue_cert("worker.example.com")
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(certificate)
    tls = authority.tls(certificate_file=certificate, key_file=key)
    assert asyncio.run(send(ScriptedRelay(tls=server), tls=tls)) == [ACCEPTED] * 3


def test_a_missing_authority_file_is_reported(tmp_path: Path, authority: Authority) -> None:
    tls = TlsSettings(ca_file=tmp_path / "absent.pem")
    assert "absent.pem" in refused(
        asyncio.run(send(ScriptedRelay(tls=authority.server()), tls=tls)), Stage.TLS
    )


@pytest.mark.parametrize(
    ("auth", "commands"),
    [
        (PLAIN, ["AUTH PLAIN AGFsaWNlAG9wZW4gc2VzYW1l"]),
        (LOGIN, ["AUTH LOGIN", "YWxpY2U=", "b3BlbiBzZXNhbWU="]),
    ],
    ids=["plain", "login"],
)
def test_credentials_are_given_under_tls(
    authority: Authority, auth: AuthSettings, commands: list[str]
) -> None:
    relay = ScriptedRelay(extensions=WITH_AUTH, tls=authority.server())
    assert asyncio.run(send(relay, tls=authority.tls(), auth=auth)) == [ACCEPTED] * 3
    start = relay.commands.index(commands[0])
    assert relay.commands[start : start + len(commands)] == commands
    assert relay.commands[:start].count("STARTTLS") == 1


def test_a_failed_authentication_is_reported_with_the_relays_text_and_without_the_password(
    authority: Authority,
) -> None:
    relay = ScriptedRelay({"AUTH": ["535 5.7.8 no such user"] * 9}, WITH_AUTH, tls=authority.server())
    reason = refused(asyncio.run(send(relay, tls=authority.tls(), auth=PLAIN)), Stage.AUTH)
    assert reason == "535 5.7.8 no such user"


def test_a_method_that_is_not_offered_is_named(authority: Authority) -> None:
    relay = ScriptedRelay(extensions=(*FULL, "AUTH XOAUTH2"), tls=authority.server())
    reason = refused(asyncio.run(send(relay, tls=authority.tls(), auth=PLAIN)), Stage.AUTH)
    assert reason == "the relay offers AUTH XOAUTH2, not PLAIN"


def test_credentials_are_never_sent_in_clear() -> None:
    with pytest.raises(ValueError, match="never sent in clear"):
        RelaySettings("relay.example.com", tls=IN_CLEAR, auth=PLAIN)
    relay = ScriptedRelay(extensions=WITH_AUTH)
    reason = refused(asyncio.run(send(relay, tls=TlsSettings(TlsMode.OPPORTUNISTIC), auth=PLAIN)), Stage.AUTH)
    assert "never sent in clear" in reason
    assert not any(command.startswith("AUTH") for command in relay.commands)


def test_each_connection_reads_the_credentials_anew(authority: Authority) -> None:
    passwords = iter(["first", "second", "third"])
    auth = AuthSettings(AuthMethod.PLAIN, lambda: Credentials("alice", next(passwords)))
    relay = ScriptedRelay(extensions=WITH_AUTH, tls=authority.server())
    sent = asyncio.run(send(relay, tls=authority.tls(), auth=auth, messages_per_connection=1))
    assert sent == [ACCEPTED] * 3
    assert len({command for command in relay.commands if command.startswith("AUTH")}) == 3


def test_credentials_that_cannot_be_read_are_a_reason(authority: Authority) -> None:
    def read() -> Credentials:
        raise FileNotFoundError("the Secret is not mounted")

    relay = ScriptedRelay(extensions=WITH_AUTH, tls=authority.server())
    results = asyncio.run(send(relay, tls=authority.tls(), auth=AuthSettings(AuthMethod.PLAIN, read)))
    assert "the Secret is not mounted" in refused(results, Stage.AUTH)


def test_no_repr_contains_a_password() -> None:
    assert "sesame" not in repr(USER)
    assert "sesame" not in repr(PLAIN)


@pytest.mark.parametrize(
    ("script", "stage", "reason"),
    [
        ({"greeting": ["554 5.3.2 no service"]}, Stage.CONNECT, "554 5.3.2 no service"),
        ({"greeting": ["421 4.3.2 busy"]}, Stage.CONNECT, "421 4.3.2 busy"),
        ({"greeting": [DROP]}, Stage.CONNECT, "the relay closed the connection"),
        ({"greeting": [Raw(b"SSH-2.0-OpenSSH\r\n")]}, Stage.CONNECT, "invalid SMTP reply"),
        ({"greeting": [Raw(b"220 hi\r\n250 and more\r\n")]}, Stage.EHLO, "without a command"),
        ({"EHLO": ["550 5.7.1 not you"]}, Stage.EHLO, "550 5.7.1 not you"),
        ({"EHLO": [DROP]}, Stage.EHLO, "the relay closed the connection"),
    ],
)
def test_a_connection_that_is_not_opened_is_reported_with_its_stage(
    script: dict[str, list[Step]], stage: Stage, reason: str
) -> None:
    assert reason in refused(asyncio.run(send(ScriptedRelay(script))), stage)


def test_an_old_relay_is_greeted_with_helo() -> None:
    relay = ScriptedRelay({"EHLO": ["502 5.5.2 what"]})
    assert asyncio.run(send(relay)) == [ACCEPTED] * 3
    assert [command.split(" ")[0] for command in relay.commands[:2]] == ["EHLO", "HELO"]
    assert "MAIL FROM:<post@example.com>" in relay.commands


def test_ehlo_has_the_address_of_the_connection_without_a_name() -> None:
    relay = ScriptedRelay()
    asyncio.run(send(relay))
    assert relay.commands[0] == "EHLO [127.0.0.1]"
    named = ScriptedRelay()
    asyncio.run(send(named, hello="worker.example.com"))
    assert named.commands[0] == "EHLO worker.example.com"


def test_a_client_certificate_needs_its_key() -> None:
    with pytest.raises(ValueError, match="both a client certificate and its key"):
        RelaySettings("relay.example.com", tls=TlsSettings(certificate_file=Path("tls.crt")))


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "does not answer"])
def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        relay, loop = ScriptedRelay(), asyncio.get_running_loop()
        connect = loop.sock_connect

        async def find(*_: object, **__: object) -> list[Any]:
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, ("127.0.0.1", 1)), (*kind, ("127.0.0.1", relay.port))]

        async def hesitate(sock: socket.socket, address: Any) -> None:
            if silent and address[1] == 1:
                await asyncio.Event().wait()
            await connect(sock, address)

        monkeypatch.setattr(loop, "getaddrinfo", find)
        monkeypatch.setattr(loop, "sock_connect", hesitate)
        assert await send(relay, timeouts=Timeouts(connect=0.1)) == [ACCEPTED] * 3

    asyncio.run(run())


def test_a_name_without_an_address_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> list[Result]:
        async def find(*_: object, **__: object) -> list[Any]:
            raise socket.gaierror(-2, "Name or service not known")

        register = Register()
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", find)
        async with pool(25, host="relay.example.com") as sender:
            sender.deliver(letters(1), register.note)
            return await register.of(1)

    reason = refused(asyncio.run(run()), Stage.CONNECT)
    assert reason.startswith("relay.example.com:25 did not accept a connection:")
    assert "Name or service not known" in reason


def test_a_rotated_file_makes_a_new_context_and_an_unchanged_one_does_not(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    contexts = TlsContexts(TlsSettings(ca_file=file))
    first = contexts.current()
    assert contexts.current() is first
    trustme.CA(organization_name="another").cert_pem.write_to_path(file)
    assert contexts.current() is not first
