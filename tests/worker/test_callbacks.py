"""Callbacks over real HTTP: signed, guarded, tried again, and no letter waits for them."""

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpcore
import pytest
import trustme
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from postroom.adapters import webhooks
from postroom.adapters.webhooks import WebhookClient, WebhookTarget
from postroom.letter.allowlist import Allowlist, read_allowlist
from postroom.letter.profile import CallbackSpec
from postroom.policy.notifications import notification_rule
from postroom.ports.ledger import State
from postroom.ports.notifications import CallbackResponse, Notification
from postroom.worker.callbacks import FAILING_SECONDS, CallbackContext, CallbackDispatcher
from postroom.worker.secrets import CallbackSecret
from postroom.worker.status import Condition, callbacks_condition
from tests.delivery import kubelet
from tests.delivery.async_test import async_test
from tests.delivery.letters import NOON, record
from tests.delivery.pipeline_harness import Bench

OLD, NEW = "whsec_" + "A" * 32, "whsec_" + "B" * 32
HERE = read_allowlist("http://127.0.0.0/8")
NOTICE = Notification(
    "7-accepted-1", "crm", "order-4711", "dev.postroom.letter.accepted", '{"a":"ä"}', NOON, 7, 1
)


@dataclass
class Receiver:
    """A web server that keeps each request and answers as configured."""

    answers: list[int] = field(default_factory=list)
    """In turn; then 204."""
    response_headers: dict[str, str] = field(default_factory=dict)
    """Headers of its answers."""
    context: ssl.SSLContext | None = None
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    body: bytes = b""

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, data))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                for name, value in receiver.response_headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(receiver.body)))
                self.end_headers()
                self.wfile.write(receiver.body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if self.context:
            self.server.socket = self.context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def url(self) -> str:
        scheme = "https" if self.context else "http"
        host = "localhost" if self.context else "127.0.0.1"
        return f"{scheme}://{host}:{self.server.server_port}/hook?tenant=north"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


async def call(
    target: WebhookTarget, notice: Notification = NOTICE, keys: tuple[bytes, ...] = (b"k" * 24,)
) -> CallbackResponse:
    caller = WebhookClient(target)
    try:
        return await caller.call(notice, keys, NOON)
    finally:
        await caller.close()


class Desk:
    """A profile's callback on a worker's bench."""

    def __init__(self, folder: Path, url: str, allowed: Allowlist = HERE) -> None:
        self.folder = folder / "crm"
        self.folder.mkdir()
        self.secret(OLD)
        ref = {"name": "crm"}
        callback = CallbackSpec.model_validate({"name": "crm", "url": url, "secretRef": ref, "timeout": "2s"})
        self.door = CallbackDispatcher(callback, CallbackSecret(folder, "shop"), allowed)
        self.door.reload()
        self.bench = Bench()
        self.bench.ledger.announce(notification_rule({"crm": ["accepted"]}))
        self.counted: dict[str, int] = {}
        self.world = CallbackContext(self.bench.ledger, self.bench.clock, self.count)

    def secret(self, text: str) -> None:
        kubelet.write(self.folder, {"webhook.secret": text} if text else {})

    def count(self, _: str, result: str, count: int) -> None:
        self.counted[result] = self.counted.get(result, 0) + count

    async def round(self) -> int:
        try:
            return await self.door.round(self.world)
        finally:
            await self.door.close()

    @property
    def waiting(self) -> int:
        return len(self.bench.store.notices)

    def last_error(self) -> tuple[str, str] | None:
        return self.door.last_error(self.bench.clock.now())

    @property
    def condition(self) -> Condition:
        return callbacks_condition([self.last_error()], self.door.reached)


@async_test
async def test_a_receiver_verifies_the_notice_with_the_library_of_the_standard(
    receiver: Receiver, tmp_path: Path
) -> None:
    desk = Desk(tmp_path, receiver.url)
    await desk.bench.carry(record("a", user_id="u-1"))
    assert await desk.round() == 1
    [(headers, body)] = receiver.got
    found = _verified(OLD, body, headers)
    assert (found["type"], found["timestamp"]) == ("dev.postroom.letter.accepted", "2026-11-23T12:00:00.000Z")
    assert (found["data"]["state"], found["data"]["event"]["user_id"]) == ("accepted", "u-1")
    with pytest.raises(WebhookVerificationError):
        _verified(NEW, body, headers)
    assert (desk.waiting, desk.counted["delivered"]) == (0, 1)


def _verified(secret: str, body: bytes, headers: dict[str, str]) -> Any:
    """What the standard's own library makes of it, at the time when it was sent."""
    webhook = Webhook(secret)
    expected = webhook.sign(headers["webhook-id"], NOON, body.decode())
    if expected not in headers["webhook-signature"].split(" "):
        raise WebhookVerificationError("no matching signature")
    assert headers["webhook-timestamp"] == str(int(NOON.timestamp()))
    return json.loads(body)


@async_test
async def test_a_secret_is_changed_without_a_gap(receiver: Receiver, tmp_path: Path) -> None:
    desk = Desk(tmp_path, receiver.url)
    desk.secret(f"{NEW}\n{OLD}\n")
    desk.door.reload()
    await desk.bench.carry(record())
    await desk.round()
    [(headers, body)] = receiver.got
    assert _verified(NEW, body, headers) == _verified(OLD, body, headers)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not in Secret shop/crm"),
        ("whsec_c2hvcnQ=", "24 to 64 bytes in base64"),
        ("x", "is not whsec_"),
    ],
)
@async_test
async def test_without_a_good_secret_notices_wait_and_it_is_said_at_once(
    receiver: Receiver, tmp_path: Path, text: str, reason: str
) -> None:
    desk = Desk(tmp_path, receiver.url)
    desk.secret(text)
    desk.door.reload()
    await desk.bench.carry(record())
    assert await desk.round() == 0
    assert (receiver.got, desk.waiting, desk.bench.state()) == ([], 1, State.ACCEPTED)
    trouble = desk.last_error()
    assert trouble is not None
    assert reason in trouble[1]
    desk.secret(OLD)
    desk.door.reload()
    assert await desk.round() == 1
    assert desk.last_error() is None


@async_test
async def test_a_notice_is_tried_again_with_the_same_id_until_it_arrives(tmp_path: Path) -> None:
    with Receiver([500, 301], response_headers={"location": "http://127.0.0.1:1/"}) as receiver:
        desk = Desk(tmp_path, receiver.url)
        await desk.bench.carry(record())
        assert [await desk.round() for _ in range(2)] == [0, 0]
        assert len(receiver.got) == 1, "it is not time yet"
        desk.bench.clock.pass_(7)
        assert await desk.round() == 0
        desk.bench.clock.pass_(30)
        assert await desk.round() == 1
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len({headers["webhook-timestamp"] for headers, _ in receiver.got}) == 3
    assert desk.counted == {"failed": 2, "delivered": 1, "given_up": 0}


@async_test
async def test_a_callback_that_fails_for_long_is_said_and_after_a_day_a_notice_is_given_up(
    tmp_path: Path,
) -> None:
    with Receiver([500] * 99) as receiver:
        desk = Desk(tmp_path, receiver.url)
        await desk.bench.carry(record())
        await desk.round()
        assert (desk.condition.ok, desk.condition.reason) == (None, "NotAttempted"), "a moment is no matter"
        desk.bench.clock.pass_(FAILING_SECONDS)
        assert desk.condition.reason == "CallbackFails"
        while desk.waiting:
            desk.bench.clock.pass_(4 * 3600)
            await desk.round()
    assert (desk.counted["given_up"], desk.bench.state()) == (1, State.ACCEPTED)
    assert 3 < len(receiver.got) < 12


@async_test
async def test_one_that_says_gone_rests_and_its_notices_wait(tmp_path: Path) -> None:
    with Receiver([410]) as receiver:
        desk = Desk(tmp_path, receiver.url)
        await desk.bench.carry(record("a"))
        await desk.round()
        assert desk.condition.reason == "CallbackGone"
        await desk.bench.carry(record("b", 1))
        assert await desk.round() == 0
        assert len(receiver.got) == 1
        desk.bench.clock.pass_(3 * 3600)
        assert await desk.round() + await desk.round() == 2
    assert (desk.condition.ok, desk.condition.reason) == (True, "Called")


@async_test
async def test_an_address_that_is_not_allowed_is_never_connected_to(
    receiver: Receiver, tmp_path: Path
) -> None:
    desk = Desk(tmp_path, receiver.url, allowed=Allowlist())
    await desk.bench.carry(record())
    await desk.round()
    assert receiver.got == []
    assert desk.waiting == 1
    trouble = desk.last_error()
    assert trouble is not None
    assert trouble[0] == "CallbackNotAllowed"


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0"])
@async_test
async def test_other_words_for_this_machine_are_resolved_before_they_are_judged(host: str) -> None:
    answer = await call(WebhookTarget(f"https://{host}:1/", 5, Allowlist()))
    assert answer.blocked or "cannot be resolved" in answer.reason


@async_test
async def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the second answer for the name would be another."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def resolve(host: str, port: int) -> list[str]:
        assert host == "hooks.example.org"
        return answers.pop(0)

    monkeypatch.setattr(webhooks, "_resolve", resolve)
    url = receiver.url.replace("127.0.0.1", "hooks.example.org")
    assert (await call(WebhookTarget(url, 5, HERE))).status == 204
    assert len(answers) == 1
    [(headers, _)] = receiver.got
    assert headers["host"].startswith("hooks.example.org:")


@async_test
async def test_tls_is_verified_against_the_name_and_the_profiles_own_authority() -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    pem = authority.cert_pem.bytes().decode()
    near = read_allowlist("127.0.0.0/8,::1")
    with Receiver(context=context) as receiver:
        assert (await call(WebhookTarget(receiver.url, 5, near, pem))).status == 204
        stranger = await call(WebhookTarget(receiver.url, 5, near, trustme.CA().cert_pem.bytes().decode()))
        assert "TLS" in stranger.reason
        misnamed = await call(WebhookTarget(receiver.url.replace("localhost", "127.0.0.1"), 5, near, pem))
        assert "TLS" in misnamed.reason
        assert len(receiver.got) == 1
    with pytest.raises(ValueError, match="is no certificate in PEM"):
        WebhookClient(WebhookTarget(receiver.url, 5, near, "-----BEGIN NONSENSE"))


@async_test
async def test_an_answer_without_end_costs_a_few_kilobytes(receiver: Receiver) -> None:
    receiver.body = b"x" * 5_000_000
    assert (await call(WebhookTarget(receiver.url, 5, HERE))).status == 204


@async_test
async def test_a_server_that_does_not_answer_or_speaks_no_http_is_a_failure_without_its_words() -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stop.wait()
        writer.close()

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 secret banner\r\n")
        writer.close()

    stop = asyncio.Event()
    for serve, reason in ((silent, "no response within 0.2 s"), (rude, "the response is no HTTP")):
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        answer = await call(WebhookTarget(f"http://127.0.0.1:{port}/", 0.2 if serve is silent else 5, HERE))
        assert (answer.status, answer.reason) == (0, reason)
        stop.set()
        server.close()
        await server.wait_closed()


@async_test
async def test_nobody_there_is_a_failure_with_a_reason_that_stays_the_same(receiver: Receiver) -> None:
    receiver.__exit__()
    answers = [await call(WebhookTarget(receiver.url, 5, HERE)) for _ in range(2)]
    assert answers[0].status == 0
    assert answers[0].reason == answers[1].reason != ""
    receiver.__enter__()


def test_the_library_follows_no_redirects_and_reads_no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with Receiver([307], response_headers={"location": "/elsewhere"}) as receiver:
        answer = asyncio.run(call(WebhookTarget(receiver.url, 5, HERE)))
    assert (answer.status, len(receiver.got)) == (307, 1)
    assert httpcore.__version__
