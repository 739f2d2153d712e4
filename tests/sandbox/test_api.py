"""The JSON API, which end-to-end tests and other programs rely on."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from postroom.sandbox.api import _event_stream, format_event
from postroom.sandbox.inbox import (
    MAX_QUEUED_EVENTS,
    Inbox,
    InboxClosed,
    Lagged,
    LettersChanged,
    Subscription,
)
from postroom.sandbox.mime import StoredLetter
from tests.sandbox.conftest import ENVELOPE, Call
from tests.sandbox.sample_letters import PIXEL, letter, raw, with_file, with_picture

Capture = Callable[..., StoredLetter]


def test_the_list_is_newest_first_and_continues_by_cursor(call: Call, capture: Capture) -> None:
    for number in range(5):
        capture(raw(letter(f"Letter {number}")))
    first = call("GET", "/api/v1/letters?limit=2").json()
    assert [entry["subject"] for entry in first["letters"]] == ["Letter 4", "Letter 3"]
    assert (first["total"], first["unread"], first["next"]) == (5, 5, "4")
    second = call("GET", f"/api/v1/letters?limit=3&cursor={first['next']}").json()
    assert [entry["subject"] for entry in second["letters"]] == ["Letter 2", "Letter 1", "Letter 0"]
    assert second["next"] is None


def test_an_entry_has_the_envelope_and_the_template(call: Call, capture: Capture) -> None:
    capture(raw(letter("Hello", template="welcome@5d1e9b0")), "mira@example.com", "jonas@example.com")
    (entry,) = call("GET", "/api/v1/letters").json()["letters"]
    assert entry["to"] == ["mira@example.com", "jonas@example.com"]
    assert (entry["template"], entry["revision"], entry["read"]) == ("welcome", "5d1e9b0", False)
    assert entry["sender"] == "Larkfield Supply <orders@shop.example.com>"
    assert entry["received_at"].endswith("Z")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("to=mira@example.com", [1]),
        ("to=ira@example.com", []),
        ("subject=HELLO", [1]),
        ("template=receipt", [2]),
        ("q=to:jonas", [2]),
        ("after=1", [2]),
        ("since=2001-01-01T00:00:00Z", [2, 1]),
        ("since=2101-01-01T00:00:00%2B02:00", []),
    ],
)
def test_filters_narrow_the_list(call: Call, capture: Capture, query: str, expected: list[int]) -> None:
    capture(raw(letter("Hello", template="welcome@1")), "mira@example.com")
    capture(raw(letter("Order")), "jonas@example.com")
    assert [entry["id"] for entry in call("GET", f"/api/v1/letters?{query}").json()["letters"]] == expected


def test_the_detail_has_content_links_and_codes(call: Call, capture: Capture) -> None:
    html = '<p>Your code is <b>481920</b>, <a href="https://shop.example.com/v">verify</a></p>'
    capture(raw(letter("Code", html=html, text="Your code is 481920\n")))
    detail = call("GET", "/api/v1/letters/1").json()
    assert detail["codes"] == ["481920"]
    assert detail["links"] == [{"url": "https://shop.example.com/v", "text": "verify"}]
    assert {"name": "Subject", "value": "Code"} in detail["headers"]
    assert (detail["has_html"], detail["has_text"], detail["text"]) == (True, True, "Your code is 481920\r\n")
    assert not call("GET", "/api/v1/letters").json()["letters"][0]["read"]


def test_the_raw_letter_is_unchanged(call: Call, capture: Capture) -> None:
    content = raw(letter("Hello"))
    capture(content)
    answer = call("GET", "/api/v1/letters/1/raw")
    assert answer.content == content
    assert answer.headers["content-disposition"] == 'attachment; filename="letter-1.eml"'


def test_an_attachment_is_a_download_regardless_of_its_type(call: Call, capture: Capture) -> None:
    message = with_file("../Rechnung für Mira.html", b"<script>alert(1)</script>")
    content = raw(message).replace(b"application/pdf", b"text/html")
    capture(content)
    answer = call("GET", "/api/v1/letters/1/attachments/1")
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"Rechnung_f_r_Mira.html\"; filename*=UTF-8''Rechnung%20f%C3%BCr%20Mira.html"
    )
    assert call("GET", "/api/v1/letters/1/attachments/2").status_code == 404


def test_text_falls_back_to_the_html(call: Call, capture: Capture) -> None:
    capture(raw(letter(html="<style>p{}</style><p>One</p><p>Two &amp; three</p>", text=None)))
    assert call("GET", "/api/v1/letters/1/text").text.split() == ["One", "Two", "&", "three"]


def test_marking_and_deleting_and_undoing(call: Call, capture: Capture) -> None:
    capture(raw(letter()))
    assert call("PATCH", "/api/v1/letters/1", json={"read": True}).json()["read"] is True
    deletion = call("DELETE", "/api/v1/letters/1").json()
    assert deletion["letters"] == 1
    assert call("GET", "/api/v1/letters/1").status_code == 404
    assert call("POST", f"/api/v1/deletions/{deletion['deletion']}/restore").json() == {"letters": 1}
    assert call("DELETE", "/api/v1/letters").json()["letters"] == 1
    assert call("DELETE", "/api/v1/letters/1").status_code == 404
    assert call("POST", "/api/v1/deletions/1/restore").status_code == 404


def test_the_letters_to_a_recipient_are_erased_for_good_and_others_stay(call: Call, capture: Capture) -> None:
    capture(raw(letter("One")), "mira@example.com")
    capture(raw(letter("Two")), "jonas@example.com", "Mira@example.com")
    capture(raw(letter("Three")), "notmira@example.com")
    call("DELETE", "/api/v1/letters/1")
    body = {"address": "MIRA@example.com"}
    assert call("POST", "/api/v1/erasures", json=body | {"dry_run": True}).json() == {"letters": 2}
    assert call("GET", "/api/v1/letters").json()["total"] == 2
    assert call("POST", "/api/v1/erasures", json=body).json() == {"letters": 2}
    assert call("POST", "/api/v1/erasures", json=body).json() == {"letters": 0}
    (remaining,) = call("GET", "/api/v1/letters").json()["letters"]
    assert remaining["subject"] == "Three"


@pytest.mark.parametrize(
    ("method", "url", "status", "word"),
    [
        ("GET", "/api/v1/letters/99", 404, "99"),
        ("GET", "/api/v1/letters/x", 422, "letter"),
        ("GET", "/api/v1/letters?limit=0", 422, "limit"),
        ("GET", "/api/v1/letters?q=tag:x", 422, "There is no tag:"),
        ("GET", "/api/v1/letters?since=2026-11-23T16:00:00", 422, "time zone"),
        ("GET", "/api/v1/wait?timeout=9999", 422, "timeout"),
        ("GET", "/api/v1/nothing", 404, "/api/v1/nothing"),
        ("POST", "/api/v1/letters", 405, "POST"),
        ("GET", "/api/v1/letters/1/html", 404, "letter 1"),
    ],
)
def test_errors_are_problems_that_name_the_parameter_or_path(
    call: Call, method: str, url: str, status: int, word: str
) -> None:
    answer = call(method, url)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert word in answer.json()["detail"]


def test_a_cid_image_has_a_url_of_its_own(call: Call, capture: Capture) -> None:
    capture(raw(with_picture()))
    frame = call("GET", "/letters/1/frame")
    assert '<img src="/letters/1/pictures/2.2" alt="Logo">' in frame.text
    assert "img-src data: 127.0.0.1:8025/letters/1/pictures/;" in frame.headers["content-security-policy"]
    picture = call("GET", "/letters/1/pictures/2.2")
    assert (picture.content, picture.headers["content-type"]) == (PIXEL, "image/png")
    assert call("GET", "/letters/1/pictures/1").status_code == 404


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("<img src=cid:logo@shop>", "<img src=/letters/1/pictures/2.2>"),
        ('<img src="cid:logo%40shop">', '<img src="/letters/1/pictures/2.2">'),
        ('<img src="cid:logo&#64;shop">', '<img src="/letters/1/pictures/2.2">'),
        ('<td background="cid:logo@shop">', '<td background="/letters/1/pictures/2.2">'),
        ("<p style=\"background:url('cid:logo@shop')\">", "url('/letters/1/pictures/2.2')"),
        ('<p style="background:url(&quot;cid:logo@shop&quot;)">', "url(&quot;/letters/1/pictures/2.2&quot;)"),
        (
            '<img srcset="cid:logo@shop 1x, cid:logo@shop 2x">',
            '"/letters/1/pictures/2.2 1x, /letters/1/pictures/2.2 2x"',
        ),
        ('<img src="cid:missing">', '<img src="cid:missing">'),
        ("<p>Write cid:logo@shop in the page.</p>", "<p>Write cid:logo@shop in the page.</p>"),
    ],
)
def test_a_cid_reference_is_resolved_in_every_context(
    call: Call, capture: Capture, html: str, shown: str
) -> None:
    message = raw(with_picture()).replace(b'<img src="cid:logo@shop" alt="Logo">', html.encode())
    capture(message)
    assert shown in call("GET", "/letters/1/frame").text


# -- waiting and live news


def together(app: FastAPI, *work: Callable[[httpx.AsyncClient], Any]) -> list[Any]:
    async def run() -> list[Any]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8025") as client:
            return await asyncio.gather(*(piece(client) for piece in work))

    return asyncio.run(run())


def test_waiting_finds_a_stored_letter_at_once(call: Call, capture: Capture) -> None:
    capture(raw(letter("Early")))
    assert call("GET", "/api/v1/wait?to=mira@example.com").json()["subject"] == "Early"


def test_waiting_ends_when_a_matching_letter_arrives(app: FastAPI, inbox: Inbox) -> None:
    async def wait(client: httpx.AsyncClient) -> httpx.Response:
        return await client.get("/api/v1/wait?subject=code&timeout=5")

    async def send(client: httpx.AsyncClient) -> None:
        while not len(inbox.subscriptions):  # noqa: ASYNC110 - lets the waiting call run
            await asyncio.sleep(0)
        for subject in ("Other", "Your code is 481920", "code again"):
            found = await asyncio.wrap_future(inbox.store.capture(ENVELOPE, raw(letter(subject))))
            inbox.subscriptions.publish(found)

    answer, _ = together(app, wait, send)
    assert answer.json()["subject"] == "Your code is 481920"
    assert answer.json()["codes"] == ["481920"]
    assert len(inbox.subscriptions) == 0


def test_a_wait_without_a_letter_is_408(call: Call) -> None:
    answer = call("GET", "/api/v1/wait?to=absent@example.com&timeout=0.01")
    assert answer.status_code == 408
    assert answer.json()["detail"] == "No letter met the filter within 0.01 s."


def test_waiting_calls_end_when_the_sandbox_shuts_down(inbox: Inbox, call: Call) -> None:
    inbox.subscriptions.close()
    assert call("GET", "/api/v1/wait?to=x@y.org").status_code == 503


async def collect(stream: AsyncIterator[str], number: int) -> list[str]:
    return [await anext(stream) for _ in range(number)]


def test_the_stream_repeats_missed_letters_once_and_continues(inbox: Inbox, capture: Capture) -> None:
    async def run() -> list[str]:
        capture(raw(letter("One")))
        capture(raw(letter("Two")))
        stream = _event_stream(inbox, 1)
        begin = await collect(stream, 2)
        third = await asyncio.wrap_future(inbox.store.capture(ENVELOPE, raw(letter("Three"))))
        second = inbox.store.letter(2)
        assert second is not None
        inbox.subscriptions.publish(second)
        inbox.subscriptions.publish(third)
        inbox.subscriptions.publish(LettersChanged())
        inbox.subscriptions.close()
        return begin + [piece async for piece in stream]

    pieces = asyncio.run(run())
    assert [piece.partition("\n")[0] for piece in pieces] == [
        "retry: 2000",
        "id: 2",
        "id: 3",
        "event: changed",
    ]
    data = json.loads(pieces[2].split("data: ")[1])
    assert (data["id"], data["subject"]) == (3, "Three")


def test_a_subject_cannot_inject_events_into_the_stream(capture: Capture) -> None:
    found = capture(b"Subject: =?utf-8?q?x=0A=0Aevent:_evil=E2=80=A8?=\r\n\r\n")
    assert format_event(found).count("\n") == 4


def test_a_full_subscription_gets_lagged() -> None:
    async def run() -> object:
        subscription = Subscription()
        for _ in range(MAX_QUEUED_EVENTS + 1):
            subscription.publish(LettersChanged())
        return await subscription.next(1)

    assert asyncio.run(run()) == Lagged()


def test_drain_keeps_the_closed_event() -> None:
    async def run() -> object:
        subscription = Subscription()
        subscription.publish(InboxClosed())
        subscription.drain()
        return await subscription.next(1)

    assert asyncio.run(run()) == InboxClosed()


# -- host names and origins


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8025", 200),
        ("[::1]:8025", 200),
        ("10.1.2.3", 200),
        ("localhost:8025", 200),
        ("shop.localhost", 200),
        ("INBOX.shop.example:80", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("[", 421),
    ],
)
def test_only_allowed_host_names_are_answered(call: Call, host: str, status: int) -> None:
    assert call("GET", "/api/v1/letters", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:8025"}, 200),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_only_own_pages_and_programs_may_change_letters(
    call: Call, headers: dict[str, str], status: int
) -> None:
    assert call("DELETE", "/api/v1/letters", headers=headers).status_code == status
    assert call("GET", "/api/v1/letters", headers=headers).status_code == 200


def test_no_other_origin_may_read_an_answer(call: Call) -> None:
    answer = call("GET", "/api/v1/letters", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


# -- operation


def test_metrics_and_health_checks_are_served(call: Call, capture: Capture) -> None:
    capture(raw(letter()))
    assert call("GET", "/healthz").json() == {"status": "alive"}
    assert call("GET", "/readyz").json() == {"status": "ready"}
    lines = call("GET", "/metrics").text.splitlines()
    assert "postroom_sandbox_letters 1.0" in lines
    assert 'postroom_sandbox_letters_refused_total{reason="storage"} 0.0' in lines


def test_openapi_is_served_and_the_documentation_pages_are_off(call: Call) -> None:
    paths = call("GET", "/api/v1/openapi.json").json()["paths"]
    assert "/api/v1/wait" in paths
    assert "/letters/{letter}" not in paths
    assert call("GET", "/docs").status_code == 404
