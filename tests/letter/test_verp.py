"""Return paths: short, stable, signed, and unique to a letter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.letter.address import normalize_address
from postroom.letter.identity import Identity, pseudonym
from postroom.letter.verp import (
    ReturnPathKeys,
    find_return_paths,
    hash_of_tag,
    letter_tag,
    read_return_path_keys,
    tag_matches,
)

ONE = Identity("shop/orders", "postroom.shop.orders", "a", "mira@example.net")
RING = ReturnPathKeys("bounces.larkfield.example", (b"k" * 32,))
identities = st.builds(Identity, st.text(), st.text(), st.text(), st.text())


def test_a_return_path_never_changes() -> None:
    """Reports come days later, so the form of a sent return path must never change."""
    assert RING.return_path(ONE) == "b+gorvejn36lwdl2gpehgb4.nhsykdf24ok3s5og@bounces.larkfield.example"


@given(identities)
def test_a_return_path_is_an_address_and_its_case_does_not_matter(identity: Identity) -> None:
    path = RING.return_path(identity)
    local, _, domain = path.partition("@")
    assert len(local) == 40
    assert str(normalize_address(path)) == path
    for written in (path, path.upper(), f"{local.title()}@{domain.upper()}."):
        tag = RING.read_tag(written)
        assert tag is not None
        assert tag_matches(tag, identity)
        assert hash_of_tag(tag) == identity.hash64()


@given(identities, identities)
def test_two_letters_have_two_return_paths(one: Identity, other: Identity) -> None:
    assert (letter_tag(one) == letter_tag(other)) == (one == other)
    assert tag_matches(letter_tag(one), other) == (one == other)


def test_a_letter_is_identified_after_erasure() -> None:
    erased = Identity(ONE.profile, ONE.source, ONE.id, pseudonym(ONE))
    assert tag_matches(letter_tag(ONE), erased)


@given(st.integers(0, 39), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567+.= "))
def test_a_return_path_with_a_changed_character_is_rejected(at: int, character: str) -> None:
    path = RING.return_path(ONE)
    changed = path[:at] + character + path[at + 1 :]
    tag = RING.read_tag(changed)
    # the last character of the tag has bits that say nothing
    assert tag is None or tag == letter_tag(ONE)


@given(st.text())
def test_no_other_text_is_taken_for_a_return_path(text: str) -> None:
    assert RING.read_tag(text) is None
    assert RING.read_tag(f"{text}@{RING.domain}") is None


def test_a_foreign_key_or_domain_gives_no_valid_return_path() -> None:
    assert RING.read_tag(ReturnPathKeys(RING.domain, (b"x" * 32,)).return_path(ONE)) is None
    assert RING.read_tag(ReturnPathKeys("larkfield.example", RING.keys).return_path(ONE)) is None


def test_complaints_have_an_address_for_each_profile_that_is_no_return_path() -> None:
    at = RING.complaint_address("shop/orders")
    assert str(normalize_address(at)) == at
    assert RING.is_complaint_address(at.upper(), "shop/orders")
    assert not RING.is_complaint_address(at, "shop/other")
    assert not RING.is_complaint_address(RING.return_path(ONE), "shop/orders")
    assert RING.read_tag(at) is None
    assert RING.read_tag(at.replace("c+", "b+")) is None
    assert ReturnPathKeys(RING.domain, (b"n" * 32, *RING.keys)).is_complaint_address(at, "shop/orders")


def test_a_replaced_key_is_accepted_as_long_as_it_is_listed() -> None:
    old, new = RING.return_path(ONE), b"n" * 32
    both = ReturnPathKeys(RING.domain, (new, *RING.keys))
    assert both.return_path(ONE) != old
    assert both.read_tag(old) == both.read_tag(both.return_path(ONE)) == letter_tag(ONE)
    assert ReturnPathKeys(RING.domain, (new,)).read_tag(old) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [("short", "less than 32"), (f"{'a' * 32}\nb", "number 2"), (" ".join(["c" * 32] * 9), "at most 8")],
)
def test_invalid_keys_are_rejected_with_the_rule(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_return_path_keys(text)


def test_keys_are_separated_by_white_space() -> None:
    assert read_return_path_keys(f"\n{'a' * 32}\r\n {'b' * 44}\t") == (b"a" * 32, b"b" * 44)
    assert read_return_path_keys(" \n") == ()


def test_a_return_path_is_found_in_running_text() -> None:
    path = RING.return_path(ONE)
    assert list(find_return_paths(f"Original-Mail-From: <{path.upper()}>\nx{path} y")) == [path.upper()]
