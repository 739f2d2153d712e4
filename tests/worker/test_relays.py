"""Which relays a worker opens: its own, the fallback's, and from a sandbox never one."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from postroom.letter.problems import Code
from postroom.letter.profile import SmtpProfile
from postroom.policy.circuit_breaker import CircuitRules
from postroom.ports.ledger import State
from postroom.ports.relay import Rate
from postroom.worker.relays import RelaySelection, select_relay
from postroom.worker.settings import WorkerSettings
from postroom.worker.status import fallback_condition

SMTP: dict[str, Any] = {"mode": "SMTP", "smtp": {"host": "smtp.example.org"}}
SPARE: dict[str, Any] = {
    "mode": "SMTP",
    "smtp": {"host": "spare.example.org", "port": 2525},
    "limits": {"rate": {"count": 5, "period": "2s"}},
    "circuitBreaker": {"failures": 2, "resetAfter": "9s"},
    "fallbackRef": {"name": "third"},
}
LEANS = {"fallbackRef": {"name": "spare"}}


def manifest(name: str, namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "postroom.dev/v1alpha1",
        "kind": "SmtpProfile",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"from": {"address": "post@larkfield.example"}, **spec},
    }


def exit_of(
    folder: Path, own: dict[str, Any], spare: dict[str, Any] | None = None, *, allowed: bool = True
) -> RelaySelection:
    """The exit of a worker whose folder holds the fallback's manifest, where there is one."""
    if spare is not None:
        (folder / "fallback.yaml").write_text(yaml.safe_dump(spare))
    settings = WorkerSettings(
        profile=folder / "profile.yaml",
        bundles=folder,
        bootstrap_servers="localhost:9092",
        ledger=folder / "ledger.sqlite",
        fallback=folder / "fallback.yaml",
        secrets=folder / "secrets",
        delivery_allowed=allowed,
    )
    return select_relay(SmtpProfile.model_validate(manifest("orders", **own)), settings)


def test_the_fallback_is_another_profiles_relay_with_that_profiles_limits(tmp_path: Path) -> None:
    made = exit_of(tmp_path, SMTP | LEANS, manifest("spare", **SPARE))
    assert (made.mode, made.accepted_as, made.target.profile) == ("SMTP", State.ACCEPTED, "shop/orders")
    assert made.fallback is not None
    assert made.fallback.profile == "shop/spare"
    assert (made.fallback.rules, made.fallback.rate) == (CircuitRules(2, 9.0), Rate(5, 2.0))
    condition = fallback_condition(made, ())
    assert (condition.ok, condition.reason) == (True, "Ready")


@pytest.mark.parametrize(
    ("own", "allowed"),
    [(LEANS, True), (LEANS | {"mode": "Log"}, True), (SMTP | LEANS, False), (LEANS, False)],
    ids=["sandbox", "log", "guarded", "sandbox, not allowed"],
)
def test_from_a_sandbox_no_way_leads_to_a_relay(own: dict[str, Any], allowed: bool, tmp_path: Path) -> None:
    made = exit_of(tmp_path, own, manifest("spare", **SPARE), allowed=allowed)
    assert made.mode != "SMTP"
    assert made.fallback is None
    assert made.accepted_as is State.CAPTURED
    assert made.where in ("", "127.0.0.1:1025")


@pytest.mark.parametrize(
    ("spare", "code"),
    [
        (None, Code.FALLBACK_MISSING),
        (manifest("spare", "other", **SPARE), Code.FALLBACK_MISSING),
        (manifest("fourth", **SPARE), Code.FALLBACK_MISSING),
        (manifest("spare"), Code.FALLBACK_UNUSABLE),
        (manifest("spare", mode="Log"), Code.FALLBACK_UNUSABLE),
    ],
    ids=["missing", "of another namespace", "another one", "a sandbox", "a log"],
)
def test_a_fallback_that_cannot_be_used_is_left_out_and_said(
    spare: dict[str, Any] | None, code: Code, tmp_path: Path
) -> None:
    made = exit_of(tmp_path, SMTP | LEANS, spare)
    assert made.fallback is None
    assert made.fallback_problem is not None
    assert made.fallback_problem.code is code
    condition = fallback_condition(made, ())
    assert condition.ok is False
    assert "spec.fallbackRef.name" in condition.message


def test_a_recipients_rate_holds_where_people_are_written_to(tmp_path: Path) -> None:
    limits = {"limits": {"perRecipientRate": {"count": 3, "period": "1h"}}}
    assert exit_of(tmp_path, SMTP | limits).recipient_rate == Rate(3, 3600.0)
    assert exit_of(tmp_path, limits).recipient_rate is None
