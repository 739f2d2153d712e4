"""Invalid events: every problem has its code and the field as the publisher wrote it."""

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.event import MAX_EVENT_ATTACHMENTS, MAX_EVENT_ATTACHMENTS_BYTES, Record, parse_event
from postroom.letter.events.envelope import CLOUD_EVENT_MEMBERS, MAX_PROBLEMS, PLAIN_MEMBERS
from postroom.letter.problems import Code, Rejected
from tests.letter.events import (
    ENVELOPE,
    FILE,
    HEADERS,
    STRUCTURED,
    TIME,
    plain,
    problems,
    record,
    refusals,
    refused,
)

# --- bad inputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", Code.NOT_UTF8_JSON),
        (b"\xff\xfe", Code.NOT_UTF8_JSON),
        (b"\xef\xbb\xbf{}", Code.NOT_UTF8_JSON),
        (b"[" * 100_000, Code.TOO_DEEP),
        (b'{"data": NaN}', Code.NUMBER_OUT_OF_RANGE),
        (b'{"data": 1e999}', Code.NUMBER_OUT_OF_RANGE),
        (b'{"data": ' + b"1" * 5000 + b"}", Code.NUMBER_OUT_OF_RANGE),
        (b'{"recipient": "a@x.org", "recipient": "b@x.org"}', Code.DUPLICATE_KEY),
        (b'{"data": {"name": "\\ud800"}}', Code.LONE_SURROGATE),
        (b'"' + b"a" * 30_000_000 + b'"', Code.TOO_LARGE),
        (b"[]", Code.FIELD_INVALID),
        (b"null", Code.FIELD_INVALID),
    ],
    ids=[
        "empty",
        "not utf-8",
        "bom",
        "deep",
        "nan",
        "1e999",
        "digits",
        "twice",
        "surrogate",
        "30 MB",
        "list",
        "null",
    ],
)
def test_an_unreadable_value_has_its_code(value: bytes, code: Code) -> None:
    assert problems(value)[0][0] is code


def test_unreadable_data_in_binary_mode_is_reported_beside_the_other_problems() -> None:
    headers = {name: text for name, text in HEADERS.items() if name != "ce_recipient"}
    assert set(problems(b'{"a": 1, "a": 2}', headers)) == {
        (Code.DUPLICATE_KEY, "data"),
        (Code.RECIPIENT_MISSING, "ce_recipient"),
    }


def test_all_missing_members_are_named_at_once() -> None:
    assert problems({}) == [
        (Code.RECIPIENT_MISSING, "recipient"),
        (Code.FIELD_MISSING, "message_id"),
        (Code.FIELD_MISSING, "event_type"),
        (Code.FIELD_MISSING, "timestamp"),
        (Code.FIELD_MISSING, "data"),
    ]


@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        (None, Code.RECIPIENT_MISSING),
        ([], Code.RECIPIENT_MISSING),
        (["a@x.org"] * 10_000, Code.ONE_ADDRESS_PER_ITEM),
        ("a@x.org,b@y.org", Code.ONE_ADDRESS_PER_ITEM),
        ("a@x.org\n", Code.RECIPIENT_INVALID),
        ("alice@e.org)bob@evil.org", Code.RECIPIENT_INVALID),
        ("a" * 65 + "@x.org", Code.RECIPIENT_INVALID),
        ("a@" + "b." * 127 + "org", Code.RECIPIENT_INVALID),
        (17, Code.RECIPIENT_INVALID),
        ({"email": "a@x.org"}, Code.RECIPIENT_INVALID),
    ],
    ids=[
        "null",
        "none",
        "10,000",
        "two",
        "line end",
        "bracket",
        "65 octets",
        "256 octets",
        "number",
        "object",
    ],
)
def test_a_recipient_is_exactly_one_valid_address(recipient: Any, code: Code) -> None:
    assert refused(recipient=recipient) == [(code, "recipient")]


def test_a_domain_that_mixes_scripts_is_stored_in_ascii_and_flagged() -> None:
    event = plain(recipient="ada@pаypal.com")
    assert event.recipient == "ada@xn--pypal-4ve.com"
    assert event.flags == ("mixed_script_domain",)


def test_a_namespace_in_the_event_is_ignored() -> None:
    assert plain(namespace="payments") == plain()


@pytest.mark.parametrize(
    ("member", "meant"),
    [
        ("to", "recipient"),
        ("messageId", "message_id"),
        ("expiresAt", "expires_at"),
        ("templat_revision", "template_revision"),
    ],
)
def test_an_unknown_member_is_rejected_with_the_nearest_name(member: str, meant: str) -> None:
    (problem,) = refusals({**ENVELOPE, member: "x"})
    assert (problem.code, problem.field) == (Code.FIELD_UNKNOWN, member)
    assert f"did you mean {meant}?" in problem.message


def test_the_number_of_reported_problems_is_limited() -> None:
    assert len(refused(**{f"member_{number}": 1 for number in range(5000)})) == MAX_PROBLEMS


@pytest.mark.parametrize(
    "time",
    [
        "yesterday",
        "2026-11-23",
        "2026-11-23T20:15:30",
        "2026-11-23 20:15:30Z",
        "2026-02-30T00:00:00Z",
        "20261123T201530Z",
        "2026-11-23T20:15:30+0100",
        "0001-01-01T00:00:00+23:59",
        "２026-11-23T20:15:30Z",
        1_795_464_930,
        True,
    ],
)
def test_a_time_is_rfc_3339_with_its_offset(time: Any) -> None:
    assert refused(timestamp=time) == [(Code.FIELD_INVALID, "timestamp")]
    assert refused(not_before=time) == [(Code.FIELD_INVALID, "not_before")]


@pytest.mark.parametrize(
    "time", ["2026-11-23t20:15:30z", "2026-11-23T21:15:30.000000000+01:00", "2026-11-23T15:15:30-05:00"]
)
def test_every_form_of_rfc_3339_is_the_same_moment(time: str) -> None:
    assert plain(timestamp=time).time == TIME


def test_times_that_contradict_each_other_are_rejected() -> None:
    assert refused(expires_at="2026-11-23T20:15:29Z") == [(Code.FIELD_INVALID, "expires_at")]
    assert refused(not_before="2026-11-24T00:00:00Z", expires_at="2026-11-23T23:00:00Z") == [
        (Code.FIELD_INVALID, "not_before")
    ]
    assert refused(not_before="2028-01-01T00:00:00Z") == [(Code.FIELD_INVALID, "not_before")]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"message_id": 17}, Code.FIELD_INVALID),
        ({"message_id": ""}, Code.FIELD_INVALID),
        ({"message_id": "x" * 257}, Code.FIELD_INVALID),
        ({"message_id": "a\nb"}, Code.CONTROL_CHARACTER),
        ({"event_type": "a\u2028b"}, Code.CONTROL_CHARACTER),
        ({"data": []}, Code.FIELD_INVALID),
        ({"data": "text"}, Code.FIELD_INVALID),
        ({"locale": "en_US"}, Code.FIELD_INVALID),
        ({"locale": "../../etc"}, Code.FIELD_INVALID),
        ({"locale": "xx-yy-zz"}, Code.FIELD_INVALID),
        ({"locale": "de-Latn-Latn"}, Code.FIELD_INVALID),
        ({"reply_to": "a@x.org\r\nBcc: b@y.org"}, Code.FIELD_INVALID),
        ({"reply_to": "nobody"}, Code.FIELD_INVALID),
        ({"template_revision": "a\rb"}, Code.CONTROL_CHARACTER),
        ({"metadata": []}, Code.FIELD_INVALID),
        ({"metadata": {"a": 1}}, Code.FIELD_INVALID),
        ({"metadata": {"a": "x" * 513}}, Code.FIELD_INVALID),
        ({"metadata": {"": "x"}}, Code.FIELD_INVALID),
        ({"metadata": {"a": "\x07"}}, Code.FIELD_INVALID),
        ({"metadata": {str(number): "x" for number in range(33)}}, Code.FIELD_INVALID),
        ({"attachments": {}}, Code.FIELD_INVALID),
    ],
)
def test_a_member_of_the_wrong_type_or_size_is_rejected(changes: dict[str, Any], code: Code) -> None:
    found = refused(**changes)
    assert found == [(code, next(iter(changes)))]


@pytest.mark.parametrize(
    "traceparent",
    ["nonsense", 5, "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "ff-" + "1" * 32 + "-" + "1" * 16 + "-01"],
)
def test_a_malformed_trace_context_is_ignored(traceparent: Any) -> None:
    assert plain(traceparent=traceparent).traceparent is None


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*PLAIN_MEMBERS, *CLOUD_EVENT_MEMBERS, "specversion"]), anything, max_size=4
    )
)
def test_any_members_give_an_event_or_a_rejection(changes: dict[str, Any]) -> None:
    for envelope in (ENVELOPE, STRUCTURED):
        try:
            event = parse_event(record({**envelope, **changes}))
        except Rejected as rejected:
            names = [problem.field for problem in rejected.problems]
        else:
            names = [event.id]
        assert all(names)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*HEADERS, "ce_time", "ce_replyto"]), st.none() | st.binary(max_size=9))
)
def test_any_headers_give_an_event_or_a_rejection(changes: dict[str, bytes | None]) -> None:
    headers = {name: text.encode() for name, text in HEADERS.items()} | changes
    try:
        event = parse_event(Record("t", 0, 0, TIME, None, b"{}", tuple(headers.items())))
    except Rejected:
        return
    assert event.id
    assert "@" in event.recipient


# --- attachments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"filename": "../../etc/x"}, ".filename"),
        ({"filename": "a\r\nb.pdf"}, ".filename"),
        ({"filename": "..\\x.pdf"}, ".filename"),
        ({"filename": ""}, ".filename"),
        ({"filename": ".."}, ".filename"),
        ({"filename": "ü" * 128}, ".filename"),
        ({"content_type": "text/html\r\nX: y"}, ".content_type"),
        ({"content_type": "multipart/mixed"}, ".content_type"),
        ({"content_type": "message/rfc822"}, ".content_type"),
        ({"content_type": "pdf"}, ".content_type"),
        ({"content": "not base64"}, ".content"),
        ({"content": "aGVsbG8"}, ".content"),
        ({"content": "aGVs\nbG8="}, ".content"),
        ({"content": None}, ".content"),
        ({"url": "http://169.254.169.254/"}, ""),
        ({"content_id": "<qr>"}, ".content_id"),
        ({"content_id": "a b"}, ".content_id"),
        ({"content_id": 5}, ".content_id"),
    ],
)
def test_an_attachment_is_a_bare_name_a_type_and_base64(change: dict[str, Any], field: str) -> None:
    assert refused(attachments=[FILE, {**FILE, **change}]) == [
        (Code.ATTACHMENT_INVALID, f"attachments[1]{field}")
    ]


def test_two_images_cannot_share_a_content_id() -> None:
    event = plain(attachments=[{**FILE, "content_id": "qr"}, {**FILE, "content_id": None}])
    assert [file.content_id for file in event.attachments] == ["qr", None]
    twice = [{**FILE, "content_id": "qr"}] * 2
    assert refused(attachments=twice) == [(Code.ATTACHMENT_INVALID, "attachments")]


def test_an_attachment_that_is_not_an_object_is_rejected() -> None:
    assert refused(attachments=["receipt.pdf"]) == [(Code.ATTACHMENT_INVALID, "attachments[0]")]


def test_attachments_are_limited_in_number_and_bytes() -> None:
    assert refused(attachments=[FILE] * (MAX_EVENT_ATTACHMENTS + 1)) == [
        (Code.ATTACHMENT_INVALID, "attachments")
    ]
    half = base64.b64encode(b"x" * (MAX_EVENT_ATTACHMENTS_BYTES // 2 + 1)).decode()
    assert refused(attachments=[{**FILE, "content": half}] * 2) == [(Code.ATTACHMENT_INVALID, "attachments")]


def test_attachments_of_a_cloud_event_are_named_below_data() -> None:
    value = {"$attachments": [{**FILE, "filename": "a/b"}]}
    assert problems(value, HEADERS) == [(Code.ATTACHMENT_INVALID, "data.$attachments[0].filename")]
