"""`postroom letter` on the PostgreSQL ledger that workers share."""

from pathlib import Path

import pytest

from postroom.letter.problems import Code, Problem
from postroom.local import letters
from postroom.local.errors import UserError
from postroom.ports.ledger import Attempt, State
from postroom.ports.relay import Stage
from tests.delivery import kubelet
from tests.delivery.async_test import async_test
from tests.delivery.letters import NOON, ended
from tests.fixtures.postgres import free_port
from tests.ledger.ledger_contract import LATER, carry, claim
from tests.ledger.postgres_ledgers import SCHEMA, working

PROBLEM = Problem(Code.RELAY_DEFERRED, "smtp.rcpt", "the relay answered 451 no")


@pytest.mark.postgres
@async_test
async def test_a_letter_is_found_where_the_connections_secret_says(
    postgres_ledger: str, tmp_path: Path
) -> None:
    kubelet.write(tmp_path, {"ledger-url": postgres_ledger})
    async with working(postgres_ledger) as ledger:
        await claim(ledger, "b", 1)
        claimed = await claim(ledger, "a")
        await ledger.settle([ended(claimed, State.DEFERRED, problem=PROBLEM, due=LATER)], NOON)
        for wanted in ("a", "A@example.NET", "<a@example.com>"):
            [found] = letters.find_letters_on_server(wanted, tmp_path, "shop")
            assert (found.row, found.state, found.due) == (claimed.row, "deferred", LATER)
            assert [attempt.result for attempt in found.attempts] == ["deferred"]
        [again] = await ledger.claim_due(LATER, 10)
        attempt = Attempt("refused", Stage.RCPT, 550, "no such user", "shop/spare")
        await ledger.settle([ended(carry(again), State.FAILED, attempt=attempt)], LATER)
        [found] = letters.find_letters_on_server("a", tmp_path, "shop")
        assert [attempt.relay(found.profile) for attempt in found.attempts] == ["shop/orders", "shop/spare"]
        assert letters.find_letters_on_server("unknown", tmp_path, "shop") == []


@pytest.mark.postgres
def test_a_schema_without_a_ledger_is_named(postgres: str, tmp_path: Path) -> None:
    kubelet.write(tmp_path, {"ledger-url": postgres, "ledger-schema": SCHEMA})
    with pytest.raises(UserError, match=f"no ledger in schema {SCHEMA}"):
        letters.find_letters_on_server("a", tmp_path, "")


def test_a_missing_secret_or_an_unreachable_server_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ledger-url"):
        letters.find_letters_on_server("a", tmp_path, "shop")
    kubelet.write(tmp_path, {"ledger-url": f"postgresql://me:secret@127.0.0.1:{free_port()}/base"})
    with pytest.raises(UserError, match="does not answer") as raised:
        letters.find_letters_on_server("a", tmp_path, "shop")
    assert "secret" not in str(raised.value)
