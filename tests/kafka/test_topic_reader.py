"""Conversion of messages of the client library: none of them ends the worker."""

import pytest

from postroom.adapters.kafka.topic_reader import record_of
from postroom.letter.event import Record, pack_record, parse_event, unpack_record
from postroom.letter.problems import Code, Rejected
from tests.delivery.scripted_consumer import ScriptedMessage


class UnreadableMessage(ScriptedMessage):
    """A message with the header b"caf\\xe9": the library fails to decode its name."""

    def __init__(self, failure: Exception) -> None:
        super().__init__(7)
        self._failure = failure

    def headers(self) -> None:
        raise self._failure


FAILURES = [
    SystemError("returned a result with an exception set"),
    UnicodeDecodeError("utf-8", b"caf\xe9", 3, 4, "unexpected end of data"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=["system", "unicode"])
def test_a_header_name_that_is_not_utf_8_makes_a_record_without_headers(failure: Exception) -> None:
    record = record_of(UnreadableMessage(failure))  # type: ignore[arg-type]
    assert (record.offset, record.value, record.headers) == (7, b"{}", ())
    assert record.unreadable == "a header's name is not UTF-8"


def test_a_record_with_unreadable_headers_is_rejected() -> None:
    with pytest.raises(Rejected) as refusal:
        parse_event(_unreadable())
    [problem] = refusal.value.problems
    assert (problem.code, problem.field) == (Code.NOT_UTF8_JSON, "headers")
    assert "a header's name is not UTF-8" in problem.message


def test_a_record_with_unreadable_headers_stays_unreadable_when_stored() -> None:
    assert unpack_record(pack_record(_unreadable())) == _unreadable()


def _unreadable() -> Record:
    return record_of(UnreadableMessage(FAILURES[0]))  # type: ignore[arg-type]
