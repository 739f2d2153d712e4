"""The readiness metric: one series for each object, from its status, and none after its deletion."""

import asyncio
import re
import time

from prometheus_client import generate_latest

from postroom_operator.metrics import OperatorMetrics
from postroom_operator.models import API_VERSION, ObjectReadiness, Ref
from postroom_operator.status.conditions import object_readiness
from tests.operator.operator_harness import NAMESPACE, OperatorHarness, layout, profile, template

SERIES = re.compile(r"^postroom_operator_object_ready\{(.*)\} (.*)$", re.MULTILINE)
MANY = 2_000
SCRAPE_SECONDS = 0.5
"""A scrape of this many objects takes a few hundredths of a second; ten times that would block the
operator."""


def exported(harness: OperatorHarness) -> dict[str, str]:
    metrics = OperatorMetrics()
    metrics.register_objects(lambda: map(object_readiness, harness.store.custom_resources()))
    return dict(SERIES.findall(generate_latest(metrics.registry).decode()))


def series(kind: str, name: str, reason: str) -> str:
    return f'kind="{kind}",name="{name}",namespace="{NAMESPACE}",reason="{reason}"'


def test_every_object_has_one_series_with_its_readiness_and_reason() -> None:
    async def test() -> None:
        harness = OperatorHarness()
        harness.apply(layout(), profile(suspend=True), template(), template("owed", "{{ nmae }}"))
        assert set(exported(harness)) == {
            series("EmailLayout", "plain", "Pending"),
            series("SmtpProfile", "orders", "Pending"),
            series("EmailTemplate", "paid", "Pending"),
            series("EmailTemplate", "owed", "Pending"),
        }
        await harness.settle()
        assert exported(harness) == {
            series("EmailLayout", "plain", "Valid"): "1.0",
            series("SmtpProfile", "orders", "Suspended"): "0.0",
            series("EmailTemplate", "paid", "Serving"): "1.0",
            series("EmailTemplate", "owed", "VariableUndeclared"): "0.0",
        }

    asyncio.run(test())


def test_an_object_that_is_deleted_or_has_changed_leaves_no_series_behind() -> None:
    async def test() -> None:
        harness = OperatorHarness()
        harness.apply(profile(), template(), template("owed"))
        await harness.settle()
        assert exported(harness)[series("EmailTemplate", "paid", "Serving")] == "1.0"
        harness.apply(template("paid", "{{ nmae }}"))
        owed = Ref(API_VERSION, "EmailTemplate", NAMESPACE, "owed")
        await harness.cluster.delete(owed, harness.cluster.objects[owed]["metadata"]["uid"])
        await harness.settle()
        templates = {
            labels: value for labels, value in exported(harness).items() if "EmailTemplate" in labels
        }
        assert templates == {series("EmailTemplate", "paid", "VariableUndeclared"): "0.0"}

    asyncio.run(test())


def test_the_time_of_the_last_listing_is_absent_before_the_first() -> None:
    metrics, name = OperatorMetrics(), "postroom_operator_last_resync_timestamp_seconds"
    assert metrics.registry.get_sample_value(name) is None
    for moment in (1_795_000_000.0, 1_795_000_120.0):
        metrics.record_resync(moment)
        assert metrics.registry.get_sample_value(name) == moment


def test_an_operator_that_has_listed_nothing_exports_nothing() -> None:
    metrics = OperatorMetrics()
    metrics.register_objects(list)
    page = generate_latest(metrics.registry).decode()
    assert "# TYPE postroom_operator_object_ready gauge" in page
    assert not SERIES.findall(page)


def test_a_scrape_of_two_thousand_templates_blocks_nothing() -> None:
    metrics = OperatorMetrics()
    metrics.register_objects(
        lambda: (ObjectReadiness("EmailTemplate", NAMESPACE, f"t-{n}", "Serving", True) for n in range(MANY))
    )
    began = time.process_time()
    page = generate_latest(metrics.registry).decode()
    assert time.process_time() - began < SCRAPE_SECONDS
    assert len(SERIES.findall(page)) == MANY
