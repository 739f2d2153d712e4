"""What a worker says while it waits: settings that exclude each other, Secrets that are not there yet."""

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from postroom.adapters.kafka.broker_health import BrokerHealth
from postroom.letter.problems import Code, Rejected
from postroom.letter.profile_format import FORMAT_ANNOTATION, PROFILE_FORMAT
from postroom.startup import read_settings
from postroom.worker import migrate, secrets
from postroom.worker.config import announce, read_config
from postroom.worker.resources import PendingResources
from postroom.worker.secrets import SecretWatcher
from postroom.worker.settings import MigrateSettings, WorkerSettings
from postroom.worker.status import kafka_condition, reason_of
from tests.delivery import kubelet
from tests.delivery.fakes import until

SMTP = {
    "host": "mail.example.com",
    "port": 587,
    "tls": {"mode": "Required", "caRef": {"name": "mail-ca"}},
    "auth": {"method": "PLAIN", "secretRef": {"name": "mail", "usernameKey": "user", "passwordKey": "pass"}},
}
PLAIN = {"kafka-bootstrap-servers": "kafka:9092", "ledger-url": "postgresql://post:s3cr3t@db/post"}


def settings(folder: Path, **changes: Any) -> WorkerSettings:
    spec = {"mode": "SMTP", "smtp": SMTP, "from": {"address": "shop@example.com"}}
    manifest = {
        "apiVersion": "postroom.dev/v1alpha1",
        "kind": "SmtpProfile",
        "metadata": {"name": "shop", "namespace": "team-a"},
        "spec": spec | changes.pop("spec", {}),
    }
    (folder / "profile.yaml").write_text(json.dumps(manifest))
    kubelet.write(_made(folder / "connections"), {})
    return WorkerSettings(
        profile=folder / "profile.yaml",
        bundles=folder,
        connections=folder / "connections",
        secrets=folder / "secrets",
        pod="postroom-shop-1",
        **{"delivery_allowed": True, **changes},
    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def mount(folder: Path, name: str, keys: dict[str, str]) -> None:
    kubelet.write(_made(folder / "secrets" / name), keys)


@pytest.mark.parametrize(
    ("environment", "errors"),
    [
        ({}, ["POSTROOM_BOOTSTRAP_SERVERS: is not set", "POSTROOM_LEDGER: is not set"]),
        ({"LEDGER": "l"}, ["POSTROOM_BOOTSTRAP_SERVERS: is not set"]),
        ({"CONNECTIONS": "c", "LEDGER": "l"}, ["POSTROOM_LEDGER: .* Remove one of them"]),
        ({"CONNECTIONS": "c"}, []),
        ({"LEDGER": "l", "BOOTSTRAP_SERVERS": "b"}, []),
    ],
)
def test_exactly_one_way_to_kafka_and_the_ledger_is_given(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], errors: list[str]
) -> None:
    for name, value in ({"PROFILE": "p", "BUNDLES": "b"} | environment).items():
        monkeypatch.setenv(f"POSTROOM_{name}", value)
    if not errors:
        read_settings(WorkerSettings)
        return
    for each in errors:
        with pytest.raises(Rejected, match=each):
            read_settings(WorkerSettings)


def test_secrets_of_the_profile_are_missed_by_name_and_key_until_they_are_there(
    tmp_path: Path,
) -> None:
    found = SecretWatcher(read_config(settings(tmp_path)))
    found.reload()
    assert [(each.code, each.field) for each in found.relay_problems] == [
        (Code.SECRET_MISSING, "Secret team-a/mail-ca"),
        (Code.SECRET_MISSING, "Secret team-a/mail"),
    ]
    mount(tmp_path, "mail-ca", {"ca.crt": "-----BEGIN CERTIFICATE-----"})
    mount(tmp_path, "mail", {"user": "shop"})
    found.reload()
    reason = "is not in Secret team-a/mail. The relay of the profile asks for it; add the key"
    assert [str(each) for each in found.relay_problems] == [f"pass: {reason} (secret_key_missing)"]
    mount(tmp_path, "mail", {"user": "shop", "pass": "s3cr3t"})
    found.reload()
    assert found.relay_problems == ()


def test_a_profile_that_is_treated_as_sandbox_misses_no_secret_of_its_relay(tmp_path: Path) -> None:
    found = SecretWatcher(read_config(settings(tmp_path, delivery_allowed=False)))
    found.reload()
    assert found.relay_problems == ()


def test_what_delivery_will_miss_is_told_before_it_is_allowed_and_holds_up_nothing(tmp_path: Path) -> None:
    job = read_config(settings(tmp_path, delivery_allowed=False))
    kubelet.write(tmp_path / "connections", PLAIN)
    found = SecretWatcher(job)
    found.reload()
    page = PendingResources(job, found).status()
    assert (page["conditions"]["secrets"]["ok"], page["problems"]) == (True, ["starting"])
    assert page["conditions"]["secrets"]["reason"] == "MissingForDelivery"
    assert (
        "Secret team-a/mail: is not there, or is empty. Create it with the keys user, pass"
        in (page["conditions"]["secrets"]["message"])
    )
    assert found.relay_texts == {}, "its changes are none of the sandbox's"
    mount(tmp_path, "mail-ca", {"ca.crt": "-----BEGIN CERTIFICATE-----"})
    mount(tmp_path, "mail", {"user": "shop", "pass": "s3cr3t"})
    found.reload()
    assert PendingResources(job, found).status()["conditions"]["secrets"]["reason"] == "Complete"


def test_the_page_of_a_worker_that_waits_has_every_member_and_says_what_is_missing(tmp_path: Path) -> None:
    job = read_config(
        settings(tmp_path, spec={"connectionsSecretRef": {"name": "lines"}}, delivery_allowed=False)
    )
    found = SecretWatcher(job)
    waiting = PendingResources(job, found)
    assert waiting.status()["problems"] == ["starting"]
    found.reload()
    page = waiting.status()
    assert (page["profile"], page["mode"], page["guarded"]) == ("team-a/shop", "Sandbox", True)
    assert (page["pod"], page["lag"], page["templates"]) == ("postroom-shop-1", None, {})
    assert page["conditions"]["secrets"] == {
        "ok": False,
        "reason": "SecretMissing",
        "message": "Secret team-a/lines: is not there, or is empty. Create it with the keys "
        "kafka-bootstrap-servers, ledger-url",
    }
    assert [page["conditions"][name]["ok"] for name in ("ledger", "kafka", "relay", "templates")] == [
        None
    ] * 4


def newer(manifest: dict[str, Any]) -> str:
    """What the operator of a later release makes of a profile."""
    metadata = manifest["metadata"] | {"annotations": {FORMAT_ANNOTATION: PROFILE_FORMAT}}
    return json.dumps(manifest | {"metadata": metadata, "spec": manifest["spec"] | {"later": {"a": [1]}}})


def test_fields_of_a_later_release_are_left_out_of_profile_and_fallback_and_logged_once_each(
    tmp_path: Path,
) -> None:
    worker_settings = settings(
        tmp_path, spec={"fallbackRef": {"name": "spare"}}, fallback=tmp_path / "fallback.yaml"
    )
    own = json.loads(worker_settings.profile.read_text())
    spare = own | {"metadata": {"name": "spare", "namespace": "team-a"}, "spec": dict(own["spec"])}
    del spare["spec"]["fallbackRef"]
    worker_settings.profile.write_text(newer(own))
    (tmp_path / "fallback.yaml").write_text(newer(spare))
    job = read_config(worker_settings)
    assert job.relay_selection.fallback is not None
    with capture_logs() as lines:
        announce(job)
    unknown_fields = ["team-a/shop: spec.later", "team-a/spare: spec.later"]
    assert [line["fields"] for line in lines if "fields" in line] == [unknown_fields]
    assert PendingResources(job, SecretWatcher(job)).status()["unknown_fields"] == unknown_fields


def test_a_changed_secret_of_the_relay_is_told_and_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "POLL_SECONDS", 0.001)
    found = SecretWatcher(read_config(settings(tmp_path)))
    kubelet.write(tmp_path / "connections", PLAIN)
    mount(tmp_path, "mail", {"user": "shop", "pass": "old"})
    found.reload()
    seen: list[str] = []

    def tell() -> None:
        seen.append(found.relay_texts["mail"]["pass"])

    def was_called(times: int) -> bool:
        return len(seen) == times

    async def scenario() -> None:
        watching = asyncio.create_task(found.watch(tell))
        for number, password in enumerate(("new", "newer"), 1):
            mount(tmp_path, "mail", {"user": "shop", "pass": password})
            await until(partial(was_called, number))
        assert not watching.done()
        watching.cancel()

    asyncio.run(scenario())
    assert seen == ["new", "newer"]


@pytest.mark.parametrize(
    ("change", "ends"),
    [
        (PLAIN | {"kafka-bootstrap-servers": "other:9092"}, True),
        (PLAIN | {"unused-key": "x"}, False),
        (PLAIN | {"kafka-bootstrap-servers": ""}, False),
        ({}, False),
    ],
    ids=["another value", "a key that is not read", "a key that went", "deleted"],
)
def test_only_connections_that_can_be_used_and_are_others_end_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], ends: bool
) -> None:
    monkeypatch.setattr(secrets, "SPREAD_SECONDS", 0.0)
    monkeypatch.setattr(secrets, "POLL_SECONDS", 0.001)
    found = SecretWatcher(read_config(settings(tmp_path, delivery_allowed=False)))
    kubelet.write(tmp_path / "connections", PLAIN)
    found.reload()
    look = found.reload
    looks: list[int] = []

    def count() -> None:
        look()
        looks.append(1)

    monkeypatch.setattr(found, "reload", count)

    async def scenario() -> bool:
        watching = asyncio.create_task(found.watch(relay_changed=lambda: None))
        await until(lambda: len(looks) > 1)
        kubelet.write(tmp_path / "connections", change)
        enough = len(looks) + 3
        await until(lambda: watching.done() or len(looks) > enough)
        ended = watching.done()
        watching.cancel()
        return ended

    assert asyncio.run(scenario()) is ends


def test_a_migration_without_a_secret_is_for_later_and_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(migrate.run(MigrateSettings(connections=tmp_path / "nowhere")))
    assert "the worker will migrate" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (KafkaError._ALL_BROKERS_DOWN, "BrokerUnreachable"),
        (KafkaError._AUTHENTICATION, "AuthenticationFailed"),
        (KafkaError._SSL, "AuthenticationFailed"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "TopicMissing"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "NotAuthorized"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, "NotAuthorized"),
    ],
)
def test_an_error_of_the_brokers_is_told_until_they_serve_again(code: int, reason: str) -> None:
    standing = BrokerHealth("postroom.team-a.shop", "postroom.team-a.shop.workers")
    assert kafka_condition(standing, suspended=False).ok is None
    standing.on_answer(None)
    standing.on_error(KafkaError(code))
    assert (kafka_condition(standing, False).ok, kafka_condition(standing, False).reason) == (False, reason)
    assert standing.needs_probe
    standing.on_success()
    assert kafka_condition(standing, False).ok is True
    assert not standing.needs_probe


def test_what_came_in_place_of_an_answer_is_told_in_words_that_stay() -> None:
    standing = BrokerHealth("postroom.team-a.shop", "postroom.team-a.shop.workers")
    for broker, took in (("a", 3), ("b", 12)):
        reason = f"ssl://{broker}:9093/bootstrap: Receive failed: ssl/tls alert bad certificate"
        standing.on_error(
            KafkaError(KafkaError._TRANSPORT, f"{reason} (after {took}ms in state APIVERSION_QUERY)")
        )
        standing.on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
        found = kafka_condition(standing, suspended=False)
        assert found.message == (
            "no broker answers: ssl://a:9093/bootstrap: Receive failed: ssl/tls alert bad certificate"
        )


def test_a_suspended_profile_has_nothing_to_say_of_kafka() -> None:
    assert kafka_condition(BrokerHealth("t", "g"), suspended=True).ok is None


def test_a_problem_code_is_the_reason_of_a_condition() -> None:
    assert reason_of(Code.SECRET_KEY_MISSING) == "SecretKeyMissing"
