"""Statuses and Events on a real API server: no field is dropped, and an Event is created once."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from postroom.letter.problems import Code, Problem
from postroom_operator.models import TemplateState, ValidationResult
from postroom_operator.status.conditions import EventContent, event_manifest
from postroom_operator.status.profile import ProfileFacts, profile_status
from postroom_operator.status.template import layout_status, template_status
from tests.cluster.controlplane import ControlPlane
from tests.operator.golden_profiles import profile
from tests.operator.test_bundle import template
from tests.operator.test_status import GOOD, TOPICS, answering

pytestmark = pytest.mark.apiserver

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
BROKEN = (Problem(Code.SAMPLE_FAILED, "spec.html", "sample `ada`: " + "x" * 2000, 3),) * 30
TEMPLATE = {
    "smtpProfileRef": {"name": "orders"},
    "eventTypes": ["shop.paid"],
    "subject": "Hello",
    "html": "<p>Hello</p>",
    "variables": {"type": "object"},
    "samples": [{"name": "ada", "data": {}}],
}


def created(cluster: ControlPlane, namespace: str, kind: str, spec: Any) -> dict[str, Any]:
    manifest = {
        "apiVersion": "postroom.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "one", "namespace": namespace},
        "spec": spec,
    }
    found: dict[str, Any] = json.loads(cluster.kubectl("create", "-f", "-", "-o", "json", stdin=manifest))
    return found


def kept(cluster: ControlPlane, plural: str, found: dict[str, Any], status: Any) -> Any:
    """The status as the API server stores it."""
    namespace = found["metadata"]["namespace"]
    answer = cluster.api.put(
        f"/apis/postroom.dev/v1alpha1/namespaces/{namespace}/{plural}/one/status",
        params={"fieldValidation": "Strict"},
        content=json.dumps(found | {"status": status}),
        headers={"Content-Type": "application/json"},
    )
    assert answer.is_success, answer.text
    return answer.json()["status"]


def test_a_real_api_server_keeps_every_field_of_a_status(cluster: ControlPlane, namespace: str) -> None:
    letter = created(cluster, namespace, "EmailTemplate", TEMPLATE)
    for result, serving in ((GOOD, GOOD.compiled), (ValidationResult(problems=BROKEN), template("one"))):
        status = template_status(TemplateState(letter, result, result.problems, serving), [], NOW)
        assert kept(cluster, "emailtemplates", letter, status) == status
        letter = json.loads(cluster.kubectl("get", "et", "one", "-n", namespace, "-o", "json"))
    page = created(
        cluster, namespace, "EmailLayout", {"html": "<html>{% block content %}{% endblock %}</html>"}
    )
    status = layout_status(page, ValidationResult(problems=BROKEN), 3, [], NOW)
    assert kept(cluster, "emaillayouts", page, status) == status
    spec = profile().spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    home = created(cluster, namespace, "SmtpProfile", spec)
    deployment = {"spec": {"replicas": 1}, "status": {"readyReplicas": 1, "availableReplicas": 1}}
    facts = ProfileFacts(home, "Sandbox", topics=TOPICS, reports=(answering("a"),), deployment=deployment)
    status = profile_status(facts, NOW)
    assert kept(cluster, "smtpprofiles", home, status) == status


def test_an_event_is_created_once(cluster: ControlPlane, namespace: str) -> None:
    letter = created(cluster, namespace, "EmailTemplate", TEMPLATE)
    manifest = event_manifest(letter, EventContent("Warning", "SampleFailed", "no"), "operator-0", NOW)
    path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    first = cluster.api.post(path, json=manifest, params={"fieldValidation": "Strict"})
    assert first.is_success, first.text
    assert cluster.api.post(path, json=manifest).status_code == 409
    assert "SampleFailed" in cluster.kubectl("describe", "et", "one", "-n", namespace)


@pytest.mark.parametrize("word", ["no ", "größer "])
def test_an_event_with_a_long_message_is_accepted(cluster: ControlPlane, namespace: str, word: str) -> None:
    letter = created(cluster, namespace, "EmailTemplate", TEMPLATE)
    manifest = event_manifest(letter, EventContent("Warning", "SampleFailed", word * 500), "operator-0", NOW)
    answer = cluster.api.post(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", json=manifest)
    assert answer.is_success, answer.text
