"""Bad requests to the gateway: in this process if HTTP itself is valid, else over a socket."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import replace

import httpx

from postroom.gateway import intake
from postroom.gateway.app import BODY_TIMEOUT_SECONDS, create_gateway_app
from postroom.gateway.publisher import PublishFailed
from postroom.http.endpoint import Endpoint
from postroom.http.server import HeadTimeoutProtocol, web_server
from postroom.startup import listen
from tests.badinputs.row import Answers, BadInput, only
from tests.gateway.test_app import GOOD, GatewayClient

GATEWAY = "gateway"
APP = "gateway/test_app.py"
ID = {"Idempotency-Key": "order-7"}
HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"
SHORT_SECONDS = 0.2
NO_LOGIN = "the gateway has no login yet: it listens on the loopback address unless told otherwise"


def problem_answer(answer: httpx.Response) -> Answers:
    """A problem document as a line."""
    problem = answer.json()
    codes = "".join(f" ({each['code']} at {each['pointer']})" for each in problem.get("errors", ()))
    again = f"; Retry-After: {answer.headers['retry-after']}" if "retry-after" in answer.headers else ""
    return only(GATEWAY, f"{answer.status_code} {problem['title']}: {problem['detail']}{codes}{again}")


def _media() -> Answers:
    return problem_answer(
        GatewayClient()("POST", "/v1/messages", content=b"{}", headers={"content-type": "text/plain"})
    )


def _other_body() -> Answers:
    call = GatewayClient()
    assert call.post(headers=ID).status_code == 202
    return problem_answer(call.post({**GOOD, "data": {"name": "Mallory"}}, headers=ID))


def _under_way() -> Answers:
    call = GatewayClient()
    request = httpx.Request("POST", "http://127.0.0.1", json=GOOD)
    prepared = call.services.intake.prepare(intake.MessageRequest(request.content, "order-7"))
    with call.services.idempotency.reserve(prepared.identity, prepared.content):
        return problem_answer(call.post(headers=ID))


def _broker_down() -> Answers:
    call = GatewayClient()
    call.publisher.failure = PublishFailed("the broker did not acknowledge in time")
    return problem_answer(call.post(headers=ID))


def _huge() -> Answers:
    """A chunked body without end; the response comes before it is sent."""

    def speak(line: socket.socket) -> None:
        line.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            for _ in range(1 << 14):
                line.sendall(CHUNK)
                sent += len(CHUNK)
        assert sent < 4 * intake.MAX_BODY_BYTES, "the rest was read"

    return _over_a_socket(speak)


def _slow_head() -> Answers:
    return _over_a_socket(lambda line: line.sendall(HEAD))


def _slow_body() -> Answers:
    return _over_a_socket(lambda line: line.sendall(HEAD + b"Content-Length: 99\r\n\r\n{"), SHORT_SECONDS)


def _over_a_socket(
    speak: Callable[[socket.socket], None], body_seconds: float = BODY_TIMEOUT_SECONDS
) -> Answers:
    """The response of a gateway with short timeouts; the text shows the default seconds."""

    def converse(where: Endpoint) -> bytes:
        with socket.create_connection(where, timeout=10) as line:
            speak(line)
            return b"".join(iter(lambda: line.recv(65536), b""))

    async def serve() -> bytes:
        app = create_gateway_app(replace(GatewayClient().services, body_timeout=body_seconds))
        server = web_server(app, Endpoint("127.0.0.1", 0))
        server.config.http = Impatient
        with listen(Endpoint("127.0.0.1", 0), "the test") as listening:
            serving = asyncio.create_task(server.serve([listening]))
            try:
                return await asyncio.to_thread(converse, Endpoint(*listening.getsockname()[:2]))
            finally:
                server.should_exit = True
                await serving

    head, _, body = asyncio.run(serve()).partition(b"\r\n\r\n")
    status = head.decode().partition("\r\n")[0].removeprefix("HTTP/1.1 ")
    if not body:
        return only(GATEWAY, status)
    body = body.replace(f"{body_seconds:g} s".encode(), f"{BODY_TIMEOUT_SECONDS:g} s".encode())
    return problem_answer(httpx.Response(int(status.split()[0]), content=body))


class Impatient(HeadTimeoutProtocol):
    """The same with short timeouts."""

    head_timeout = SHORT_SECONDS


ROWS = (
    BadInput("http-login", "HTTP", "no token, an expired one, one of another namespace", dict, note=NO_LOGIN),
    BadInput(
        "http-huge",
        "HTTP",
        "a chunked body of 1 GB: refused at its limit, the rest not read",
        _huge,
        (f"{APP}::test_a_body_over_the_limit_is_given_up",),
    ),
    BadInput("http-slow-head", "HTTP", "a request's head that does not come to its end", _slow_head),
    BadInput("http-slow-body", "HTTP", "a body that does not come to its end", _slow_body),
    BadInput("http-media", "HTTP", "`Content-Type: text/plain`", _media, (f"{APP}::test_only_json_is_read",)),
    BadInput(
        "http-other-body",
        "HTTP",
        "the same id, another body",
        _other_body,
        (f"{APP}::test_the_same_id_with_another_body_is_refused_and_forgotten_where_nothing_was_accepted",),
    ),
    BadInput("http-under-way", "HTTP", "the same id while it is handed to the broker", _under_way),
    BadInput(
        "http-broker",
        "HTTP",
        "the brokers do not answer: 202 only after their acknowledgement",
        _broker_down,
        (f"{APP}::test_a_silent_broker_is_503_with_the_id_to_repeat",),
    ),
)
