"""Inline images, files and invitations, as a mail client finds them."""

import base64
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import pytest

from postroom.letter.catalog import RenderedLetter
from postroom.letter.event import Attachment
from postroom.letter.mime.attachments import content_id_rule, content_type_rule, read_content_type
from postroom.letter.mime.compose import cid_references, compose_letter, place_attachments
from postroom.letter.problems import Code, Rejected
from tests.letter.factories import MESSAGE_ID, NOON, PROFILE_SENDER, event, live, rendered, reopen

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
LOGO = Attachment("logo.png", "image/png", PNG)
NAMED = Attachment("banner.png", "image/png", PNG, "banner@larkfield.example")
TERMS = Attachment("terms.pdf", "application/pdf", b"%PDF")
INVITE = Attachment(
    "invite.ics", 'text/calendar; method=REQUEST; charset=utf-8; name="a b.ics"', b"BEGIN:VCALENDAR"
)


def finish(letter: RenderedLetter) -> bytes:
    return compose_letter(
        letter, to="mira@example.org", sender=PROFILE_SENDER, message_id=MESSAGE_ID, date=NOON
    )


def outline(part: EmailMessage) -> Any:
    """The content types of a letter's parts: a list for a multipart, with its own type first."""
    if not part.is_multipart():
        return part.get_content_type()
    return [part.get_content_subtype(), *(outline(each) for each in part.iter_parts())]  # type: ignore[arg-type]


def opened(html: str, *files: Attachment) -> EmailMessage:
    return reopen(finish(rendered(html=html, attachments=files)))


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<img src="cid:logo">', ["logo"]),
        ("<img src='CID:logo'>", ["logo"]),
        ("<img src=cid:logo>", ["logo"]),
        ('<img src="  cid:logo@x.org ">', ["logo@x.org"]),
        ('<img src="cid:logo&#64;x.org">', ["logo@x.org"]),
        ('<img src="cid:logo%40x.org">', ["logo@x.org"]),
        ('<td background="cid:bg">', ["bg"]),
        ('<td style="background: url(cid:bg) no-repeat">', ["bg"]),
        ("<td style=\"background:url('cid:bg')\">", ["bg"]),
        ('<td style="background:url(&quot;cid:bg&quot;)">', ["bg"]),
        ("<style>.a { background: url( 'cid:bg' ) }</style>", ["bg"]),
        ('<!--[if mso]><v:fill type="frame" src="cid:bg" /><![endif]-->', ["bg"]),
        ('<img srcset="cid:one 1x, cid:two 2x">', ["one", "two"]),
        ('<img src="cid:b"><img src="cid:a"><img src="cid:b">', ["b", "a"]),
        ("<p>write cid:logo to me</p>", []),
        ("<p>no images</p>", []),
    ],
)
def test_what_a_page_refers_to_is_found_where_clients_look(html: str, found: list[str]) -> None:
    assert list(cid_references(html)) == found


def test_an_image_is_shown_in_place_by_its_content_id() -> None:
    message = opened('<img src="cid:banner@larkfield.example">', NAMED)
    assert outline(message) == ["alternative", "text/plain", ["related", "text/html", "image/png"]]
    image = next(part for part in message.walk() if part.get_content_type() == "image/png")
    assert image["Content-ID"] == "<banner@larkfield.example>"
    assert (image.get_content_disposition(), image.get_filename()) == ("inline", "banner.png")
    assert image.get_content() == PNG
    related = next(part for part in message.walk() if part.get_content_subtype() == "related")
    assert related.get_param("type") == "text/html"


def test_an_image_without_a_content_id_is_found_by_its_file_name() -> None:
    message = opened('<img src="cid:logo.png">', LOGO)
    image = next(part for part in message.walk() if part.get_content_type() == "image/png")
    assert (image["Content-ID"], image.get_content_disposition()) == ("<logo.png>", "inline")
    assert list(message.iter_attachments()) == []


def test_images_and_files_are_in_one_letter() -> None:
    message = opened('<img src="cid:logo.png">', TERMS, LOGO)
    body = ["alternative", "text/plain", ["related", "text/html", "image/png"]]
    assert outline(message) == ["mixed", body, "application/pdf"]
    assert [part.get_filename() for part in message.iter_attachments()] == ["terms.pdf"]


@pytest.mark.parametrize(
    "file",
    [
        LOGO,
        replace(TERMS, filename="cid.pdf"),
        replace(LOGO, filename="company logo.png"),
    ],
)
def test_what_the_page_does_not_show_is_a_file(file: Attachment) -> None:
    html = '<p>logo.png</p><a href="cid:cid.pdf">x</a><img src="cid:company%20logo.png">'
    assert place_attachments(html, [file]).files == (file,)
    assert outline(opened(html, file))[0] == "mixed"


def test_a_part_with_a_content_id_is_never_shown_as_a_file() -> None:
    assert place_attachments("<p>No picture</p>", [NAMED]).files == ()


def test_letters_without_images_have_no_related_part() -> None:
    plain = finish(rendered(attachments=(TERMS,)))
    assert b"related" not in plain
    assert plain.count(b"--=_") == 6


def test_a_letter_with_images_is_the_same_bytes_each_time_and_in_short_lines() -> None:
    letter = rendered(html='<img src="cid:logo.png">', attachments=(LOGO, NAMED, INVITE, TERMS))
    content = finish(letter)
    assert content == finish(letter)
    assert all(len(line) <= 78 for line in content.split(b"\r\n"))
    assert b"\n" not in content.replace(b"\r\n", b"")


def test_a_boundary_is_in_no_image_part() -> None:
    content = finish(rendered(html='<img src="cid:logo.png">', attachments=(LOGO,)))
    boundary = content.partition(b'related; boundary="')[2].partition(b'"')[0].decode()
    message = opened(f'<img src="cid:logo.png"><p>--{boundary}--</p>', LOGO)
    assert outline(message) == ["alternative", "text/plain", ["related", "text/html", "image/png"]]


def test_an_invitation_is_an_alternative_and_a_file() -> None:
    message = opened("<p>Come</p>", INVITE)
    body = ["alternative", "text/plain", "text/html", "text/calendar"]
    assert outline(message) == ["mixed", body, "text/calendar"]
    alternative, file = (part for part in message.walk() if part.get_content_type() == "text/calendar")
    assert alternative.get_param("method") == file.get_param("method") == "REQUEST"
    assert alternative.get_filename() is None
    assert file.get_filename() == "invite.ics"
    assert alternative.get_payload(decode=True) == file.get_payload(decode=True) == INVITE.content


def test_a_calendar_without_a_method_is_a_file_alone() -> None:
    message = opened("<p>Come</p>", replace(INVITE, content_type="text/calendar; charset=utf-8"))
    assert outline(message) == ["mixed", ["alternative", "text/plain", "text/html"], "text/calendar"]


def test_long_parameters_are_folded_and_come_back() -> None:
    name = "x" * 200
    kind = f'application/octet-stream; name="{name}; a \\"b\\""; charset=utf-8; x-mark=1'
    content = finish(rendered(attachments=(replace(TERMS, content_type=kind),)))
    assert b";\r\n charset=utf-8;\r\n x-mark=1\r\n" in content
    (file,) = reopen(content).iter_attachments()
    assert file.get_param("name") == f'{name}; a "b"'


@pytest.mark.parametrize(
    "text",
    [
        "application/pdf",
        "text/calendar; method=REQUEST; charset=utf-8",
        "text/calendar;method=REQUEST",
        'text/calendar; name="x; y.ics"; method=PUBLISH',
        'application/vnd.api+json; profile="https://x.org/a"',
        'text/plain; a="b\\"c"',
    ],
)
def test_parameters_of_rfc_2045_are_accepted(text: str) -> None:
    assert content_type_rule(text) is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("pdf", "write type/subtype"),
        ("text/", "write type/subtype"),
        ("multipart/mixed; boundary=x", "not multipart"),
        ("message/rfc822", "not message"),
        ("text/plain;", "after 10 characters"),
        ("text/plain; charset", "after 10 characters"),
        ("text/plain; charset = utf-8", "after 10 characters"),
        ("text/plain; a=b; c", "after 15 characters"),
        ('text/plain; a="b', "cannot be read"),
        ('text/plain; name="é"', "in ASCII"),
        ("text/plain; a=b\r\nBcc: x", "cannot be read"),
        ('text/plain; a="b\r\n c"', "cannot be read"),
        ("text/plain; a=b; A=c", "has the parameter a twice"),
    ],
)
def test_a_content_type_that_cannot_be_read_has_a_position(text: str, rule: str) -> None:
    assert rule in (content_type_rule(text) or "")
    with pytest.raises(Rejected) as caught:
        finish(rendered(attachments=(replace(TERMS, content_type=text),)))
    assert caught.value.code in (Code.ATTACHMENT_INVALID, Code.CONTROL_CHARACTER)


def test_a_quoted_parameter_is_read_without_its_quotes() -> None:
    kind = read_content_type('text/calendar; METHOD="RE\\"QUEST"')
    assert (kind.media_type, kind.parameter("method"), kind.parameter("x")) == (
        "text/calendar",
        'RE"QUEST',
        None,
    )


@pytest.mark.parametrize(
    ("text", "valid"),
    [("logo", True), ("logo@x.org", True), ("a" * 128, True), ("a" * 129, False), ("", False)]
    + [(each, False) for each in ("a b", "<logo>", "cid:logo", "a>\r\nBcc: x", "é", "a%40b")],
)
def test_a_content_id_needs_no_escape(text: str, valid: bool) -> None:
    assert (content_id_rule(text) is None) == valid


def test_a_content_id_that_would_end_its_line_is_rejected() -> None:
    with pytest.raises(Rejected):
        finish(rendered(attachments=(replace(LOGO, content_id="x>\r\nBcc: y"),)))


def test_images_of_an_event_replace_those_of_the_template() -> None:
    content = base64.b64encode(PNG).decode()
    template = live(
        '<p>{{ name }}</p><img src="cid:{{ name }}.png" alt="">',
        attachments=[
            {"filename": "logo.png", "contentType": "image/png", "content": content},
            {"filename": "qr.png", "contentType": "image/png", "content": content, "contentId": "qr"},
        ],
    )
    letter = template.render(event(name="logo"))
    assert [name for name, _ in place_attachments(letter.html, letter.attachments).inline] == [
        "logo.png",
        "qr",
    ]
    own = Attachment("mine.png", "image/png", b"own", "qr")
    letter = template.render(replace(event(name="other"), attachments=(own,)))
    assert [file.filename for file in letter.attachments] == ["logo.png", "mine.png"]
    assert [file.filename for _, file in place_attachments(letter.html, letter.attachments).inline] == [
        "mine.png"
    ]
