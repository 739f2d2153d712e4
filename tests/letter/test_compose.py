"""Composed letters: headers survive encoding, and every byte is valid in SMTP."""

import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header
from email.utils import getaddresses, parseaddr, parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from postroom.letter.catalog import RenderedLetter, SenderMailbox
from postroom.letter.mime.compose import compose_letter, format_date
from postroom.letter.mime.headers import header_field
from postroom.letter.problems import Code, Rejected
from tests.letter.factories import MESSAGE_ID, NOON, PROFILE_SENDER, attachment, parts_of, rendered, reopen

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
PRINTABLE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=200)


def names_in(content: bytes) -> list[bytes]:
    """The names of the headers, in order."""
    head = content.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return [line.partition(b":")[0] for line in head if line[:1] not in (b" ", b"\t")]


def finish(letter: RenderedLetter, **other: Any) -> bytes:
    known: dict[str, Any] = {
        "to": "mira@example.org",
        "sender": PROFILE_SENDER,
        "message_id": MESSAGE_ID,
        "date": NOON,
    }
    return compose_letter(letter, **{**known, **other})


def test_a_plain_letter_has_the_headers_that_receivers_expect() -> None:
    message = reopen(finish(rendered()))
    assert dict(message.items()) | {"Content-Type": ""} == {
        "From": "Larkfield Supply <post@larkfield.example>",
        "To": "mira@example.org",
        "Subject": "Hello",
        "Date": "Mon, 23 Nov 2026 12:00:00 +0000",
        "Message-ID": MESSAGE_ID,
        "MIME-Version": "1.0",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "OOF, AutoReply",
        "X-Postroom-Template": "welcome@0123456789ab",
        "Content-Language": "en",
        "Content-Type": "",
    }
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


def test_the_same_letter_is_the_same_bytes() -> None:
    assert finish(rendered()) == finish(rendered())
    assert finish(rendered()) != finish(rendered(), message_id="<another@larkfield.example>")


@pytest.mark.parametrize("character", ["\r", "\n", "\r\n", "\0", "\x7f", "\x85", "\u2028", "\u2029", "\x1b"])
def test_a_control_character_in_a_header_is_rejected(character: str) -> None:
    evil = f"Hi{character}Bcc: evil@x.org"
    letters = [
        rendered(subject=evil),
        rendered(headers=(("X-Order", evil),)),
        rendered(sender=SenderMailbox("a@b.org", evil)),
        rendered(language=evil),
        rendered(template=evil),
        rendered(unsubscribe=f"https://x.org/{evil}"),
        rendered(reply_to=f"a{character}@b.org"),
        rendered(attachments=(attachment(evil),)),
    ]
    for letter in letters:
        with pytest.raises(Rejected):
            finish(letter)


@pytest.mark.parametrize(
    "subject",
    [
        "=?utf-8?q?a=0ABcc:_evil@x.org?=",
        "=?utf-8?b?YQpCY2M6IGV2aWxAeC5vcmc=?=",
        "x =?iso-8859-1?q?=0D=0ABcc:_a@b.c?= y",
        "=?=?=?",
    ],
)
def test_text_that_looks_encoded_is_encoded_again(subject: str) -> None:
    content = finish(rendered(subject=subject))
    head = content.partition(b"\r\n\r\n")[0]
    assert b"\nBcc" not in head
    assert b"evil" not in head
    message = reopen(content)
    assert message["Subject"] == subject
    assert message["Bcc"] is None


@pytest.mark.parametrize(
    "name", ["Bcc", "To", "Subject", "X-A\r\nBcc", "X A", "X-A:", "", "Content-Type", "DKIM-Signature"]
)
def test_a_header_name_that_is_not_on_the_list_is_rejected(name: str) -> None:
    with pytest.raises(Rejected) as caught:
        finish(rendered(headers=((name, "x"),)))
    assert caught.value.code is Code.HEADER_NOT_ALLOWED


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "a@b.org,c@d.org",
        "a@b.org>\r\nRCPT TO:<evil@x.org",
        "a@b.org\n",
        "<a@b.org>",
        "d.org>,<e@f.org",
        "alice@e.org)bob@evil.org",
        "a b@c.org",
        "a@b@c.org",
        '"a b"@c.org',
        "a@b.org\u2028",
    ],
)
def test_a_header_address_that_is_not_one_address_is_rejected(address: str) -> None:
    for other in ({"to": address}, {"sender": SenderMailbox(address, "x")}):
        with pytest.raises(Rejected) as caught:
            finish(rendered(), **other)
        assert caught.value.code is Code.RECIPIENT_INVALID


@pytest.mark.parametrize(
    "name",
    [
        "Zoë Brunner",
        "O'Brien & Söhne",
        "Smith, John",
        'The "Best" Shop',
        "back\\slash",
        "田中さくら",
        "a <b@c.org>",
        "=?utf-8?q?x?=",
        "é" * 80,
        "x" * 200,
        "😀 Larkfield",
        "",
    ],
)
def test_a_display_name_survives_encoding(name: str) -> None:
    content = finish(rendered(sender=SenderMailbox("post@larkfield.example", name)))
    # The newer parser of the standard library puts a space between two encoded words of a name.
    raw = email.message_from_bytes(content, policy=email.policy.compat32)["From"]
    shown, address = parseaddr(raw.replace("\r\n", ""))
    assert (str(make_header(decode_header(shown))), address) == (name, "post@larkfield.example")


def test_each_encoded_word_of_a_subject_decodes_by_itself() -> None:
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466\U0001f1e7\U0001f1ea"
    subject = (
        f"Žofie {family} pasižadėjimų girliandą — 日本語の件名はとても長いので折り返しが必要です 🎟 Žofie"
    )
    content = finish(rendered(subject=subject))
    field_body = content.partition(b"Subject: ")[2].partition(b"\r\nDate:")[0].decode("ascii")
    words = field_body.split()
    assert all(len(word) <= 75 for word in words)
    assert "".join(str(make_header(decode_header(word))) for word in words) == subject
    assert reopen(content)["Subject"] == subject


def test_a_sender_name_with_every_special_character_is_one_mailbox() -> None:
    name = 'Müller, Söhne & "Co." 🌿'
    content = finish(rendered(sender=SenderMailbox("post@larkfield.example", name)))
    (mailbox,) = reopen(content)["From"].addresses
    assert (mailbox.display_name, mailbox.addr_spec) == (name, "post@larkfield.example")


def test_long_lines_and_leading_dots_survive_within_the_limit() -> None:
    href = "https://larkfield.example/?q=" + "a%20" * 600
    html = f'<p>{"Ein Satz mit Umlauten: Größe, Straße, 12 €. " * 60}<a href="{href}">x</a></p>\n.dot'
    text = f".first\n{href}\n..second"
    content = finish(rendered(html=html, text=text))
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))
    found_text, found_html = parts_of(reopen(content))
    assert _lines(found_text) == _lines(text)
    assert f'href="{href}"' in found_html


@given(ANY_TEXT, PRINTABLE)
@settings(max_examples=40, deadline=None)
def test_any_subject_and_name_are_rejected_or_survive_alone(subject: str, name: str) -> None:
    letter = rendered(subject=subject, sender=SenderMailbox("post@larkfield.example", name))
    try:
        content = finish(letter)
    except Rejected:
        return
    head = content.partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0] for line in head.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
    assert names == [
        line.partition(b":")[0] for line in finish(rendered()).partition(b"\r\n\r\n")[0].split(b"\r\n")
    ]
    assert all(len(line) <= 998 for line in head.split(b"\r\n"))
    assert not any(line.isspace() for line in head.split(b"\r\n"))
    message = reopen(content)
    assert str(message["Subject"]) == subject or " " in subject
    assert [address for _, address in getaddresses([message["From"]])] == ["post@larkfield.example"]


@given(PRINTABLE)
@settings(max_examples=40, deadline=None)
def test_a_folded_field_unfolds_unchanged(value: str) -> None:
    assume(value == value.strip())
    lines = header_field("X-Test", value).split("\r\n")
    assert all(len(line) <= 78 for line in lines) or max(map(len, value.split(" "))) > 60
    message = reopen(finish(rendered(headers=(("X-Test", value),))))
    assert str(message["X-Test"]) == value


@given(ANY_TEXT, ANY_TEXT)
@settings(max_examples=40, deadline=None)
def test_any_body_survives_encoding(text: str, html: str) -> None:
    found_text, found_html = parts_of(reopen(finish(rendered(text=text, html=html))))
    assert _lines(found_text) == _lines(text)
    if html.isascii():
        assert _lines(found_html) == _lines(html)


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("short and plain\n", "7bit"),
        (".\n..\n.leading\n", "7bit"),
        ("x" * 2000, "quoted-printable"),
        ("Zoë, your code is 1234. " * 10, "quoted-printable"),
        ("お荷物を発送いたしました。" * 40, "base64"),
        ("nul\0in text", "quoted-printable"),
        ("bare\rreturn and\nline", "7bit"),
        ("trailing space \nFrom here", "7bit"),
    ],
)
def test_a_text_gets_the_simplest_encoding_that_fits(text: str, encoding: str) -> None:
    message = reopen(finish(rendered(text=text)))
    part = message.get_body(("plain",))
    assert part is not None
    assert part["Content-Transfer-Encoding"] == encoding
    assert _lines(part.get_content()) == _lines(text)


def test_html_in_latin_letters_uses_character_references() -> None:
    html = "<p>" + "plain words " * 40 + "Zoë — 12 €</p>"
    message = reopen(finish(rendered(html=html)))
    part = message.get_body(("html",))
    assert part is not None
    assert part["Content-Transfer-Encoding"] == "7bit"
    assert "Zo&#235; &#8212; 12 &#8364;" in part.get_content()


@pytest.mark.parametrize("element", ["style", "STYLE", "script", "xmp"])
def test_character_references_are_not_used_in_raw_elements(element: str) -> None:
    html = f"<p>{'plain words ' * 40}é</p><{element}>p::before {{ content: '→' }}</{element}>"
    assert parts_of(reopen(finish(rendered(html=html))))[1].rstrip() == html


def test_a_long_line_of_html_is_encoded() -> None:
    html = "<p>" + "word " * 1000 + "</p>"
    assert parts_of(reopen(finish(rendered(html=html))))[1].rstrip() == html


def test_dots_at_the_beginning_of_lines_are_doubled_on_the_wire_only() -> None:
    text = ".\n..\n.rc\na.b\n"
    content = finish(rendered(text=text))
    assert b"\r\n..\r\n...\r\n..rc\r\na.b\r\n" in content
    assert b"\r\n.\r\n" not in content
    assert parts_of(reopen(content))[0].replace("\r\n", "\n").startswith(text)


def test_attachments_follow_the_letter() -> None:
    files = (
        attachment(),
        attachment("Rechnung für Zoë.pdf", bytes(range(256)) * 20),
        attachment('a"b;c.pdf'),
    )
    message = reopen(finish(rendered(attachments=files)))
    assert message.get_content_type() == "multipart/mixed"
    found = list(message.iter_attachments())
    assert [part.get_filename() for part in found] == [file.filename for file in files]
    assert [part.get_content() for part in found] == [file.content for file in files]
    assert parts_of(message)[0].startswith("Hello")


def test_a_subscription_can_be_left_with_one_click() -> None:
    url = "https://larkfield.example/u?t=abc_DEF-" + "9" * 200
    message = reopen(finish(rendered(unsubscribe=url)))
    assert message["List-Unsubscribe"] == f"<{url}>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


@pytest.mark.parametrize(
    "url", ["https://x.org/>,<mailto:a@b.org", "https://x.org/ y", "https://x.org/" + "a" * 2000]
)
def test_an_unsubscribe_link_that_does_not_fit_a_header_is_rejected(url: str) -> None:
    with pytest.raises(Rejected):
        finish(rendered(unsubscribe=url))


def test_a_template_chooses_sender_and_reply_address() -> None:
    letter = rendered(
        sender=SenderMailbox("accounts@larkfield.example", "Accounts"), reply_to="help@larkfield.example"
    )
    message = reopen(finish(letter))
    assert message["From"] == "Accounts <accounts@larkfield.example>"
    assert message["Reply-To"] == "help@larkfield.example"


def test_an_international_address_is_written_in_utf8() -> None:
    content = finish(rendered(), to="zoë@example.org")
    assert "\r\nTo: zoë@example.org\r\n".encode() in content


def test_a_boundary_is_never_part_of_the_letter() -> None:
    boundary = finish(rendered()).partition(b'boundary="')[2].partition(b'"')[0].decode()
    message = reopen(finish(rendered(text=f"--{boundary}\n\nevil", html=f"<p>--{boundary}--</p>")))
    assert len(list(message.iter_parts())) == 2
    assert "evil" in parts_of(message)[0]


@given(st.datetimes(datetime(1971, 1, 1), datetime(2199, 1, 1)), st.integers(-12 * 60, 14 * 60))  # noqa: DTZ001
@settings(max_examples=30, deadline=None)
def test_a_date_is_what_the_standard_library_reads(moment: datetime, offset: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset)), microsecond=0)
    assert parsedate_to_datetime(format_date(aware)) == aware.astimezone(UTC)


def test_a_letter_keeps_its_parts_when_it_is_rendered_again() -> None:
    letter = rendered(subject="Grüße")
    assert finish(replace(letter)) == finish(letter)
