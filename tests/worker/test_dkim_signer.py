"""A profile that asks for DKIM: keys from mounted Secrets, their rotation, and letters that wait for one."""

import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from postroom.letter.problems import Code, Problem
from postroom.ports.ledger import State
from postroom.worker.config import read_config
from postroom.worker.secrets import DkimSigner, SecretWatcher
from tests.delivery import kubelet
from tests.delivery.async_test import async_test
from tests.delivery.letters import HOUSE, NOON, record
from tests.delivery.pipeline_harness import Bench
from tests.letter.test_dkim import ED25519, RSA, carried, composed, pem, verified
from tests.worker.test_pending_resources import mount, settings

NAMES = {"domain": "example.org", "secretRef": {"name": "dkim"}}
ONE: dict[str, Any] = {
    "from": {"address": "post@example.org"},
    "dkim": [NAMES | {"selector": "s1"}],
}
TWO: dict[str, Any] = {
    "from": {"address": "post@example.org"},
    "allowedFromDomains": ["example.org", "other.example"],
    "dkim": [
        NAMES | {"selector": "s1", "secretRef": {"name": "dkim", "key": "rsa.pem"}},
        NAMES | {"selector": "s2", "secretRef": {"name": "dkim", "key": "ed25519.pem"}},
        {"domain": "other.example", "selector": "s1", "secretRef": {"name": "other"}},
    ],
}
KEYS = {"rsa.pem": pem(RSA).decode(), "ed25519.pem": pem(ED25519).decode()}


def signing(folder: Path, spec: dict[str, Any], **changes: Any) -> DkimSigner:
    found = read_config(settings(folder, spec=spec, **changes)).signing
    assert found is not None
    return found


def signed(by: DkimSigner, sender: str = "post@example.org") -> bytes:
    found = by.sign(composed(), sender, NOON)
    assert isinstance(found, bytes)
    return carried(found)


def test_a_letter_gets_every_signature_of_its_senders_domain_and_no_other(tmp_path: Path) -> None:
    mount(tmp_path, "dkim", KEYS)
    mount(tmp_path, "other", {"dkim.key": KEYS["rsa.pem"]})
    both = signing(tmp_path, TWO)
    assert (both.condition.ok, both.condition.reason) == (True, "Signing")
    letter = signed(both)
    assert letter.count(b"DKIM-Signature:") == 2
    assert verified(letter, 0)
    assert verified(letter, 1)
    assert signed(both, "a@mail.other.example").count(b"d=other.example") == 1


@pytest.mark.parametrize(
    ("keys", "code", "words"),
    [
        ({}, Code.SECRET_KEY_MISSING, "is not in Secret team-a/dkim. Letters of example.org are signed"),
        ({"dkim.key": "no key"}, Code.SECRET_INVALID, "of Secret team-a/dkim is not a private key in PEM"),
    ],
)
def test_without_its_key_a_letter_waits_and_the_condition_says_which(
    tmp_path: Path, keys: dict[str, str], code: Code, words: str
) -> None:
    mount(tmp_path, "dkim", keys)
    one = signing(tmp_path, ONE)
    problem = one.sign(composed(), "post@example.org", NOON)
    assert isinstance(problem, Problem)
    assert (problem.code, problem.field) == (code, "dkim.key")
    assert words in problem.message
    assert one.condition.ok is False
    assert words in one.condition.message


def test_without_delivery_a_letter_without_a_key_is_unsigned_and_the_condition_reports_it(
    tmp_path: Path,
) -> None:
    guarded = signing(tmp_path, ONE, delivery_allowed=False)
    assert guarded.sign(composed(), "post@example.org", NOON) == composed()
    assert guarded.condition.ok is None
    assert "are unsigned" in guarded.condition.message


def test_a_key_that_is_replaced_signs_from_the_next_look_on(tmp_path: Path) -> None:
    job = read_config(settings(tmp_path, spec=ONE))
    secrets, found = SecretWatcher(job), job.signing
    assert found is not None
    mount(tmp_path, "dkim", {"dkim.key": pem(rsa.generate_private_key(65537, 2048)).decode()})
    secrets.reload()
    assert not verified(signed(found))
    kubelet.write(tmp_path / "secrets" / "dkim", {"dkim.key": KEYS["rsa.pem"]})
    secrets.reload()
    assert verified(signed(found))


def test_a_short_key_works_and_is_called_short(tmp_path: Path) -> None:
    mount(tmp_path, "dkim", {"dkim.key": pem(rsa.generate_private_key(65537, 1024)).decode()})
    short = signing(tmp_path, ONE)
    assert (short.condition.ok, short.condition.reason) == (True, "KeyIsShort")
    assert "s1 of example.org has 1024 bits" in short.condition.message


class Locksmith:
    """Implements delivery.post.Signer: has no key until it is given one."""

    has_key = False

    def __init__(self) -> None:
        self.signed: list[str] = []

    def sign(self, content: bytes, sender: str, now: datetime) -> bytes | Problem:
        if not self.has_key:
            return Problem(Code.SECRET_KEY_MISSING, "dkim.key", "is not there")
        self.signed.append(sender)
        return content


@async_test
async def test_a_letter_that_cannot_be_signed_is_deferred_and_goes_when_the_key_is_there() -> None:
    locksmith = Locksmith()
    bench = Bench(policy=replace(HOUSE, signer=locksmith))
    progress = await bench.carry(record())
    assert (bench.state(), bench.row().replies) == (State.DEFERRED, 0)
    assert [one.offset for one in progress.finished()] == [0]
    locksmith.has_key = True
    bench.clock.pass_(60)
    await bench.recall()
    assert bench.state() is State.ACCEPTED
    assert locksmith.signed == ["post@example.com"]


@pytest.mark.bench
def test_what_a_signature_costs_a_letter(tmp_path: Path) -> None:
    """No bound: RSA is OpenSSL's to make fast. The figures are for the decision page."""
    letter, rounds = composed(text="A line of some length that is never read at all.\n" * 120), 2000
    for name, keys in {"RSA 2048": ("s1", "rsa.pem"), "Ed25519": ("s2", "ed25519.pem")}.items():
        mount(tmp_path, "dkim", {"dkim.key": KEYS[keys[1]]})
        one = signing(tmp_path, ONE | {"dkim": [NAMES | {"selector": keys[0]}]})
        began = time.process_time()
        for _ in range(rounds):
            one.sign(letter, "post@example.org", NOON)
        cost = (time.process_time() - began) / rounds * 1e6
        print(f"{name}: {cost:.0f} µs a letter of {len(letter)} bytes")
