"""The alerts use existing metrics and labels, and the chart renders a PrometheusRule of them."""

import json
import re
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from postroom.adapters.metrics import BounceMetrics
from postroom.bounces.server import BounceStats
from postroom.ports.ledger import State
from postroom.worker.status import WorkerStatus
from postroom_operator.metrics import OperatorMetrics
from postroom_operator.models import ObjectReadiness
from tests.fixtures.helm import CHART, Helm

GROUPS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
RULES: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
SELECTOR = re.compile(r"\b(postroom_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"')
GROUPED = re.compile(r"\bby \(([^)]*)\)")
SHOWN = re.compile(r"\$labels\.(\w+)")
OF_THE_TARGET = {"namespace", "pod"}
"""The labels that Prometheus adds to every series of a pod."""
ON = ("--set", "metrics.prometheusRule.enabled=true")


def labels_of(collector: Collector) -> dict[str, set[str]]:
    """The series of a registry, each with its labels."""
    series = [sample for family in collector.collect() for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in series}


def known() -> dict[str, set[str]]:
    """Every series of worker, bounce server and operator, after each counter was incremented."""
    worker = WorkerStatus(MagicMock(), MagicMock(), MagicMock(), None).metrics
    suspended = WorkerStatus(MagicMock(), MagicMock(), MagicMock(), MagicMock()).metrics
    worker.letters(State.ACCEPTED, "", 1)
    worker.records("malformed", "too_large", 1)
    worker.in_doubt("worker_died", 1)
    worker.callbacks("shop", "delivered", 1)
    operator = OperatorMetrics(CollectorRegistry())
    operator.register_gauges(float, float, float)
    operator.register_objects(lambda: [ObjectReadiness("EmailTemplate", "shop", "welcome", "Ready", True)])
    returned = BounceMetrics(BounceStats(), int, bool).registry
    registries = (suspended.registry, worker.registry, operator.registry, returned)
    return {name: labels for each in registries for name, labels in labels_of(each).items()}


@pytest.mark.parametrize("name", RULES)
def test_an_alert_uses_existing_metrics_and_labels(name: str) -> None:
    there = known()
    expression: str = RULES[name]["expr"]
    asked = SELECTOR.findall(expression)
    assert asked
    of_series = [there[series] for series, _ in asked]
    for labels, (_, matchers) in zip(of_series, asked, strict=True):
        assert {label for label, _ in MATCHER.findall(matchers)} <= labels
    grouped = {label for group in GROUPED.findall(expression) for label in group.split(", ")}
    assert grouped <= OF_THE_TARGET.union(*of_series)
    shown = set(SHOWN.findall(json.dumps(RULES[name]["annotations"])))
    assert shown <= ((grouped - {"le"}) or OF_THE_TARGET.union(*of_series))


def test_the_states_in_alerts_are_those_of_the_ledger() -> None:
    asked = {
        state
        for rule in RULES.values()
        for label, values in MATCHER.findall(rule["expr"])
        if label == "state"
        for state in values.split("|")
    }
    assert asked <= set(State)
    assert {State.RENDER_FAILED, State.FAILED} <= asked


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule["alert"])
def test_an_alert_has_a_severity_a_summary_and_a_way_out(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description"}


def test_the_schema_of_the_values_names_every_alert() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    of_rule = schema["properties"]["metrics"]["properties"]["prometheusRule"]["properties"]
    assert of_rule["alerts"]["propertyNames"]["enum"] == list(RULES)


def rule_of(helm: Helm, *settings: str) -> list[dict[str, Any]]:
    """The PrometheusRules of a release."""
    rendered = yaml.safe_load_all(helm.render(*settings))
    return [each for each in rendered if each and each["kind"] == "PrometheusRule"]


@pytest.mark.chart
def test_the_chart_renders_the_alerts_where_they_are_enabled(helm: Helm) -> None:
    assert rule_of(helm) == []
    [made] = rule_of(helm, *ON, "--set", "metrics.labels.release=prometheus")
    assert made["spec"]["groups"] == GROUPS
    assert made["metadata"]["labels"]["release"] == "prometheus"


@pytest.mark.chart
def test_labels_and_single_alerts_can_be_changed(helm: Helm) -> None:
    prefix = "metrics.prometheusRule"
    settings = {
        f"{prefix}.alertLabels.team": "platform",
        f"{prefix}.alertAnnotations.runbook_url": "https://example.org/postroom",
        f"{prefix}.alerts.PostroomDeliverySlow.for": "1h",
        f"{prefix}.alerts.PostroomDeliverySlow.labels.severity": "critical",
        f"{prefix}.alerts.PostroomClockSkew.enabled": "false",
    }
    chosen = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    [made] = rule_of(helm, *ON, *chosen)
    rules = {rule["alert"]: rule for group in made["spec"]["groups"] for rule in group["rules"]}
    assert set(RULES) - set(rules) == {"PostroomClockSkew"}
    assert {rule["labels"]["team"] for rule in rules.values()} == {"platform"}
    late = RULES["PostroomDeliverySlow"]
    assert rules["PostroomDeliverySlow"] == late | {
        "for": "1h",
        "labels": {"severity": "critical", "team": "platform"},
        "annotations": late["annotations"] | {"runbook_url": "https://example.org/postroom"},
    }


@pytest.mark.chart
@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("alerts.PostroomLatte.for=1h", "PostroomLatte"),
        ("alerts.PostroomDeliverySlow.for=soon", "for"),
        ("alerts.PostroomDeliverySlow.expression=up", "expression"),
    ],
)
def test_an_unknown_alert_is_rejected_by_name(helm: Helm, setting: str, named: str) -> None:
    done = helm("template", "postroom", CHART, "--set", f"metrics.prometheusRule.{setting}")
    assert done.returncode != 0
    assert named in done.stderr
