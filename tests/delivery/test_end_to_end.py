"""The journey on the real parts: a compiled template, the SQLite ledger, and SMTP to a relay with faults."""

import email
import email.policy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from postroom.adapters.ledger.reader import FileLedgerReader, LetterView
from postroom.adapters.ledger.sqlite import SqliteLedger
from postroom.adapters.smtp.pool import SmtpRelay
from postroom.adapters.smtp.settings import Backoff, RelaySettings
from postroom.delivery.context import DeliveryContext, DeliveryPolicy
from postroom.delivery.dispatch import Dispatch
from postroom.delivery.pipeline import deliver, retry_due
from postroom.letter.bundle import pack_bundle
from postroom.letter.catalog import SenderMailbox
from postroom.letter.event import Record
from postroom.letter.renderer import load_catalog
from postroom.letter.template import EmailTemplate
from postroom.letter.validation.validate import validate_template
from tests.delivery.async_test import async_test
from tests.delivery.fakes import SetClock, Shelf
from tests.delivery.letters import HOUSE, NOON, TOPIC, WINDOW
from tests.delivery.scripted_relay import DROP, OK, ScriptedRelay, served
from tests.fixtures.pipeline import MANIFESTS, events
from tests.letter.test_dkim import RSA, carried, pem, verified
from tests.smtp.outbound_messages import IN_CLEAR
from tests.worker.test_dkim_signer import ONE, signing
from tests.worker.test_pending_resources import mount

COUNT = 12


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    template = EmailTemplate.model_validate(yaml.safe_load((MANIFESTS / "order.yaml").read_text()))
    compiled = validate_template(template, None).compiled
    assert compiled is not None
    return Shelf(dict(load_catalog([pack_bundle([compiled])]).templates))


class Office:
    """One worker without its topic."""

    def __init__(self, post: DeliveryContext) -> None:
        self.post = post

    async def carry(self) -> None:
        values = enumerate(events(COUNT, seed=1))
        batch = [Record(TOPIC, 0, offset, NOON, None, value) for offset, value in values]
        async for _ in deliver(batch, self.post):
            pass

    async def recall(self) -> None:
        recalled = await self.post.ledger.claim_due(self.post.clock.now(), 100)
        async for _ in retry_due(recalled, self.post):
            pass


@asynccontextmanager
async def office(
    path: Path, relay: ScriptedRelay, shelf: Shelf, clock: SetClock, house: DeliveryPolicy = HOUSE
) -> AsyncIterator[Office]:
    ledger = await SqliteLedger.open(path, WINDOW, NOON)
    quick = Backoff(0.01, 0.01)
    settings = RelaySettings("127.0.0.1", relay.port, tls=IN_CLEAR, connections=2, backoff=quick)
    dispatch = Dispatch(SmtpRelay(settings), ledger, clock, room=COUNT)
    await dispatch.open()
    yield Office(DeliveryContext(house, ledger, shelf, dispatch, clock))
    await dispatch.drain(1)
    await ledger.close()


def letters(path: Path) -> list[LetterView]:
    with FileLedgerReader(path) as reader:
        return [reader.find(one.event_id)[0] for one in reader.latest(100)]


@async_test
async def test_letters_arrive_whole_and_are_on_record(tmp_path: Path, shelf: Shelf) -> None:
    path, relay = tmp_path / "ledger.sqlite", ScriptedRelay()
    async with served(relay), office(path, relay, shelf, SetClock()) as worker:
        await worker.carry()
        await worker.carry()  # the topic is read again: nothing is sent twice
    assert len(relay.accepted) == COUNT
    on_record = {view.message_id: view for view in letters(path)}
    assert {view.state for view in on_record.values()} == {"accepted"}
    for seen in relay.accepted:
        letter = email.message_from_bytes(seen.content, policy=email.policy.default)
        view = on_record[letter["Message-ID"]]
        assert [letter["To"]] == seen.recipients == [view.recipient]
        assert letter["X-Postroom-Template"] == f"{view.template}@{view.revision}"
        assert view.reply == "250 2.0.0 queued"
        assert "is confirmed" in letter["Subject"]


@async_test
async def test_a_signed_letter_verifies_as_the_relay_got_it(tmp_path: Path, shelf: Shelf) -> None:
    """From the template over the dialogue with its dots to the receiver: dkimpy has the last word."""
    mount(tmp_path, "dkim", {"dkim.key": pem(RSA).decode()})
    signer = signing(tmp_path, ONE)
    house = replace(HOUSE, sender=SenderMailbox("post@example.org", "Shop"), signer=signer)
    relay = ScriptedRelay()
    async with served(relay), office(tmp_path / "l.sqlite", relay, shelf, SetClock(), house) as worker:
        await worker.carry()
    assert len(relay.accepted) == COUNT
    assert all(verified(carried(seen.content)) for seen in relay.accepted)


@async_test
async def test_each_fault_of_the_relay_gets_what_the_rules_say(tmp_path: Path, shelf: Shelf) -> None:
    path, clock = tmp_path / "ledger.sqlite", SetClock()
    relay = ScriptedRelay(
        {
            "RCPT": [OK, "550 5.1.1 no such user", "552 5.5.3 too many", "450 4.2.0 busy"],
            "DOT": [OK, "554 5.6.0 spam", DROP, "421 4.3.2 closing"],
        }
    )
    async with served(relay), office(path, relay, shelf, clock) as worker:
        await worker.carry()
        first = letters(path)
        assert sorted(view.code or "" for view in first if view.state == "failed") == ["relay_refused"] * 2
        deferred = sorted(view.code or "" for view in first if view.state == "deferred")
        assert (
            deferred.count("connection_lost_at_end_of_data")
            == sum(view.in_doubt_count for view in first)
            == 1
        )
        assert set(deferred) == {"connection_lost_at_end_of_data", "relay_deferred"}
        assert deferred.count("relay_deferred") == 3
        for _ in range(5):
            clock.pass_(60)
            await worker.recall()
    last = letters(path)
    assert sorted({view.state for view in last}) == ["accepted", "failed"]
    taken = sorted(seen.recipients[0] for seen in relay.accepted)
    assert taken == sorted(view.recipient for view in last if view.state == "accepted")


@async_test
async def test_a_relay_that_is_away_costs_no_letter_an_attempt(tmp_path: Path, shelf: Shelf) -> None:
    path, relay, clock = tmp_path / "ledger.sqlite", ScriptedRelay(), SetClock()
    async with served(relay):
        pass  # its port is free again, and no process listens there
    async with office(path, relay, shelf, clock) as worker:
        await worker.carry()
    views = letters(path)
    assert {(view.state, view.code, view.in_doubt_count) for view in views} == {
        ("deferred", "relay_unreachable", 0)
    }
    assert {attempt.result for view in views for attempt in view.attempts} == {"unreachable"}
    async with served(relay), office(path, relay, shelf, clock) as worker:
        clock.pass_(60)
        await worker.recall()
    assert {view.state for view in letters(path)} == {"accepted"}
    assert len(relay.accepted) == COUNT
