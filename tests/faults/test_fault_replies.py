"""Fault 16: each reply code at each stage, over real sockets, with a ledger on disk: the letter's fate."""

import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import trustme

from postroom.adapters.ledger.reader import FileLedgerReader, LetterView
from postroom.adapters.ledger.sqlite import SqliteLedger
from postroom.adapters.smtp.pool import SmtpRelay
from postroom.adapters.smtp.settings import (
    AuthMethod,
    AuthSettings,
    Credentials,
    RelaySettings,
    TlsMode,
    TlsSettings,
)
from postroom.delivery.context import DeliveryContext
from postroom.delivery.dispatch import Dispatch
from postroom.delivery.pipeline import deliver, retry_due
from postroom.letter.event import Record
from tests.delivery.async_test import async_test
from tests.delivery.fakes import SetClock, Shelf
from tests.delivery.letters import HOUSE, POLICY, WINDOW, record
from tests.delivery.scripted_relay import FULL, ScriptedRelay, served
from tests.faults.results import Fault

pytestmark = pytest.mark.faults

CODES = (421, 450, 451, 452, 454, 550, 552, 554)
BEFORE = ("greeting", "EHLO", "STARTTLS", "AUTH")
OF_THE_LETTER = ("MAIL", "RCPT", "DATA", "DOT")
LOGIN = AuthSettings(AuthMethod.PLAIN, lambda: Credentials("alice", "open sesame"))


class Rule(Enum):
    """What a reply makes of a letter."""

    FAILS = "fails at once, with a dead letter"
    COUNTS = "is tried again, and the attempt is used up"
    WAITS = "is tried again, and no attempt is used up"


OF_THE_RELAY = {(452, "MAIL"), (454, "DATA"), (454, "DOT")}
"""Full, and throttled: 421 and everything before the letter is the relay's as well."""


def rule(code: int, stage: str) -> Rule:
    """RFC 5321 §4.2.1, §4.5.3.1.10 (552 to a recipient), §3.8 (421); decision 10."""
    if stage in BEFORE or code == 421 or (code, stage) in OF_THE_RELAY:
        return Rule.WAITS
    if code < 500 or (code, stage) == (552, "RCPT"):
        return Rule.COUNTS
    return Rule.FAILS


@dataclass
class House:
    """A worker on a ledger of its own, and relays that refuse at one stage."""

    ledger: SqliteLedger
    server: ssl.SSLContext
    tls: TlsSettings
    path: Path
    clock: SetClock = field(default_factory=SetClock)
    copies: Counter[str] = field(default_factory=Counter)

    async def visit(self, script: Mapping[str, Sequence[Any]], *fresh: Record) -> None:
        """Carry new records, or what is due, to a relay with this script."""
        relay = ScriptedRelay(script, (*FULL, "AUTH PLAIN"), tls=self.server)
        async with served(relay):
            settings = RelaySettings("127.0.0.1", relay.port, self.tls, LOGIN, connections=1)
            dispatch = Dispatch(SmtpRelay(settings), self.ledger, self.clock, room=4)
            await dispatch.open()
            post = DeliveryContext(HOUSE, self.ledger, Shelf(), dispatch, self.clock)
            recalled = () if fresh else await self.ledger.claim_due(self.clock.now(), 10)
            async for _ in deliver(fresh, post) if fresh else retry_due(recalled, post):
                pass
            await dispatch.drain(1.0)
        self.copies.update(seen.recipients[0] for seen in relay.accepted)

    def letter(self, name: str) -> LetterView:
        """What is on record of a letter."""
        with FileLedgerReader(self.path) as reader:
            [found] = reader.find(name)
        return found

    def buried(self) -> int:
        """Dead letters so far."""
        with FileLedgerReader(self.path) as reader:
            return reader.pending_dead_letters()


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, TlsSettings]:
    authority, file = trustme.CA(), tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    return server, TlsSettings(TlsMode.REQUIRED, ca_file=file)


async def refuse(house: House, code: int, stage: str, number: int) -> Rule:
    """Refuse a letter as often as it may be, then meet it with a relay that is well: what came of it."""
    name, recipient = f"{code}-{stage.lower()}", f"{code}-{stage.lower()}@example.net"
    refusal = {stage: [f"{code} no"] * 9}
    dead = house.buried()
    await house.visit(refusal, record(name, number, at=house.clock.now()))
    found = house.letter(name)
    if found.state == "failed":
        assert (house.buried(), house.copies[recipient]) == (dead + 1, 0)
        return Rule.FAILS
    for _ in range(POLICY.max_attempts - 1):
        found = house.letter(name)
        assert (found.state, house.copies[recipient]) == ("deferred", 0), name
        assert found.due is not None
        house.clock.time = max(house.clock.time, found.due)
        await house.visit(refusal)
    found = house.letter(name)
    assert len(found.attempts) == POLICY.max_attempts
    if found.state == "failed":
        assert (found.code, house.buried(), house.copies[recipient]) == ("attempts_exhausted", dead + 1, 0)
        return Rule.COUNTS
    assert found.due is not None
    house.clock.time = found.due
    await house.visit({})
    assert (house.letter(name).state, house.copies[recipient], house.buried()) == ("accepted", 1, dead), name
    return Rule.WAITS


@pytest.mark.parametrize("stage", [*BEFORE, *OF_THE_LETTER])
@pytest.mark.fault(16)
def test_each_reply_at_each_stage_does_what_the_rules_say(
    stage: str, tmp_path: Path, contexts: tuple[ssl.SSLContext, TlsSettings], fault: Fault
) -> None:
    came: dict[int, Rule] = {}

    @async_test
    async def run() -> None:
        clock = SetClock()
        path = tmp_path / "ledger.sqlite"
        ledger = await SqliteLedger.open(path, WINDOW, clock.now())
        house = House(ledger, *contexts, path, clock)
        for number, code in enumerate(CODES):
            came[code] = await refuse(house, code, stage, number)
        assert max(house.copies.values(), default=0) <= 1
        await ledger.close()

    run()
    assert came == {code: rule(code, stage) for code in CODES}
    counts = ", ".join(f"{code} {found.name.lower()}" for code, found in came.items())
    fault.record(f"{stage}: {counts}; no letter lost, none doubled")
