"""Links and one-time codes of a letter."""

import time

import pytest

from postroom.sandbox.extract import Link, extract_links, one_time_codes
from postroom.sandbox.mime import parse_letter
from tests.sandbox.sample_letters import letter, raw


def found_codes(text: str, subject: str = "Hello") -> list[str]:
    return one_time_codes(parse_letter(raw(letter(subject, text=text))), subject)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Your verification code is 481920.", ["481920"]),
        ("Your code: 481 920", ["481920"]),
        ("Use 0042 as your PIN", ["0042"]),
        ("Ihr Bestätigungscode lautet 77-31-15 oder 773115.", ["773115"]),
        ("認証コードは 123456 です", ["123456"]),
        ("Enter the code ABC-123 to go on", ["ABC-123"]),
        ("Your order 20418 leaves tomorrow.", []),
        ("Call us: +32 9 555 1234", []),
        ("Your code: https://shop.example.com/481920", []),
        ("Paid 123456.78 with your code", []),
        ("Parcels are on us until 31 December 2026. You need no code.", []),
        ("Your code is 2026.", ["2026"]),
    ],
)
def test_codes_are_found_near_a_keyword(text: str, expected: list[str]) -> None:
    assert found_codes(text) == expected


def test_the_code_nearest_to_the_keyword_is_first() -> None:
    assert found_codes("Order 20418 from 2026. Your code is 481920")[0] == "481920"


def test_a_code_in_the_subject_is_found() -> None:
    assert found_codes("See the subject.", subject="481920 is your code") == ["481920"]


def test_links_are_listed_once_with_their_text() -> None:
    html = """<a class=x href="https://x.org/a?b=1&amp;c=2">See <b>it</b></a> <a href='https://x.org/z'>z</a>
      <a href=https://x.org/bare>bare</a> <a href="#top">top</a> <a href="https://x.org/z">again</a>"""
    found = extract_links(parse_letter(raw(letter(html=html, text="Or https://x.org/plain, if you like.\n"))))
    assert found == [
        Link("https://x.org/a?b=1&c=2", "See it"),
        Link("https://x.org/z", "z"),
        Link("https://x.org/bare", "bare"),
        Link("https://x.org/plain", ""),
    ]


@pytest.mark.parametrize(
    "piece", ["<a href=x>", "<a ", "code 123456 ", "https://", "<a href='", "code", "&#x41;"]
)
def test_the_time_for_a_hostile_letter_is_bounded(piece: str) -> None:
    content = b"Content-Type: text/html\r\n\r\n" + piece.encode() * (400_000 // len(piece))
    begin = time.perf_counter()
    letter = parse_letter(content)
    extract_links(letter)
    one_time_codes(letter, piece)
    assert time.perf_counter() - begin < 5.0
