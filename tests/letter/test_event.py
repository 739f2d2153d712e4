"""Events: three envelopes give one `Event`; a stored record is read back unchanged."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.event import Attachment, Event, Record, pack_record, parse_event, unpack_record
from postroom.letter.problems import Code, Rejected
from tests.letter.events import (
    CLOUD_JSON,
    ENVELOPE,
    FILE,
    HEADERS,
    STRUCTURED,
    TIME,
    plain,
    problems,
    record,
)

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
    event = parse_event(
        record({"name": "Zoë", "$attachments": [FILE], "$metadata": {"tenant": "eu"}}, headers)
    )
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
    structured = parse_event(record(STRUCTURED, CLOUD_JSON))
    assert structured == parse_event(record({"name": "Zoë"}, HEADERS))


def test_a_structured_cloud_event_without_its_content_type_is_recognised() -> None:
    assert parse_event(record(STRUCTURED)) == parse_event(record(STRUCTURED, CLOUD_JSON))


def test_a_cloud_event_without_time_has_the_records() -> None:
    assert parse_event(record(STRUCTURED, CLOUD_JSON)).time == TIME


def test_data_in_base64_is_read() -> None:
    encoded = {key: value for key, value in STRUCTURED.items() if key != "data"}
    encoded["data_base64"] = base64.b64encode(b'{"a": 1}').decode()
    assert parse_event(record(encoded, CLOUD_JSON)).data == {"a": 1}
    assert problems({**encoded, "data": {}}, CLOUD_JSON) == [(Code.FIELD_INVALID, "data_base64")]
    assert problems({**encoded, "data_base64": "%"}, CLOUD_JSON) == [(Code.FIELD_INVALID, "data_base64")]


def test_unknown_extensions_of_a_cloud_event_are_ignored() -> None:
    assert parse_event(record({}, {**HEADERS, "ce_sampledrate": "3"})).data == {}
    assert parse_event(record({**STRUCTURED, "sampledrate": 3}, CLOUD_JSON)).id == "order-17"


def test_problems_of_binary_mode_are_named_after_the_headers() -> None:
    headers = {**HEADERS, "ce_specversion": "0.3", "ce_recipient": "nobody", "ce_expirytime": "soon"}
    assert set(problems({}, headers)) == {
        (Code.FIELD_INVALID, "ce_specversion"),
        (Code.RECIPIENT_INVALID, "ce_recipient"),
        (Code.FIELD_INVALID, "ce_expirytime"),
    }


def test_a_repeated_header_is_rejected_by_name() -> None:
    twice = Record("t", 0, 0, TIME, None, b"{}", (*record({}, HEADERS).headers, ("ce_id", b"other")))
    with pytest.raises(Rejected) as caught:
        parse_event(twice)
    assert (caught.value.code, caught.value.problems[0].field) == (Code.DUPLICATE_KEY, "ce_id")


def test_a_header_that_is_not_text_is_rejected() -> None:
    broken = Record("t", 0, 0, TIME, None, b"{}", (*record({}, HEADERS).headers, ("ce_userid", b"\xff")))
    with pytest.raises(Rejected, match="ce_userid"):
        parse_event(broken)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"content-type": "text/plain"}, "content-type"),
        ({"content-type": "application/cloudevents-batch+json"}, "content-type"),
        ({**HEADERS, "content-type": "application/xml"}, "content-type"),
    ],
)
def test_another_content_type_is_rejected(headers: dict[str, str], field: str) -> None:
    assert problems(ENVELOPE, headers) == [(Code.CONTENT_TYPE_UNSUPPORTED, field)]


def test_json_content_types_with_parameters_are_accepted() -> None:
    assert parse_event(record(ENVELOPE, {"Content-Type": "application/json; charset=utf-8"})) == plain()
    assert (
        parse_event(record(ENVELOPE, {"content-type": "application/vnd.shop+json", "trace": "x"})) == plain()
    )


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
def test_a_packed_record_is_unpacked_unchanged(original: Record) -> None:
    assert unpack_record(pack_record(original)) == original


def test_a_packed_record_is_readable_json_with_a_version() -> None:
    packed = json.loads(pack_record(record(ENVELOPE)))
    assert packed["v"] == 1
    assert json.loads(packed["value"]) == ENVELOPE


def test_a_record_packed_by_an_older_program_is_still_read() -> None:
    stored = (
        b'{"v":1,"topic":"t","partition":2,"offset":3,"timestamp":"2026-11-23T20:15:30+00:00",'
        b'"key":{"base64":"/w=="},"value":"{}","headers":[["ce_id","1"],["x",null]]}'
    )
    assert unpack_record(stored) == Record("t", 2, 3, TIME, b"\xff", b"{}", (("ce_id", b"1"), ("x", None)))


def test_a_time_of_another_zone_stays_the_same_moment() -> None:
    there = Record("t", 0, 0, TIME.astimezone(timezone(timedelta(hours=5, minutes=30))), None, None)
    assert unpack_record(pack_record(there)).timestamp == TIME


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"v":2}'])
def test_data_that_is_not_a_packed_record_is_rejected(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack_record(data)
