"""An operator that was rolled back while the definitions stayed newer: what it finds is newer than itself."""

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


async def gone_back(world: OperatorHarness, *newer: tuple[str, str]) -> None:
    """The world of a later release, whose objects of these kinds and names have a field that came with it."""
    world.apply(profile(**SMTP), template("paid"), template("sent"))
    await world.settle()
    for kind, name in newer:
        known = world.cluster.objects[Ref(API_VERSION, kind, NAMESPACE, name)]
        world.apply({**known, "spec": {**known["spec"], "quietHours": {"from": "22:00"}}})
    await world.restart()


def test_a_template_with_a_newer_field_serves_its_last_good_revision() -> None:
    async def test(world: OperatorHarness) -> None:
        await gone_back(world, ("EmailTemplate", "paid"))
        before = world.served()
        await world.settle()
        assert world.served() == before
        status, reason, message = world.condition("EmailTemplate", "paid")
        assert (status, reason) == ("False", "FieldUnknown")
        assert "quietHours" in message
        assert "stays in use" in message
        assert world.condition("EmailTemplate", "sent")[0] == "True"

    run(test)


def test_a_profile_with_a_newer_field_keeps_its_workers_and_their_sandbox() -> None:
    async def test(world: OperatorHarness) -> None:
        await gone_back(world, ("SmtpProfile", "orders"))
        before = copy.deepcopy(world.created_objects())
        written = await world.settle()
        assert {verb for verb, _ in written} == {"status", "create"}  # an Event
        assert world.created_objects() == before
        assert world.condition("SmtpProfile", "orders")[:2] == ("False", "FieldUnknown")
        assert "quietHours" in world.condition("SmtpProfile", "orders")[2]

    run(test)


SHARD = Ref("v1", "ConfigMap", NAMESPACE, "postroom-orders-bundle-00")


async def written_by_a_later_release(world: OperatorHarness) -> dict[str, str]:
    """Let the bundle be of a format that this release does not read; its text, by the shard's key."""
    shard = copy.deepcopy(world.cluster.objects[SHARD])
    key, text = next(iter(shard["data"].items()))
    shard["data"] = {key: text.replace("postroom.bundle/1", "postroom.bundle/9")}
    world.apply(shard)
    await world.restart()
    return {**shard["data"]}


def test_a_bundle_of_a_later_format_stays_while_a_template_in_it_cannot_be_compiled() -> None:
    async def test(world: OperatorHarness) -> None:
        await gone_back(world, ("EmailTemplate", "paid"))
        revision = world.status("EmailTemplate", "paid")["revision"]
        text = await written_by_a_later_release(world)
        await world.settle()
        assert world.cluster.objects[SHARD]["data"] == text
        assert world.status("EmailTemplate", "paid")["revision"] == revision
        status, reason, message = world.condition("SmtpProfile", "orders")
        assert (status, reason) == ("False", "NotApplied")
        assert "EmailTemplate paid" in message
        assert "quietHours" in message
        await world.restart()
        await world.settle()
        assert world.cluster.objects[SHARD]["data"] == text
        world.apply(template("paid", "<p>Mended</p>"))
        await world.settle()
        assert set(world.served()) == {"paid", "sent"}
        assert world.condition("EmailTemplate", "paid")[0] == "True"

    run(test)


def test_a_bundle_of_a_later_format_stays_until_every_template_in_it_is_validated() -> None:
    async def test(world: OperatorHarness) -> None:
        await gone_back(world)
        text = await written_by_a_later_release(world)
        world.validator.slow.add("sent")
        await world.settle()
        assert world.cluster.objects[SHARD]["data"] == text
        world.validator.slow.clear()
        world.pending |= world.store.keys()
        await world.settle()
        assert set(world.served()) == {"paid", "sent"}

    run(test)


def test_a_template_that_was_never_live_does_not_keep_a_bundle_of_a_later_format() -> None:
    async def test(world: OperatorHarness) -> None:
        await gone_back(world)
        world.apply(template("new", "{{ nobody }}"))
        await written_by_a_later_release(world)
        await world.settle()
        assert set(world.served()) == {"paid", "sent"}

    run(test)


def test_a_bundle_that_is_not_readable_is_rebuilt_whatever_state_its_templates_have() -> None:
    async def test(world: OperatorHarness) -> None:
        await gone_back(world, ("EmailTemplate", "paid"))
        spoilt = copy.deepcopy(world.cluster.objects[SHARD])
        spoilt["data"] = dict.fromkeys(spoilt["data"], "{}")
        world.apply(spoilt)
        await world.restart()
        await world.settle()
        assert set(world.served()) == {"sent"}

    run(test)
