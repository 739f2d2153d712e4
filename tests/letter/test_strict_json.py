"""Strict JSON: invalid JSON that the json module accepts is rejected, and nothing else."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.events.strict_json import MAX_DEPTH, MAX_DIGITS, load_json
from postroom.letter.problems import Code, Problem, Rejected


def refusal(data: bytes, **options: Any) -> Problem:
    with pytest.raises(Rejected) as caught:
        load_json(data, **options)
    return caught.value.problems[0]


@pytest.mark.parametrize(
    "data", [b"", b"  \n", b"\xff\xfe", b"\xef\xbb\xbf{}", b'"\xe4"', b"nul", b"{} x", b"'a'"]
)
def test_a_value_that_is_not_utf8_json_is_rejected(data: bytes) -> None:
    assert refusal(data).code is Code.NOT_UTF8_JSON


def test_an_empty_value_and_a_byte_order_mark_are_named() -> None:
    assert "is empty" in refusal(b"").message
    assert "byte order mark" in refusal(b"\xef\xbb\xbf{}").message


def test_a_syntax_error_has_its_position() -> None:
    assert "line 2, column 6" in refusal(b'{"a": 1,\n"b": }').message


@pytest.mark.parametrize("data", [b"NaN", b"[-Infinity]", b'{"a": Infinity}', b"1e999", b"[-1e400]"])
def test_numbers_that_json_does_not_have_are_rejected(data: bytes) -> None:
    assert refusal(data).code is Code.NUMBER_OUT_OF_RANGE


def test_a_number_of_5000_digits_is_rejected_by_its_length() -> None:
    problem = refusal(b'{"n": ' + b"7" * 5000 + b"}")
    assert problem.code is Code.NUMBER_OUT_OF_RANGE
    assert "5000 digits" in problem.message


def test_a_duplicate_key_is_rejected_by_name() -> None:
    problem = refusal(b'{"data": {"total": 1, "tax": 2, "total": 3}}')
    assert problem.code is Code.DUPLICATE_KEY
    assert "'total'" in problem.message


def test_a_key_that_is_written_in_two_ways_is_still_a_duplicate() -> None:
    assert refusal(b'{"a": 1, "\\u0061": 2}').code is Code.DUPLICATE_KEY


def test_a_lone_surrogate_is_rejected_with_its_path() -> None:
    problem = refusal(b'{"data": {"names": ["ok", "\\ud800"]}}')
    assert (problem.code, problem.field) == (Code.LONE_SURROGATE, "data.names[1]")


def test_a_lone_surrogate_in_a_key_is_rejected() -> None:
    assert refusal(b'{"\\udc00": 1}').code is Code.LONE_SURROGATE


def test_surrogate_pairs_and_escaped_backslashes_are_accepted() -> None:
    assert load_json(b'["\\ud83d\\ude00", "\\\\ud800", "\\\\u0000"]') == ["\U0001f600", "\\ud800", "\\u0000"]


def test_a_nul_character_is_rejected_with_its_path() -> None:
    problem = refusal(b'{"data": {"name": "a\\u0000b"}}')
    assert (problem.code, problem.field) == (Code.CONTROL_CHARACTER, "data.name")


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 50_000 + b"]" * 50_000,
        b'[{"a":' * 17 + b"1" + b"}]" * 17,
        b'["\\"[", ' + b"[" * 40,
    ],
)
def test_deep_nesting_is_rejected_without_a_recursion_error(data: bytes) -> None:
    assert refusal(data).code is Code.TOO_DEEP


def test_a_hundred_thousand_lists_are_rejected_before_they_are_parsed() -> None:
    for data in (b"[" + b"[]," * 100_000 + b"[]]", b"[}" * 60_000):
        assert refusal(data).code is Code.TOO_LARGE


def test_brackets_that_do_not_match_are_a_syntax_error() -> None:
    assert refusal(b"[" + b"[]," * 40 + b"}").code is Code.NOT_UTF8_JSON
    assert refusal(b"]" * 50 + b"[" * 20).code is Code.NOT_UTF8_JSON


def test_the_depth_limit_is_exact() -> None:
    assert load_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert refusal(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)).code is Code.TOO_DEEP


def test_brackets_in_texts_and_side_by_side_do_not_count_as_depth() -> None:
    text = {"html": "[[[{{{" * 50 + '\\"[', "rows": [[number] for number in range(100)]}
    assert load_json(json.dumps(text).encode()) == text


def test_a_value_over_the_size_limit_is_too_large() -> None:
    problem = refusal(b'"' + b"a" * 100 + b'"', limit=50)
    assert problem.code is Code.TOO_LARGE
    assert "at most 50" in problem.message


def test_the_field_of_a_problem_is_below_the_parsed_field() -> None:
    assert refusal(b'["\\ud800"]', field="data").field == "data[0]"


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
scalars = st.none() | st.booleans() | st.integers(-(10**MAX_DIGITS // 10), 10**MAX_DIGITS // 10 - 1) | texts
values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=50, deadline=None)
@given(values, st.booleans())
def test_valid_json_reads_as_the_json_module_reads_it(value: Any, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert load_json(data) == json.loads(data)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=40) | st.text('[]{}",:\\u0d8e1-.N ', max_size=40).map(str.encode))
def test_any_bytes_give_a_usable_value_or_a_rejection(data: bytes) -> None:
    try:
        value = load_json(data)
    except Rejected:
        return
    assert value == json.loads(data)
    assert not isinstance(value, float) or math.isfinite(value)
    json.dumps(value, ensure_ascii=False).encode()
