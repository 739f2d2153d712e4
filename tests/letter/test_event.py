"""Events: three envelopes, one `Event`; every mistake is named as the publisher wrote it."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.envelope import PROBLEMS
from postroom.letter.event import (
    ATTACHMENTS,
    ATTACHMENTS_BYTES,
    Attachment,
    Event,
    Record,
    pack,
    parse,
    unpack,
)
from postroom.letter.problems import Code, Problem, Rejected

TIME = datetime(2026, 11, 23, 20, 15, 30, tzinfo=UTC)
ENVELOPE: dict[str, Any] = {
    "message_id": "order-17",
    "event_type": "shop.order.paid",
    "timestamp": "2026-11-23T20:15:30Z",
    "recipient": "Zoe@EXAMPLE.org",
    "data": {"name": "Zoë"},
}
FILE = {"filename": "receipt.pdf", "content_type": "application/pdf", "content": "aGVsbG8="}
HEADERS = {
    "ce_specversion": "1.0",
    "ce_id": "order-17",
    "ce_source": "/shop",
    "ce_type": "shop.order.paid",
    "ce_recipient": "zoe@example.org",
    "content-type": "application/json",
}
STRUCTURED = {
    "specversion": "1.0",
    "id": "order-17",
    "source": "/shop",
    "type": "shop.order.paid",
    "recipient": "zoe@example.org",
    "data": {"name": "Zoë"},
}
CLOUD_JSON = {"content-type": "application/cloudevents+json; charset=UTF-8"}


def record(value: Any, headers: dict[str, str] | None = None) -> Record:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    pairs = tuple((name, text.encode()) for name, text in (headers or {}).items())
    return Record("postroom.shop.shop", 0, 7, TIME, None, content, pairs)


def plain(**changes: Any) -> Event:
    return parse(record({**ENVELOPE, **changes}))


def problems(value: Any, headers: dict[str, str] | None = None) -> list[tuple[Code, str]]:
    return [(problem.code, problem.field) for problem in refusals(value, headers)]


def refusals(value: Any, headers: dict[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(Rejected) as caught:
        parse(record(value, headers))
    return caught.value.problems


def refused(**changes: Any) -> list[tuple[Code, str]]:
    return problems({**ENVELOPE, **changes})


# --- the three envelopes -------------------------------------------------------------------------


def test_the_plain_envelope_has_its_topic_as_source() -> None:
    assert plain() == Event(
        id="order-17",
        source="kafka://postroom.shop.shop",
        type="shop.order.paid",
        recipient="Zoe@example.org",
        time=TIME,
        data={"name": "Zoë"},
    )


def test_every_optional_member_of_the_plain_envelope_is_read() -> None:
    event = plain(
        locale="de-AT",
        not_before="2026-11-23T22:00:00+01:00",
        expires_at="2026-11-24T00:00:00.5Z",
        reply_to="Help@EXAMPLE.org",
        attachments=[FILE],
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        template_revision="0123456789ab",
        user_id="u-7",
        request_id="r-7",
        metadata={"tenant": "eu"},
    )
    assert event.not_before == datetime(2026, 11, 23, 21, 0, tzinfo=UTC)
    assert event.expires == datetime(2026, 11, 24, 0, 0, 0, 500_000, tzinfo=UTC)
    assert event.attachments == (Attachment("receipt.pdf", "application/pdf", b"hello"),)
    assert (event.locale, event.reply_to, event.revision) == ("de-AT", "Help@example.org", "0123456789ab")
    assert (event.user_id, event.request_id, event.metadata) == ("u-7", "r-7", {"tenant": "eu"})
    assert event.traceparent == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_null_counts_as_absent_for_optional_members() -> None:
    assert plain(locale=None, expires_at=None, attachments=None, metadata=None) == plain()


def test_a_cloud_event_in_binary_mode_is_read_from_headers_and_value() -> None:
    headers = {
        **HEADERS,
        "ce_time": "2026-11-23T20:00:00Z",
        "ce_expirytime": "2026-11-23T21:00:00Z",
        "ce_userid": "u-7",
    }
    event = parse(record({"name": "Zoë", "$attachments": [FILE], "$metadata": {"tenant": "eu"}}, headers))
    assert (event.id, event.source, event.recipient, event.user_id) == (
        "order-17",
        "/shop",
        "zoe@example.org",
        "u-7",
    )
    assert event.time == datetime(2026, 11, 23, 20, 0, tzinfo=UTC)
    assert event.expires == datetime(2026, 11, 23, 21, 0, tzinfo=UTC)
    assert event.data == {"name": "Zoë"}
    assert event.metadata == {"tenant": "eu"}
    assert event.attachments[0].content == b"hello"


def test_a_cloud_event_in_structured_mode_is_the_same_event() -> None:
    structured = parse(record(STRUCTURED, CLOUD_JSON))
    assert structured == parse(record({"name": "Zoë"}, HEADERS))


def test_a_structured_cloud_event_without_its_content_type_is_recognised() -> None:
    assert parse(record(STRUCTURED)) == parse(record(STRUCTURED, CLOUD_JSON))


def test_a_cloud_event_without_time_has_the_records() -> None:
    assert parse(record(STRUCTURED, CLOUD_JSON)).time == TIME


def test_data_in_base64_is_read() -> None:
    encoded = {key: value for key, value in STRUCTURED.items() if key != "data"}
    encoded["data_base64"] = base64.b64encode(b'{"a": 1}').decode()
    assert parse(record(encoded, CLOUD_JSON)).data == {"a": 1}
    assert problems({**encoded, "data": {}}, CLOUD_JSON) == [(Code.FIELD_INVALID, "data_base64")]
    assert problems({**encoded, "data_base64": "%"}, CLOUD_JSON) == [(Code.FIELD_INVALID, "data_base64")]


def test_unknown_extensions_of_a_cloud_event_are_ignored() -> None:
    assert parse(record({}, {**HEADERS, "ce_sampledrate": "3"})).data == {}
    assert parse(record({**STRUCTURED, "sampledrate": 3}, CLOUD_JSON)).id == "order-17"


def test_problems_of_binary_mode_are_named_after_the_headers() -> None:
    headers = {**HEADERS, "ce_specversion": "0.3", "ce_recipient": "nobody", "ce_expirytime": "soon"}
    assert set(problems({}, headers)) == {
        (Code.FIELD_INVALID, "ce_specversion"),
        (Code.RECIPIENT_INVALID, "ce_recipient"),
        (Code.FIELD_INVALID, "ce_expirytime"),
    }


def test_a_header_that_is_there_twice_is_refused_by_name() -> None:
    twice = Record("t", 0, 0, TIME, None, b"{}", (*record({}, HEADERS).headers, ("ce_id", b"other")))
    with pytest.raises(Rejected) as caught:
        parse(twice)
    assert (caught.value.code, caught.value.problems[0].field) == (Code.DUPLICATE_KEY, "ce_id")


def test_a_header_that_is_not_text_is_refused() -> None:
    broken = Record("t", 0, 0, TIME, None, b"{}", (*record({}, HEADERS).headers, ("ce_userid", b"\xff")))
    with pytest.raises(Rejected, match="ce_userid"):
        parse(broken)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"content-type": "text/plain"}, "content-type"),
        ({"content-type": "application/cloudevents-batch+json"}, "content-type"),
        ({**HEADERS, "content-type": "application/xml"}, "content-type"),
    ],
)
def test_another_content_type_is_refused(headers: dict[str, str], field: str) -> None:
    assert problems(ENVELOPE, headers) == [(Code.CONTENT_TYPE_UNSUPPORTED, field)]


def test_json_content_types_with_parameters_are_fine() -> None:
    assert parse(record(ENVELOPE, {"Content-Type": "application/json; charset=utf-8"})) == plain()
    assert parse(record(ENVELOPE, {"content-type": "application/vnd.shop+json", "trace": "x"})) == plain()


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
def test_what_cannot_be_read_has_its_code(value: bytes, code: Code) -> None:
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


def test_a_namespace_in_the_event_chooses_nothing() -> None:
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
def test_an_unknown_member_is_refused_with_the_nearest_name(member: str, meant: str) -> None:
    (problem,) = refusals({**ENVELOPE, member: "x"})
    assert (problem.code, problem.field) == (Code.FIELD_UNKNOWN, member)
    assert f"did you mean {meant}?" in problem.message


def test_no_more_problems_are_told_than_a_person_reads() -> None:
    assert len(refused(**{f"member_{number}": 1 for number in range(5000)})) == PROBLEMS


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


def test_times_that_contradict_each_other_are_refused() -> None:
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
def test_a_member_of_the_wrong_kind_or_size_is_refused(changes: dict[str, Any], code: Code) -> None:
    found = refused(**changes)
    assert found == [(code, next(iter(changes)))]


@pytest.mark.parametrize(
    "traceparent",
    ["nonsense", 5, "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "ff-" + "1" * 32 + "-" + "1" * 16 + "-01"],
)
def test_a_malformed_trace_context_costs_no_letter(traceparent: Any) -> None:
    assert plain(traceparent=traceparent).traceparent is None


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
    ],
)
def test_an_attachment_is_a_bare_name_a_type_and_base64(change: dict[str, Any], field: str) -> None:
    assert refused(attachments=[FILE, {**FILE, **change}]) == [
        (Code.ATTACHMENT_INVALID, f"attachments[1]{field}")
    ]


def test_an_attachment_that_is_no_object_is_refused() -> None:
    assert refused(attachments=["receipt.pdf"]) == [(Code.ATTACHMENT_INVALID, "attachments[0]")]


def test_attachments_are_limited_in_number_and_bytes() -> None:
    assert refused(attachments=[FILE] * (ATTACHMENTS + 1)) == [(Code.ATTACHMENT_INVALID, "attachments")]
    half = base64.b64encode(b"x" * (ATTACHMENTS_BYTES // 2 + 1)).decode()
    assert refused(attachments=[{**FILE, "content": half}] * 2) == [(Code.ATTACHMENT_INVALID, "attachments")]


def test_attachments_of_a_cloud_event_are_named_below_data() -> None:
    value = {"$attachments": [{**FILE, "filename": "a/b"}]}
    assert problems(value, HEADERS) == [(Code.ATTACHMENT_INVALID, "data.$attachments[0].filename")]


# --- packing -------------------------------------------------------------------------------------

content = (
    st.none()
    | st.binary(max_size=20)
    | st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))
)
records = st.builds(
    Record,
    topic=st.text("abc.-", min_size=1, max_size=9),
    partition=st.integers(0, 1000),
    offset=st.integers(0, 2**63 - 1),
    timestamp=st.datetimes(timezones=st.just(UTC)),
    key=content,
    value=content,
    headers=st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=5), content), max_size=3).map(
        tuple
    ),
)


@settings(max_examples=50, deadline=None)
@given(records)
def test_a_packed_record_comes_back_as_it_was(original: Record) -> None:
    assert unpack(pack(original)) == original


def test_a_packed_record_is_readable_json_with_a_version() -> None:
    packed = json.loads(pack(record(ENVELOPE)))
    assert packed["v"] == 1
    assert json.loads(packed["value"]) == ENVELOPE


def test_a_record_packed_by_an_older_program_is_still_read() -> None:
    stored = (
        b'{"v":1,"topic":"t","partition":2,"offset":3,"timestamp":"2026-11-23T20:15:30+00:00",'
        b'"key":{"base64":"/w=="},"value":"{}","headers":[["ce_id","1"],["x",null]]}'
    )
    assert unpack(stored) == Record("t", 2, 3, TIME, b"\xff", b"{}", (("ce_id", b"1"), ("x", None)))


def test_a_time_of_another_zone_stays_the_same_moment() -> None:
    there = Record("t", 0, 0, TIME.astimezone(timezone(timedelta(hours=5, minutes=30))), None, None)
    assert unpack(pack(there)).timestamp == TIME


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"v":2}'])
def test_what_was_not_packed_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(data)
