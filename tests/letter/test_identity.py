"""Identities: stored hashes never change and never confuse two letters."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.event import Attachment, Event
from postroom.letter.identity import Identity, message_id, payload_digest

IDENTITY = Identity("shop/shop", "kafka://postroom.shop.shop", "order-17", "ada@example.org")
EVENT = Event(
    id="order-17",
    source="kafka://postroom.shop.shop",
    type="shop.order.paid",
    recipient="ada@example.org",
    time=datetime(2026, 11, 23, 20, 15, tzinfo=UTC),
    data={"name": "Zoë", "total": 12.5, "items": [{"sku": "a", "n": 1}]},
)


def test_the_stored_forms_never_change() -> None:
    assert IDENTITY.hash64() == 7551228479241647020
    assert message_id(IDENTITY, "example.org") == "<8c5316875bf407b856ab8e198cc8229d572cb49a@example.org>"
    assert payload_digest(EVENT).hex() == "d40ca0b2ec19b1311e5750bf359b4c3c"


names = st.text("ab:0123@ü", max_size=6)
identities = st.builds(Identity, names, names, names, names)


@settings(max_examples=50, deadline=None)
@given(identities, identities)
def test_two_identities_never_share_an_encoding(one: Identity, other: Identity) -> None:
    assert (one.encode() == other.encode()) == (one == other)


def test_the_borders_of_parts_count() -> None:
    assert Identity("a", "b", "c", "d").encode() != Identity("a", "bc", "", "d").encode()
    assert Identity("1:a", "", "", "").encode() != Identity("", "1:a", "", "").encode()


@settings(max_examples=50, deadline=None)
@given(identities)
def test_a_hash_fits_a_signed_column(identity: Identity) -> None:
    assert 0 <= identity.hash64() < 2**63


def test_the_message_id_is_a_function_of_identity_and_domain_alone() -> None:
    again = Identity("shop/shop", "kafka://postroom.shop.shop", "order-17", "ada@example.org")
    assert message_id(IDENTITY, "example.org") == message_id(again, "example.org")
    assert message_id(IDENTITY, "example.org") != message_id(
        replace(IDENTITY, recipient="bob@example.org"), "example.org"
    )


def test_the_digest_does_not_depend_on_the_order_of_keys_or_on_times() -> None:
    turned = json.loads(json.dumps(EVENT.data))
    turned = dict(reversed(turned.items()))
    later = replace(EVENT, data=turned, time=EVENT.time + timedelta(hours=1), request_id="r-2", id="x")
    assert payload_digest(later) == payload_digest(EVENT)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "shop.order.shipped"},
        {"recipient": "bob@example.org"},
        {"data": {"name": "Zoë", "total": 12.5, "items": [{"sku": "a", "n": 2}]}},
        {"data": {"name": "Zoë", "total": "12.5", "items": [{"sku": "a", "n": 1}]}},
        {"locale": "de"},
        {"reply_to": "help@example.org"},
        {"revision": "0123456789ab"},
        {"attachments": (Attachment("a.txt", "text/plain", b"one"),)},
    ],
)
def test_another_content_has_another_digest(change: dict[str, Any]) -> None:
    assert payload_digest(replace(EVENT, **change)) != payload_digest(EVENT)


def test_a_content_id_counts_for_the_digest_only_if_it_is_set() -> None:
    plain, shown = Attachment("a.png", "image/png", b"x"), Attachment("a.png", "image/png", b"x", "logo")
    digests = [payload_digest(replace(EVENT, attachments=(each,))) for each in (plain, shown)]
    assert digests[0] != digests[1]
    assert digests[0].hex() == "b5d2e04ed1967b84ef4f80e5692c64fa"


def test_files_differ_by_name_and_content() -> None:
    files = [("a.txt", b"one"), ("b.txt", b"one"), ("a.txt", b"two")]
    events = [
        replace(EVENT, attachments=(Attachment(name, "text/plain", content),)) for name, content in files
    ]
    assert len({payload_digest(event) for event in events}) == 3
