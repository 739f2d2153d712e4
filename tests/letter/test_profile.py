"""SmtpProfiles and durations: every rule of the manifest, by the field that breaks it."""

from typing import Any

import pytest

from postroom.letter.manifest import explain_validation_error
from postroom.letter.manifest_fields import duration_seconds
from postroom.letter.problems import Code
from postroom.letter.profile import SmtpProfile, allows_sender, dead_letter_topic, topic_of


def manifest(spec: dict[str, Any], name: str = "shop", namespace: str = "larkfield") -> dict[str, Any]:
    return {
        "apiVersion": "postroom.dev/v1alpha1",
        "kind": "SmtpProfile",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"from": {"address": "post@larkfield.example"}, **spec},
    }


def profile(spec: dict[str, Any], **metadata: str) -> SmtpProfile:
    return SmtpProfile.model_validate(manifest(spec, **metadata), strict=True, by_alias=True, by_name=False)


def broken(spec: dict[str, Any], **metadata: str) -> dict[str, str]:
    """The rejected fields with their rules."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 — pydantic's ValidationError is one
        profile(spec, **metadata)
    return {problem.field: problem.message for problem in explain_validation_error(SmtpProfile, caught.value)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "length"),
    [("5m", 300), ("90s", 90), ("1h30m", 5400), ("500ms", 0.5), ("1h0m1s5ms", 3601.005), ("0s", 0)],
)
def test_a_duration_is_read_in_seconds(text: str, length: float) -> None:
    assert duration_seconds(text) == length


@pytest.mark.parametrize(
    "text", ["", "5 min", "5", "m", "1d", "-5m", "1.5h", "5m1h", "5m5m", "５m", "9999999h", "5m\n"]
)
def test_an_invalid_duration_is_rejected_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"1h30m|longer than a year"):
        duration_seconds(text)


def test_a_profile_needs_no_more_than_its_sender() -> None:
    found = profile({})
    assert (found.spec.mode, found.spec.retry.max_attempts) == ("Sandbox", 5)
    assert found.spec.sender.address == "post@larkfield.example"


def test_the_topic_is_derived_or_given_and_dead_letters_follow_it() -> None:
    assert topic_of(profile({})) == "postroom.larkfield.shop"
    assert topic_of(profile({"kafka": {"topic": "postroom.larkfield.orders"}})) == "postroom.larkfield.orders"
    assert dead_letter_topic("postroom.larkfield.shop") == "postroom.larkfield.shop.dlq"


@pytest.mark.parametrize(
    "topic", ["orders", "postroom.payments.orders", "postroom.larkfieldx", ".*", "postroom.larkfield.*"]
)
def test_a_topic_of_another_namespace_or_a_pattern_is_rejected(topic: str) -> None:
    assert set(broken({"kafka": {"topic": topic}})) == {"spec.kafka.topic"}


def test_a_name_that_is_too_long_for_a_topic_is_rejected() -> None:
    assert set(broken({}, name="a" * 253)) == {"metadata.name"}
    assert topic_of(profile({"kafka": {"topic": "postroom.larkfield.a"}}, name="a" * 253)).endswith(".a")


def test_mode_smtp_needs_its_relay_and_the_sandbox_may_have_one() -> None:
    assert "is required for mode SMTP" in broken({"mode": "SMTP"})["spec.smtp"]
    assert profile({"smtp": {"host": "relay.example.org"}}).spec.smtp is not None


def test_the_dedupe_window_covers_retention_and_max_age() -> None:
    message = broken({"dedupe": {"window": "191h"}})["spec.dedupe.window"]
    assert "kafka.retention + retry.maxAge" in message
    assert "192h" in message
    least = {"dedupe": {"window": "2h"}, "kafka": {"retention": "1h"}, "retry": {"maxAge": "1h"}}
    assert profile(least).spec.dedupe.window == "2h"


def test_the_sender_is_of_an_allowed_domain() -> None:
    assert set(broken({"allowedFromDomains": ["other.example"]})) == {"spec.from.address"}
    several = profile({"allowedFromDomains": ["LARKFIELD.example", "bücher.example"]})
    assert allows_sender(several, "a@xn--bcher-kva.example")
    assert not allows_sender(several, "a@evil.larkfield.example")


def test_without_a_list_only_the_profiles_own_domain_may_send() -> None:
    assert allows_sender(profile({}), "news@larkfield.example")
    assert not allows_sender(profile({}), "news@other.example")


def test_a_profile_cannot_be_its_own_fallback() -> None:
    assert set(broken({"fallbackRef": {"name": "shop"}})) == {"spec.fallbackRef.name"}


def test_all_broken_rules_are_reported_at_once() -> None:
    found = broken({"mode": "SMTP", "dedupe": {"window": "1h"}, "allowedFromDomains": ["other.example"]})
    assert set(found) == {"spec.smtp", "spec.dedupe.window", "spec.from.address"}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"smtp": {"host": "relay", "port": 70000}}, "spec.smtp.port"),
        ({"smtp": {"host": "relay", "port": 0}}, "spec.smtp.port"),
        ({"smtp": {"host": "relay", "port": "587"}}, "spec.smtp.port"),
        ({"smtp": {"host": "smtp://relay"}}, "spec.smtp.host"),
        ({"smtp": {"host": "a\nb"}}, "spec.smtp.host"),
        (
            {"smtp": {"host": "relay", "auth": {"secretRef": {"name": "s", "namespace": "x"}}}},
            "spec.smtp.auth.secretRef.namespace",
        ),
        (
            {"smtp": {"host": "relay", "tls": {"mode": "None"}, "auth": {"secretRef": {"name": "s"}}}},
            "spec.smtp.auth",
        ),
        ({"retry": {"maxAttempts": -1}}, "spec.retry.maxAttempts"),
        ({"retry": {"initialDelay": "5 min"}}, "spec.retry.initialDelay"),
        ({"retry": {"initialDelay": "0s"}}, "spec.retry.initialDelay"),
        ({"retry": {"initialDelay": "11m"}}, "spec.retry.initialDelay"),
        ({"retry": {"max_attempts": 3}}, "spec.retry.max_attempts"),
        ({"mode": "smtp"}, "spec.mode"),
        ({"limits": {"rate": {"count": 0}}}, "spec.limits.rate.count"),
        ({"workers": {"replicas": 1, "autoscaling": {}}}, "spec.workers.replicas"),
        ({"workers": {"autoscaling": {"minReplicas": 0}}}, "spec.workers.autoscaling.minReplicas"),
        ({"workers": {"autoscaling": {"minReplicas": 9}}}, "spec.workers.autoscaling.minReplicas"),
        ({"dkim": [{"domain": "a b", "selector": "s", "secretRef": {"name": "k"}}]}, "spec.dkim[0].domain"),
        ({"allowedFromDomains": ["*.example.org"]}, "spec.allowedFromDomains[0]"),
        ({"from": {"address": "a@x.org,b@y.org"}}, "spec.from.address"),
        ({"from": {"name": "A\r\nBcc: b", "address": "a@x.org"}}, "spec.from.name"),
        ({"callbacks": [{}] * 17}, "spec.callbacks"),
        ({"fallbackRef": {"name": "Other_One"}}, "spec.fallbackRef.name"),
    ],
)
def test_a_field_out_of_bounds_is_rejected_by_its_path(spec: dict[str, Any], field: str) -> None:
    assert set(broken(spec)) == {field}


def test_autoscaling_to_zero_is_rejected_with_the_reason() -> None:
    message = broken({"workers": {"autoscaling": {"minReplicas": 0}}})["spec.workers.autoscaling.minReplicas"]
    assert "no worker to send the letters that come due" in message


def test_an_unknown_field_is_rejected_with_the_nearest_name() -> None:
    assert broken({"smtp": {"hots": "relay", "host": "relay"}})["spec.smtp.hots"].endswith(
        "did you mean host?"
    )


def test_a_control_character_keeps_its_own_code() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 — pydantic's ValidationError is one
        profile({"from": {"name": "A\nB", "address": "a@x.org"}})
    (problem,) = explain_validation_error(SmtpProfile, caught.value)  # type: ignore[arg-type]
    assert problem.code is Code.CONTROL_CHARACTER
