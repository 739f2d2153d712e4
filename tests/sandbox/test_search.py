"""The search: its query language and its results."""

from collections.abc import Callable

import pytest

from postroom.sandbox.mime import StoredLetter
from postroom.sandbox.search import LetterFilter, UnknownOperator, parse_query
from postroom.sandbox.store import LetterStore
from tests.sandbox.sample_letters import letter, raw, with_file

Capture = Callable[..., StoredLetter]


@pytest.fixture
def letters(capture: Capture, store: LetterStore) -> LetterStore:
    capture(raw(letter("Your receipt for order 20418", template="receipt@1")), "mira@example.com")
    capture(
        raw(letter("Grüße aus Gent", text="Über den Wolken\n", template="welcome@1")), "xmira@example.com"
    )
    capture(raw(with_file("invoice.pdf")), "Jonas@Example.com", "mira@example.com")
    capture(
        raw(letter("ようこそ、Larkfield へ", html="<p>今日は<b>良い</b>日</p>", text=None)),
        "kenji@example.org",
    )
    store.mark(1, read=True).result(5)
    return store


def found(store: LetterStore, line: str) -> list[int]:
    letter_filter = parse_query(line)
    assert isinstance(letter_filter, LetterFilter)
    return [summary.id for summary in store.find(letter_filter, 10)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", [4, 3, 2, 1]),
        ("order 20418", [1]),
        ("ORDER recei", [4, 3, 1]),
        ("grusse", []),
        ("grüße", [2]),
        ("wolken", [2]),
        ("uber", [2]),
        ("良い", [4]),
        ("ようこそ", [4]),
        ("to:mira@example.com", [3, 1]),
        ("to:mira", [3, 2, 1]),
        ("to:jonas@example.com", [3]),
        ("from:larkfield subject:gent", [2]),
        ("template:receipt is:read", [1]),
        ("is:unread has:attachment", [3]),
        ('"for order"', [1]),
        ("100%", []),
        ("https://shop.example.com", []),
        ("'", [4, 3, 2, 1]),
        ('" OR 1=1 --', []),
        ("sub*ject NEAR( ^", []),
    ],
)
def test_a_line_finds(letters: LetterStore, line: str, expected: list[int]) -> None:
    assert found(letters, line) == expected


def test_an_unknown_operator_is_returned_with_the_nearest_operator() -> None:
    assert parse_query("has:attachement mira") == UnknownOperator(
        "has:attachement", "has:attachment", "has:attachment mira"
    )
    assert parse_query("tempalte:x") == UnknownOperator("tempalte:", "template:", "template:x")
    assert parse_query("zzz:x") == UnknownOperator("zzz:", None, "")


def test_a_page_begins_after_the_previous_page(letters: LetterStore) -> None:
    assert [s.id for s in letters.find(LetterFilter(before=3), 10)] == [2, 1]
    assert [s.id for s in letters.find(LetterFilter(after=2), 10, oldest_first=True)] == [3, 4]


def test_the_words_of_a_deleted_letter_are_not_found(letters: LetterStore) -> None:
    letters.delete(2).result(5)
    assert found(letters, "wolken") == []


def test_the_search_works_without_full_text(letters: LetterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "full_text", False)
    assert found(letters, "receipt") == [1]
