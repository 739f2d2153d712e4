"""Addresses: one text is one address, normalized; every other text is rejected with its rule."""

import string
from email.headerregistry import HeaderRegistry
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.address import (
    MIXED_SCRIPT_DOMAIN,
    EmailAddress,
    normalize_address,
    normalize_address_fully,
)
from postroom.letter.problems import Code, Problem, Rejected


def refusal(text: str) -> Problem:
    with pytest.raises(Rejected) as caught:
        normalize_address(text)
    with pytest.raises(Rejected) as slowly:
        normalize_address_fully(text)
    assert caught.value.problems == slowly.value.problems
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("ada@example.org", "ada@example.org"),
        ("Ada.Lovelace+tag@EXAMPLE.Org", "Ada.Lovelace+tag@example.org"),
        ("o'brien@example.org", "o'brien@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"),
        ("ada@example。org", "ada@example.org"),
        ("ada@shop.test", "ada@shop.test"),
        ("ada@localhost", "ada@localhost"),
        ("ada@mail.svc.cluster.local", "ada@mail.svc.cluster.local"),
        ("a" * 64 + "@example.org", "a" * 64 + "@example.org"),
    ],
)
def test_a_valid_address_is_normalized(text: str, normal: str) -> None:
    assert str(normalize_address(text)) == normal
    assert str(normalize_address_fully(text)) == normal


def test_a_local_part_outside_ascii_needs_smtputf8_even_at_a_test_domain() -> None:
    assert normalize_address("zoë@shop.test") == EmailAddress("zoë", "shop.test", smtputf8=True)
    assert not normalize_address("zoe@bücher.example").smtputf8


@pytest.mark.parametrize("text", ["ada@pаypal.com", "ada@xn--pypal-4ve.com"])
def test_a_domain_that_mixes_scripts_is_flagged_and_kept_as_its_a_label(text: str) -> None:
    found = normalize_address(text)
    assert found.domain == "xn--pypal-4ve.com"
    assert found.flags == (MIXED_SCRIPT_DOMAIN,)


@pytest.mark.parametrize("domain", ["日本語カナ.jp", "пример.рф", "bücher.de", "한국.kr", "παράδειγμα.gr"])
def test_scripts_of_one_writing_system_are_not_flagged(domain: str) -> None:
    assert normalize_address(f"ada@{domain}").flags == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "a@x.org\n",
        "a@x.org\r\nRCPT TO:<b@y.org>",
        "a\x00@x.org",
        "a@x.org\u2028",
        "a\u202e@x.org",
        "alice@e.org)bob@evil.org",
        "(comment)a@x.org",
        "a@x.org (comment)",
        "Ada <a@x.org>",
        "<a@x.org>",
        '"a b"@x.org',
        '"a@x.org"@y.org',
        "a b@x.org",
        "a@[127.0.0.1]",
        "a..b@x.org",
        ".a@x.org",
        "a@x..org",
        "a@-x.org",
        "a@x.org.",
        "a@ab--cd.org",
        "a@b@c.org",
        "a@x.org b@y.org",
        "a@ex_ample.org",
        "\ud800@x.org",
        "a" * 5000,
    ],
)
def test_a_text_other_than_one_bare_address_is_rejected(text: str) -> None:
    assert refusal(text).code is Code.RECIPIENT_INVALID


@pytest.mark.parametrize("text", ["a@x.org,b@y.org", "a@x.org; b@y.org", "Ada <a@x.org>, Bob <b@y.org>"])
def test_a_list_in_one_text_is_rejected_with_the_advice_of_one_event_each(text: str) -> None:
    problem = refusal(text)
    assert problem.code is Code.ONE_ADDRESS_PER_ITEM
    assert "one event for each" in problem.message


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a" * 65 + "@example.org", "65 octets, at most 64"),
        ("ü" * 33 + "@example.org", "66 octets, at most 64"),
        ("a@" + ".".join(["b" * 63] * 4), "255 octets, at most 253"),
    ],
)
def test_the_octet_limits_of_rfc_5321_are_enforced(text: str, rule: str) -> None:
    assert rule in refusal(text).message
    assert "RFC 5321 section 4.5.3.1" in refusal(text).message


@pytest.mark.parametrize("text", ["hana.@docomo.example", ".hana@docomo.example", "ha..na@docomo.example"])
def test_a_misplaced_dot_is_rejected_with_rule_and_way_out(text: str) -> None:
    message = refusal(text).message
    assert "RFC 5321 section 4.1.2" in message
    assert "use another address" in message
    assert "hana" not in message


def test_a_quoted_local_part_is_rejected_with_the_way_out() -> None:
    assert "in quotes" in refusal('"hana."@docomo.example').message
    assert "use another address" in refusal('"hana."@docomo.example').message


@pytest.mark.parametrize("text", ["o'brien+orders@example.org", "ada.l+tag@example.org"])
def test_an_apostrophe_and_a_plus_are_kept(text: str) -> None:
    assert str(normalize_address(text)) == text


def test_a_label_over_63_octets_and_an_address_over_254_are_rejected() -> None:
    refusal("a@" + "b" * 64 + ".org")
    refusal("a" * 64 + "@" + ".".join(["b" * 60] * 3) + ".example")


def test_a_problem_does_not_repeat_the_address() -> None:
    assert "alice" not in refusal("alice.secret@e.org)x").message


def test_the_caller_chooses_field_and_code() -> None:
    with pytest.raises(Rejected) as caught:
        normalize_address("x", "reply_to", Code.FIELD_INVALID)
    assert (caught.value.code, caught.value.problems[0].field) == (Code.FIELD_INVALID, "reply_to")


near_addresses = st.text(
    string.ascii_letters + string.digits + "@.-+_'\"<>(),;: \n\\ü。аx", max_size=24
) | st.builds(
    "{}@{}".format,
    st.text(string.ascii_letters + ".+'-ü", min_size=1, max_size=70),
    st.text("abxn-.019Xü", min_size=1, max_size=70),
)


@settings(max_examples=80, deadline=None)
@given(near_addresses)
def test_the_fast_path_and_the_full_path_agree(text: str) -> None:
    try:
        quickly: EmailAddress | None = normalize_address(text)
    except Rejected:
        quickly = None
    try:
        slowly: EmailAddress | None = normalize_address_fully(text)
    except Rejected:
        slowly = None
    assert quickly == slowly


@settings(max_examples=40, deadline=None)
@given(near_addresses)
def test_a_normalized_address_is_one_address_for_the_standard_library(text: str) -> None:
    try:
        found = normalize_address(text)
    except Rejected:
        return
    assert normalize_address(str(found)) == EmailAddress(
        found.local, found.domain, found.smtputf8, found.flags
    )
    header: Any = HeaderRegistry()("To", str(found))
    assert [address.addr_spec for address in header.addresses] == [str(found)]
