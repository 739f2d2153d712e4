"""Return paths: short, the same for ever, nobody else's to make, and one letter's alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.letter.address import normalize
from postroom.letter.identity import Identity, veil
from postroom.letter.returnpath import Keyring, hash_in, is_of, paths_in, read_keys, tag_of

ONE = Identity("shop/orders", "postroom.shop.orders", "a", "mira@example.net")
RING = Keyring("bounces.larkfield.example", (b"k" * 32,))
identities = st.builds(Identity, st.text(), st.text(), st.text(), st.text())


def test_a_return_path_never_changes() -> None:
    """Reports come days later: what is written here was sent."""
    assert RING.path_of(ONE) == "b+gorvejn36lwdl2gpehgb4.nhsykdf24ok3s5og@bounces.larkfield.example"


@given(identities)
def test_a_return_path_is_an_address_and_names_its_letter_in_any_case(identity: Identity) -> None:
    path = RING.path_of(identity)
    local, _, domain = path.partition("@")
    assert len(local) == 40
    assert str(normalize(path)) == path
    for written in (path, path.upper(), f"{local.title()}@{domain.upper()}."):
        tag = RING.read(written)
        assert tag is not None
        assert is_of(tag, identity)
        assert hash_in(tag) == identity.hash64()


@given(identities, identities)
def test_two_letters_have_two_return_paths(one: Identity, other: Identity) -> None:
    assert (tag_of(one) == tag_of(other)) == (one == other)
    assert is_of(tag_of(one), other) == (one == other)


def test_a_letter_is_known_after_its_person_was_erased() -> None:
    erased = Identity(ONE.profile, ONE.source, ONE.id, veil(ONE))
    assert is_of(tag_of(ONE), erased)


@given(st.integers(0, 39), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567+.= "))
def test_a_return_path_with_one_other_character_is_refused(at: int, character: str) -> None:
    path = RING.path_of(ONE)
    changed = path[:at] + character + path[at + 1 :]
    tag = RING.read(changed)
    # the last character of the tag has bits that say nothing
    assert tag is None or tag == tag_of(ONE)


@given(st.text())
def test_no_text_is_read_for_a_return_path(text: str) -> None:
    assert RING.read(text) is None
    assert RING.read(f"{text}@{RING.domain}") is None


def test_another_s_key_or_domain_makes_no_return_path_of_ours() -> None:
    assert RING.read(Keyring(RING.domain, (b"x" * 32,)).path_of(ONE)) is None
    assert RING.read(Keyring("larkfield.example", RING.keys).path_of(ONE)) is None


def test_complaints_have_an_address_for_each_profile_that_is_no_return_path() -> None:
    at = RING.complaints_at("shop/orders")
    assert str(normalize(at)) == at
    assert RING.takes_complaints(at.upper(), "shop/orders")
    assert not RING.takes_complaints(at, "shop/other")
    assert not RING.takes_complaints(RING.path_of(ONE), "shop/orders")
    assert RING.read(at) is None
    assert RING.read(at.replace("c+", "b+")) is None
    assert Keyring(RING.domain, (b"n" * 32, *RING.keys)).takes_complaints(at, "shop/orders")


def test_a_key_that_was_replaced_is_honoured_as_long_as_it_is_there() -> None:
    old, new = RING.path_of(ONE), b"n" * 32
    both = Keyring(RING.domain, (new, *RING.keys))
    assert both.path_of(ONE) != old
    assert both.read(old) == both.read(both.path_of(ONE)) == tag_of(ONE)
    assert Keyring(RING.domain, (new,)).read(old) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [("short", "less than 32"), (f"{'a' * 32}\nb", "number 2"), (" ".join(["c" * 32] * 9), "at most 8")],
)
def test_keys_that_are_none_are_refused_with_the_rule(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_keys(text)


def test_keys_stand_with_white_space_between() -> None:
    assert read_keys(f"\n{'a' * 32}\r\n {'b' * 44}\t") == (b"a" * 32, b"b" * 44)
    assert read_keys(" \n") == ()


def test_a_return_path_is_found_in_running_text() -> None:
    path = RING.path_of(ONE)
    assert list(paths_in(f"Original-Mail-From: <{path.upper()}>\nx{path} y")) == [path.upper()]
