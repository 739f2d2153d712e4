"""Parsing of letters, including hostile letters."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.sandbox.extract import plain_text
from postroom.sandbox.mime import (
    MAX_DEPTH,
    MAX_PARTS,
    SmtpEnvelope,
    decode_header_text,
    decode_text,
    parse_letter,
    safe_filename,
    summarize_letter,
)
from tests.sandbox.sample_letters import PIXEL, letter, raw, with_file, with_picture

QUICK = 5.0  # seconds; a careless parser takes minutes for the letters below, or ends in a RecursionError


def test_a_multipart_alternative_has_text_and_html() -> None:
    found = parse_letter(raw(letter("x", text="Grüße\n", html="<p>Grüße</p>")))
    text, html = found.first("text/plain"), found.first("text/html")
    assert text is not None
    assert html is not None
    assert text.text() == "Grüße\r\n"
    assert html.text().strip() == "<p>Grüße</p>"
    assert [part.path for part in found.parts] == ["0", "1", "2"]


def test_an_image_is_found_by_its_content_id() -> None:
    found = parse_letter(raw(with_picture()))
    part = found.by_content_id("logo@shop")
    assert part is not None
    assert (part.content_type, part.payload()) == ("image/png", PIXEL)
    assert found.attachments == ()


def test_an_inline_image_with_a_name_is_no_attachment() -> None:
    inline = (
        b'Content-Type: image/png\r\nContent-ID: <a>\r\nContent-Disposition: %s; filename="a.png"\r\n\r\nx'
    )
    assert parse_letter(inline % b"inline").attachments == ()
    assert len(parse_letter(inline % b"attachment").attachments) == 1
    assert len(parse_letter(inline.replace(b"Content-ID: <a>\r\n", b"") % b"inline").attachments) == 1


def test_an_attachment_keeps_its_name_and_bytes() -> None:
    (part,) = parse_letter(raw(with_file("Rechnung für Mira.pdf"))).attachments
    assert (part.filename, part.payload()) == ("Rechnung für Mira.pdf", b"%PDF-1.4")


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\x.pdf", "x.pdf"),
        ("a\r\nb.pdf", "ab.pdf"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("..", ""),
        ("x" * 500, "x" * 200),
    ],
)
def test_a_file_name_has_no_path_and_no_control_characters(given_name: str, kept: str) -> None:
    assert safe_filename(given_name) == kept


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("=?utf-8?q?Caf=C3=A9?=", "Café"),
        ("=?utf-8?q?a=0ABcc:_evil@x.org?=", "a\ufffdBcc: evil@x.org"),
        ("=?nonsense?q?abc?=", "=?nonsense?q?abc?="),
        ("=?utf-8?b?!!!?= x", " x"),
        ("plain", "plain"),
    ],
)
def test_header_texts_are_decoded(value: str, seen: str) -> None:
    assert decode_header_text(value) == seen


@pytest.mark.parametrize(
    "charset", ["idna", "punycode", "rot13", "zlib", "unicode_escape", "nonsense", "", "\x00"]
)
def test_unknown_charsets_are_read_as_utf8(charset: str) -> None:
    assert decode_text("é".encode(), charset) == "é"


def nested(depth: int) -> bytes:
    part = b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n'
    return b"Subject: deep\r\n" + b"".join(part % (level, level) for level in range(depth)) + b"\r\nbottom"


def many(count: int) -> bytes:
    return b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + b"--b\r\n\r\nx\r\n" * count + b"--b--"


HOSTILE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "line ends only": lambda: b"\r\n" * 100_000,
    "no headers": lambda: b"\r\nbody",
    "no body": lambda: b"Subject: x",
    "10,000 levels": lambda: nested(10_000),
    "100,000 parts": lambda: many(100_000),
    "itself as boundary of itself": lambda: (
        b'Content-Type: multipart/mixed; boundary=""\r\n\r\n--\r\n' * 2000
    ),
    "dashes": lambda: b'Content-Type: multipart/mixed; boundary="-"\r\n\r\n' + b"-" * 1_000_000,
    "100,000 headers": lambda: b"X: y\r\n" * 100_000 + b"\r\n",
    "a header of 4 MB": lambda: b"Subject: " + b"=?utf-8?q?a?= " * 300_000 + b"\r\n\r\n",
    "a header folded a million times": lambda: b"Subject: x" + b"\r\n " * 1_000_000 + b"\r\n\r\n",
    "unclosed parameters": lambda: (
        b'Content-Type: multipart/mixed; boundary="' + b'\\"' * 100_000 + b"\r\n\r\nx"
    ),
    "10,000 continuations": lambda: (
        b"Content-Disposition: attachment"
        + b"".join(b";\r\n filename*%d=x" % n for n in range(10_000))
        + b"\r\n\r\n"
    ),
    "broken base64": lambda: b"Content-Transfer-Encoding: base64\r\n\r\n" + b"=A=B=" * 100_000,
    "broken quoted-printable": lambda: (
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=" * 500_000
    ),
    "NUL and 8 bit": lambda: bytes(range(256)) * 1000,
    "half a tag": lambda: b"Content-Type: text/html\r\n\r\n" + b"<a href=" * 100_000,
    "half a comment": lambda: b"Content-Type: text/html\r\n\r\n" + b"<!--" * 100_000,
    "half a style": lambda: b"Content-Type: text/html\r\n\r\n" + b"<style>" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_letter_is_parsed_in_bounded_time(name: str) -> None:
    content = HOSTILE[name]()
    begin = time.perf_counter()
    found = parse_letter(content)
    summarize_letter(SmtpEnvelope("", ("b@y.org",)), content, 0)
    plain_text(found)
    for part in found.parts:
        part.payload()
    assert time.perf_counter() - begin < QUICK
    assert len(found.parts) <= MAX_PARTS
    assert max(part.depth for part in found.parts) <= MAX_DEPTH


def test_a_letter_beyond_a_bound_is_marked_as_truncated() -> None:
    assert parse_letter(nested(MAX_DEPTH + 1)).truncated
    assert parse_letter(many(MAX_PARTS + 1)).truncated
    assert not parse_letter(many(3)).truncated


@settings(max_examples=60)
@given(st.binary(max_size=400))
def test_no_input_raises_an_error(content: bytes) -> None:
    found = parse_letter(b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n' + content)
    summarize_letter(SmtpEnvelope("", ("b@y.org",)), content, 0)
    for part in (*found.parts, *parse_letter(content).parts):
        part.text()
