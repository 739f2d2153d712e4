"""Strict JSON: bytes in, a value out, or Rejected with the rule and the place.

The json module accepts what RFC 8259 forbids or leaves undefined: NaN, 1e999, the last of two equal keys,
half a surrogate pair, and nesting up to the interpreter's recursion limit. Each letter's event is parsed
once, so the work stays with the module's C scanner: every additional check has a cheap test that tells
whether it is needed.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Never

from postroom.letter.problems import Code, Problem, Rejected

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 32
MAX_COLLECTIONS = 50_000
"""The most lists and objects; `[]` is two bytes in JSON and sixty in memory."""
MAX_DIGITS = 64
"""The most digits of a whole number: converting a long one takes quadratic time."""

_NO_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[^\[\]{}"]++', re.DOTALL)
_SUSPICIOUS_ESCAPE = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")


def load_json(data: bytes, field: str = "", limit: int = MAX_BYTES) -> Any:
    """Parse JSON. Raises Rejected with `field` (else `value`) or a path below it."""
    if len(data) > limit:
        rule = f"is {len(data)} bytes; at most {limit} are allowed, link to large files"
        raise _rejected(Code.TOO_LARGE, field, rule)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _rejected(
            Code.NOT_UTF8_JSON, field, f"is not UTF-8 JSON: byte {error.start} is not UTF-8"
        ) from None
    text = text.strip(" \t\r\n")
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _refuse_deep_nesting(text, field)
    value = _scan(text, field)
    if "\\u" in text and _SUSPICIOUS_ESCAPE.search(text):
        _refuse_unusable_text(value, field)
    return value


def _scan(text: str, field: str) -> Any:
    try:
        value, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        raise _rejected(Code.NOT_UTF8_JSON, field, _not_json(text, error)) from None
    except _JsonRuleError as breach:
        raise _rejected(breach.code, field, breach.rule) from None
    if end != len(text):
        rule = f"is not UTF-8 JSON: more text after the value, from character {end + 1}"
        raise _rejected(Code.NOT_UTF8_JSON, field, rule)
    return value


def _not_json(text: str, error: json.JSONDecodeError) -> str:
    if not text:
        return "is empty; it must be UTF-8 JSON"
    if text[0] == "\ufeff":
        return "begins with a byte order mark; write UTF-8 JSON without it"
    reason = error.msg.removesuffix(" at").lower()
    return f"is not UTF-8 JSON: {reason} at line {error.lineno}, column {error.colno}"


def _refuse_deep_nesting(text: str, field: str) -> None:
    """Reject nesting deeper than MAX_DEPTH before the parser recurses.

    Each round removes the innermost pairs with `str.replace`; the rest after MAX_DEPTH rounds is too deep.
    Brackets that do not match are left to the parser.
    """
    brackets = _NO_BRACKETS.sub("", text).replace("{", "[").replace("}", "]")
    collections = brackets.count("[")
    for _ in range(MAX_DEPTH):
        if "[]" not in brackets:
            break
        brackets = brackets.replace("[]", "")
    if "[]" in brackets or brackets.count("[") > MAX_DEPTH:
        raise _rejected(Code.TOO_DEEP, field, f"nests deeper than {MAX_DEPTH} levels; flatten it")
    if collections > MAX_COLLECTIONS:
        raise _rejected(Code.TOO_LARGE, field, f"holds more than {MAX_COLLECTIONS} lists and objects")


def _refuse_unusable_text(value: Any, field: str) -> None:
    for place, text in _texts(value, field):
        found = _UNUSABLE.search(text)
        if found and found[0] == "\x00":
            raise _rejected(Code.CONTROL_CHARACTER, place, "holds the character U+0000; remove it")
        if found:
            rule = f"holds half a surrogate pair (U+{ord(found[0]):04X}); cut the text between characters"
            raise _rejected(Code.LONE_SURROGATE, place, rule)


def _texts(value: Any, field: str) -> Iterator[tuple[str, str]]:
    """Every text in a value, including keys, with its path."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{field}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield field, key
            yield from _texts(item, f"{field}.{key}" if field else key)


class _JsonRuleError(Exception):
    def __init__(self, code: Code, rule: str) -> None:
        self.code = code
        self.rule = rule


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                rule = f"has the key {ascii(key)[:80]} twice in one object; remove one"
                raise _JsonRuleError(Code.DUPLICATE_KEY, rule)
            seen.add(key)
    return members


def _integer(text: str) -> int:
    digits = len(text) - text.startswith("-")
    if digits > MAX_DIGITS:
        raise _JsonRuleError(
            Code.NUMBER_OUT_OF_RANGE,
            f"has a number of {digits} digits; at most {MAX_DIGITS} are allowed, send it as a text",
        )
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if number - number != 0:
        rule = f"has the number {text[:40]}, which is too large; send it as a text"
        raise _JsonRuleError(Code.NUMBER_OUT_OF_RANGE, rule)
    return number


def _constant(text: str) -> Never:
    raise _JsonRuleError(
        Code.NUMBER_OUT_OF_RANGE, f"has {text}, which is not JSON; write null or leave it out"
    )


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)


def _rejected(code: Code, field: str, message: str) -> Rejected:
    return Rejected(Problem(code, field or "value", message))
