"""Searching: the line that a person types, and what it finds."""

from collections.abc import Callable

import pytest

from postroom.sandbox.mime import StoredLetter
from postroom.sandbox.search import LetterFilter, UnknownOperator, parse_query
from postroom.sandbox.store import LetterStore
from tests.sandbox.sample_letters import letter, raw, with_file

Keep = Callable[..., StoredLetter]


@pytest.fixture
def letters(keep: Keep, store: LetterStore) -> LetterStore:
    keep(raw(letter("Your receipt for order 20418", template="receipt@1")), "mira@example.com")
    keep(raw(letter("Grüße aus Gent", text="Über den Wolken\n", template="welcome@1")), "xmira@example.com")
    keep(raw(with_file("invoice.pdf")), "Jonas@Example.com", "mira@example.com")
    keep(
        raw(letter("ようこそ、Larkfield へ", html="<p>今日は<b>良い</b>日</p>", text=None)),
        "kenji@example.org",
    )
    store.mark(1, read=True).result(5)
    return store


def found(store: LetterStore, line: str) -> list[int]:
    wanted = parse_query(line)
    assert isinstance(wanted, LetterFilter)
    return [summary.id for summary in store.find(wanted, 10)]


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


def test_an_operator_that_does_not_exist_is_named_with_its_neighbour() -> None:
    assert parse_query("has:attachement mira") == UnknownOperator(
        "has:attachement", "has:attachment", "has:attachment mira"
    )
    assert parse_query("tempalte:x") == UnknownOperator("tempalte:", "template:", "template:x")
    assert parse_query("zzz:x") == UnknownOperator("zzz:", None, "")


def test_a_page_begins_where_the_last_one_ended(letters: LetterStore) -> None:
    assert [s.id for s in letters.find(LetterFilter(before=3), 10)] == [2, 1]
    assert [s.id for s in letters.find(LetterFilter(after=2), 10, oldest_first=True)] == [3, 4]


def test_words_of_an_erased_letter_are_not_found(letters: LetterStore) -> None:
    letters.delete(2).result(5)
    assert found(letters, "wolken") == []


def test_search_does_without_full_text(letters: LetterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "full_text", False)
    assert found(letters, "receipt") == [1]
