"""The contract of administration beside the workers, which every adapter must pass."""

import json
from dataclasses import replace
from typing import Any, Protocol

import pytest

from postroom.adapters.ledger.administration import LedgerAdministration
from postroom.letter.problems import Code, Problem
from postroom.ports.ledger import (
    KEEPS_EVENT_STATES,
    Attempt,
    Claimed,
    ErasureResult,
    ExistingRow,
    Ledger,
    State,
    Suppression,
    SuppressionReason,
)
from tests.delivery.async_test import async_test
from tests.delivery.letters import NOON, PROFILE, dead_letter, ended, letter, record
from tests.ledger.ledger_contract import LATER, LIVING_STATES, SETTLED_STATES, letter_in

PERSON, OTHER = "a@example.net", "b@example.net"
REFUSED = Problem(Code.RELAY_REFUSED, "smtp.rcpt", f"the relay answered 550 <{PERSON}> unknown")


class AdministeredLedger(Protocol):
    """A ledger that a worker uses."""

    async def begin(self) -> Ledger: ...

    def administration(self) -> LedgerAdministration:
        """The same ledger, opened beside the worker."""
        ...

    def everything(self) -> str:
        """Its whole content, as text."""
        ...


class AdministrationContract:
    """The tests; pytest collects them in the subclasses."""

    @pytest.mark.parametrize("state", SETTLED_STATES)
    @async_test
    async def test_an_erased_person_is_in_no_row_and_their_letter_stays_known(
        self, setup: AdministeredLedger, state: State
    ) -> None:
        ledger, ledger_ = await setup.begin(), setup.administration()
        personal: dict[str, Any] = {
            "message_id": f"to-{PERSON}",
            "user_id": "u77",
            "metadata": {"name": "Ada Lovelace"},
        }
        [claimed] = await ledger.claim([letter("a", **personal)], NOON)
        assert isinstance(claimed, Claimed)
        answer = Attempt("refused", None, 550, f"<{PERSON}> unknown")
        await ledger.settle([ended(claimed, state, attempt=answer, problem=REFUSED, due=LATER)], NOON)
        would = ledger_.erase(PERSON.upper(), NOON, dry_run=True)
        assert PERSON in setup.everything()
        assert ledger_.erase(PERSON.upper(), NOON, dry_run=False) == would
        assert would == ErasureResult(letters=1, withdrawn=int(state in KEEPS_EVENT_STATES), attempts=1)
        for word in (PERSON, "u77", "Lovelace"):
            assert word not in setup.everything()
        [found] = await ledger.claim([letter("a", 9, **personal)], LATER)
        assert isinstance(found, ExistingRow)
        assert found.state is (State.SUPPRESSED if state in KEEPS_EVENT_STATES else state)
        assert list(await ledger.claim_due(LATER, 10)) == []
        assert ledger_.erase(PERSON, NOON, dry_run=False) == ErasureResult()

    @pytest.mark.parametrize("state", LIVING_STATES)
    @async_test
    async def test_a_letter_that_a_worker_owns_is_not_erased(
        self, setup: AdministeredLedger, state: State
    ) -> None:
        ledger, ledger_ = await setup.begin(), setup.administration()
        claimed = await letter_in(ledger, state)
        assert ledger_.erase(PERSON, NOON, dry_run=False) == ErasureResult(in_progress=1)
        await ledger.fence([claimed], NOON)
        await ledger.settle([ended(claimed)], NOON)
        assert ledger_.erase(PERSON, NOON, dry_run=False).letters == 1

    @async_test
    async def test_other_letters_are_not_erased(self, setup: AdministeredLedger) -> None:
        ledger, ledger_ = await setup.begin(), setup.administration()
        await letter_in(ledger, State.DEFERRED, "b")
        assert ledger_.erase(PERSON, NOON, dry_run=False) == ErasureResult()
        assert [one.identity.recipient for one in await ledger.claim_due(LATER, 10)] == [OTHER]

    @async_test
    async def test_an_erased_letter_is_reopened_by_no_replay_and_pruned_in_time(
        self, setup: AdministeredLedger
    ) -> None:
        ledger, ledger_ = await setup.begin(), setup.administration()
        await letter_in(ledger, State.FAILED)
        ledger_.erase(PERSON, NOON, dry_run=False)
        [found] = await ledger.claim([letter("a", 9, replay="one")], LATER)
        assert isinstance(found, ExistingRow)
        assert found.state is State.FAILED
        assert await ledger.prune(LATER, 10) == 1
        [fresh] = await ledger.claim([letter("a", 10)], LATER)
        assert isinstance(fresh, Claimed)

    @async_test
    async def test_dead_letters_of_the_person_leave_the_outbox_and_others_stay(
        self, setup: AdministeredLedger
    ) -> None:
        ledger, ledger_ = await setup.begin(), setup.administration()
        broken = replace(record("x", 3), value=json.dumps({"to": PERSON}).encode())
        dead = [dead_letter(one, REFUSED) for one in (record("a", 1), record("b", 2), broken)]
        await ledger.add_dead_letters(dead)
        assert ledger_.erase(PERSON, NOON, dry_run=False) == ErasureResult(dead_letters=2)
        assert [one.dead_letter.id for one in await ledger.pending_dead_letters(10)] == [dead[1].id]

    # --- the suppression list ---

    @async_test
    async def test_an_address_is_on_the_list_once_for_each_reason(self, setup: AdministeredLedger) -> None:
        ledger, ledger_ = await setup.begin(), setup.administration()
        entries = [Suppression(PROFILE, PERSON, reason, NOON, "why") for reason in SuppressionReason]
        assert (ledger_.suppress(entries), ledger_.suppress(entries)) == (len(SuppressionReason), 0)
        assert set(ledger_.suppressions(PROFILE, PERSON.upper())) == set(entries)
        assert ledger_.suppressions("shop/other") == ledger_.suppressions(address=OTHER) == []
        assert list(ledger_.profiles()) == [PROFILE]
        [claimed] = await ledger.claim([letter()], NOON)
        assert isinstance(claimed, Claimed)
        assert set(claimed.suppressions) == set(SuppressionReason)

    @async_test
    async def test_an_address_is_removed_for_one_reason_or_all(self, setup: AdministeredLedger) -> None:
        await setup.begin()
        ledger_ = setup.administration()
        ledger_.suppress([Suppression(PROFILE, PERSON, reason, NOON) for reason in SuppressionReason])
        assert ledger_.lift(PROFILE, PERSON.upper(), SuppressionReason.MANUAL) == 1
        assert ledger_.lift("shop/other", PERSON, None) == 0
        assert ledger_.lift(PROFILE, PERSON, None) == len(SuppressionReason) - 1
        assert ledger_.suppressions() == []

    @async_test
    async def test_an_entry_survives_the_erasure_of_its_address(self, setup: AdministeredLedger) -> None:
        ledger, ledger_ = await setup.begin(), setup.administration()
        ledger_.suppress(
            [Suppression(PROFILE, PERSON, SuppressionReason.HARD_BOUNCE, NOON, f"550 <{PERSON}> unknown")]
        )
        assert ledger_.erase(PERSON, NOON, dry_run=False) == ErasureResult(suppressions=1)
        assert PERSON not in setup.everything()
        [claimed] = await ledger.claim([letter()], NOON)
        assert isinstance(claimed, Claimed)
        assert set(claimed.suppressions) == {SuppressionReason.HARD_BOUNCE}
