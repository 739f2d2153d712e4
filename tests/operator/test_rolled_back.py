"""An operator that was rolled back while the CRDs stayed newer: it finds newer objects than it knows."""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any

from postroom_operator.models import API_VERSION, Ref
from tests.operator.operator_harness import NAMESPACE, OperatorHarness, profile, template

Test = Callable[[OperatorHarness], Awaitable[None]]
SMTP: dict[str, Any] = {"mode": "SMTP", "smtp": {"host": "smtp.example.org"}}


def run(test: Test) -> None:
    asyncio.run(asyncio.wait_for(test(OperatorHarness()), 60))


async def gone_back(harness: OperatorHarness, *newer: tuple[str, str]) -> None:
    """A cluster of a later release, whose objects of these kinds and names have a new field."""
    harness.apply(profile(**SMTP), template("paid"), template("sent"))
    await harness.settle()
    for kind, name in newer:
        known = harness.cluster.objects[Ref(API_VERSION, kind, NAMESPACE, name)]
        harness.apply({**known, "spec": {**known["spec"], "quietHours": {"from": "22:00"}}})
    await harness.restart()


def test_a_template_with_a_newer_field_serves_its_last_good_revision() -> None:
    async def test(harness: OperatorHarness) -> None:
        await gone_back(harness, ("EmailTemplate", "paid"))
        before = harness.served()
        await harness.settle()
        assert harness.served() == before
        status, reason, message = harness.condition("EmailTemplate", "paid")
        assert (status, reason) == ("False", "FieldUnknown")
        assert "quietHours" in message
        assert "stays in use" in message
        assert harness.condition("EmailTemplate", "sent")[0] == "True"

    run(test)


def test_a_profile_with_a_newer_field_keeps_its_workers_and_their_sandbox() -> None:
    async def test(harness: OperatorHarness) -> None:
        await gone_back(harness, ("SmtpProfile", "orders"))
        before = copy.deepcopy(harness.created_objects())
        written = await harness.settle()
        assert {verb for verb, _ in written} == {"status", "create"}  # an Event
        assert harness.created_objects() == before
        assert harness.condition("SmtpProfile", "orders")[:2] == ("False", "FieldUnknown")
        assert "quietHours" in harness.condition("SmtpProfile", "orders")[2]

    run(test)


SHARD = Ref("v1", "ConfigMap", NAMESPACE, "postroom-orders-bundle-00")


async def written_by_a_later_release(harness: OperatorHarness) -> dict[str, str]:
    """Give the bundle a format that this release cannot read; returns its text by the shard's key."""
    shard = copy.deepcopy(harness.cluster.objects[SHARD])
    key, text = next(iter(shard["data"].items()))
    shard["data"] = {key: text.replace("postroom.bundle/1", "postroom.bundle/9")}
    harness.apply(shard)
    await harness.restart()
    return {**shard["data"]}


def test_a_bundle_of_a_later_format_stays_while_a_template_in_it_cannot_be_compiled() -> None:
    async def test(harness: OperatorHarness) -> None:
        await gone_back(harness, ("EmailTemplate", "paid"))
        revision = harness.status("EmailTemplate", "paid")["revision"]
        text = await written_by_a_later_release(harness)
        await harness.settle()
        assert harness.cluster.objects[SHARD]["data"] == text
        assert harness.status("EmailTemplate", "paid")["revision"] == revision
        status, reason, message = harness.condition("SmtpProfile", "orders")
        assert (status, reason) == ("False", "NotApplied")
        assert "EmailTemplate paid" in message
        assert "quietHours" in message
        await harness.restart()
        await harness.settle()
        assert harness.cluster.objects[SHARD]["data"] == text
        harness.apply(template("paid", "<p>Mended</p>"))
        await harness.settle()
        assert set(harness.served()) == {"paid", "sent"}
        assert harness.condition("EmailTemplate", "paid")[0] == "True"

    run(test)


def test_a_bundle_of_a_later_format_stays_until_every_template_in_it_is_validated() -> None:
    async def test(harness: OperatorHarness) -> None:
        await gone_back(harness)
        text = await written_by_a_later_release(harness)
        harness.validator.slow.add("sent")
        await harness.settle()
        assert harness.cluster.objects[SHARD]["data"] == text
        harness.validator.slow.clear()
        harness.pending |= harness.store.keys()
        await harness.settle()
        assert set(harness.served()) == {"paid", "sent"}

    run(test)


def test_a_template_that_was_never_live_does_not_keep_a_bundle_of_a_later_format() -> None:
    async def test(harness: OperatorHarness) -> None:
        await gone_back(harness)
        harness.apply(template("new", "{{ missing }}"))
        await written_by_a_later_release(harness)
        await harness.settle()
        assert set(harness.served()) == {"paid", "sent"}

    run(test)


def test_a_bundle_that_is_not_readable_is_rebuilt_whatever_state_its_templates_have() -> None:
    async def test(harness: OperatorHarness) -> None:
        await gone_back(harness, ("EmailTemplate", "paid"))
        spoilt = copy.deepcopy(harness.cluster.objects[SHARD])
        spoilt["data"] = dict.fromkeys(spoilt["data"], "{}")
        harness.apply(spoilt)
        await harness.restart()
        await harness.settle()
        assert set(harness.served()) == {"sent"}

    run(test)
