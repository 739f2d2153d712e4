"""A profile that asks for bounces: return paths on its letters, their keys from mounted Secrets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from postroom.letter.identity import Identity
from postroom.letter.problems import Code, Problem
from postroom.letter.verp import ReturnPathKeys, letter_tag
from postroom.ports.ledger import State
from postroom.worker.config import read_config
from postroom.worker.secrets import ReturnPathBuilder, SecretWatcher
from tests.delivery import kubelet
from tests.delivery.async_test import async_test
from tests.delivery.letters import HOUSE, letter, record
from tests.delivery.pipeline_harness import Bench
from tests.worker.test_pending_resources import mount, settings

DOMAIN = "bounces.example.org"
SPEC: dict[str, Any] = {"bounces": {"domain": DOMAIN, "secretRef": {"name": "return-paths"}}}
OLD, NEW = "o" * 44, "n" * 44
ONE = Identity("team-a/shop", "s", "1", "mira@example.net")


def returns(folder: Path, **changes: Any) -> ReturnPathBuilder:
    found = read_config(settings(folder, spec=SPEC, **changes)).returns
    assert found is not None
    return found


def test_a_letter_gets_a_return_path_that_its_key_vouches_for(tmp_path: Path) -> None:
    mount(tmp_path, "return-paths", {"bounces.key": OLD})
    one = returns(tmp_path)
    path = one.return_path(ONE)
    assert isinstance(path, str)
    assert ReturnPathKeys(DOMAIN, [OLD.encode()]).read_tag(path) == letter_tag(ONE)
    assert (one.condition.ok, one.condition.reason) == (True, "Addressed")


def test_a_profile_that_asks_for_none_changes_nothing(tmp_path: Path) -> None:
    job = read_config(settings(tmp_path))
    assert (job.returns, job.policy.returns) == (None, None)


@pytest.mark.parametrize(
    ("keys", "code", "words"),
    [
        (
            {},
            Code.SECRET_KEY_MISSING,
            "is not in Secret team-a/return-paths. Return paths at",
        ),
        ({"bounces.key": "short"}, Code.SECRET_INVALID, "has a key, number 1, of less than 32 characters"),
    ],
)
def test_without_its_key_a_letter_waits_and_the_condition_says_which(
    tmp_path: Path, keys: dict[str, str], code: Code, words: str
) -> None:
    mount(tmp_path, "return-paths", keys)
    one = returns(tmp_path)
    problem = one.return_path(ONE)
    assert isinstance(problem, Problem)
    assert (problem.code, problem.field) == (code, "bounces.key")
    assert words in problem.message
    assert "openssl rand" in problem.message
    assert one.condition.ok is False


def test_where_letters_stay_in_the_house_one_without_a_key_has_its_from_address(tmp_path: Path) -> None:
    guarded = returns(tmp_path, delivery_allowed=False)
    assert guarded.return_path(ONE) is None
    assert guarded.condition.ok is None


def test_a_new_key_signs_from_the_next_look_on(tmp_path: Path) -> None:
    mount(tmp_path, "return-paths", {"bounces.key": OLD})
    job = read_config(settings(tmp_path, spec=SPEC))
    assert job.returns is not None
    old = job.returns.return_path(ONE)
    kubelet.write(tmp_path / "secrets" / "return-paths", {"bounces.key": f"{NEW}\n{OLD}"})
    SecretWatcher(job).reload()
    new = job.returns.return_path(ONE)
    assert new != old
    ring = ReturnPathKeys(DOMAIN, [NEW.encode(), OLD.encode()])
    assert ring.read_tag(str(old)) == ring.read_tag(str(new))


class Clerk:
    """Implements delivery.post.Returns: has no key until it is given one."""

    ring: ReturnPathKeys | None = None

    def return_path(self, identity: Identity) -> str | Problem | None:
        if self.ring is None:
            return Problem(Code.SECRET_KEY_MISSING, "bounces.key", "is not there")
        return self.ring.return_path(identity)


@async_test
async def test_the_sender_of_a_letter_is_its_return_path_at_every_attempt() -> None:
    clerk = Clerk()
    bench = Bench(policy=replace(HOUSE, returns=clerk))
    await bench.carry(record())
    assert (bench.state(), bench.row().replies) == (State.DEFERRED, 0)
    clerk.ring = ReturnPathKeys(DOMAIN, [OLD.encode()])
    bench.clock.pass_(60)
    await bench.recall()
    assert bench.state() is State.ACCEPTED
    sent = bench.relay.got[-1].envelope
    assert sent.sender == clerk.ring.return_path(letter().identity)
    assert sent.recipient == "a@example.net"
