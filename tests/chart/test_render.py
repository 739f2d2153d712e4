"""The rendered chart: each folder of tests/golden/chart has values and the rendered objects.

    values.yaml     what a user writes
    rendered.yaml   the manifests, without the CustomResourceDefinitions

`make golden` rewrites the second. Read the diff before you commit it.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures.helm import CHART, Helm

pytestmark = pytest.mark.chart
ROOT = Path(__file__).parents[2]
CASES = sorted(path for path in (ROOT / "tests" / "golden" / "chart").iterdir() if path.is_dir())
MADE = sorted((ROOT / "tests" / "golden" / "manifests").glob("*/expected.yaml"))
QUICKSTART = CHART / "values-quickstart.yaml"
WORKLOADS = {"Deployment", "StatefulSet", "Pod"}


def objects(text: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(text) if each]


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = workload["spec"]
    return spec if workload["kind"] == "Pod" else spec["template"]["spec"]


def rules_of(rendered: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for each in rendered if each["kind"] in {"Role", "ClusterRole"} for rule in each["rules"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_manifests_are_the_golden_ones(case: Path, helm: Helm, rewrite: bool) -> None:
    found = helm.render("--values", case / "values.yaml", "--set", "crds.enabled=false")
    if rewrite:
        (case / "rendered.yaml").write_text(found)
    advice = "`make golden` rewrites the manifests; read the diff before you commit it"
    assert found == (case / "rendered.yaml").read_text(), advice


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_helm_lint_reports_nothing(case: Path, helm: Helm) -> None:
    done = helm("lint", "--strict", CHART, "--values", case / "values.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def test_the_definitions_come_with_the_release_and_stay_after_it(helm: Helm) -> None:
    definitions = [each for each in objects(helm.render()) if each["kind"] == "CustomResourceDefinition"]
    files = {
        path.name: yaml.safe_load(path.read_text()) for path in (CHART / "files" / "crds").glob("*.yaml")
    }
    assert len(files) == 3
    assert {each["metadata"]["name"] for each in definitions} == {
        each["metadata"]["name"] for each in files.values()
    }
    for each in definitions:
        assert each["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        [same] = [file for file in files.values() if file["metadata"]["name"] == each["metadata"]["name"]]
        assert each["spec"] == same["spec"]
    gone = objects(helm.render("--set", "crds.keep=false"))
    assert all(
        "annotations" not in each["metadata"] for each in gone if each["kind"] == "CustomResourceDefinition"
    )


def test_no_role_reads_secrets_or_has_a_wildcard(helm: Helm) -> None:
    for case in CASES:
        for rule in rules_of(objects(helm.render("--values", case / "values.yaml"))):
            assert "secrets" not in rule.get("resources", [])
            assert "*" not in (*rule["verbs"], *rule.get("apiGroups", []), *rule.get("resources", []))
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_an_operator_for_some_namespaces_has_no_rights_elsewhere(helm: Helm) -> None:
    rendered = objects(
        helm.render("--set", "watchNamespaces={shop,billing}", "--set", "rbac.aggregate=false")
    )
    cluster_wide = [rule for each in rendered if each["kind"] == "ClusterRole" for rule in each["rules"]]
    assert {resource for rule in cluster_wide for resource in rule["resources"]} == {
        "customresourcedefinitions",
        "namespaces",
    }
    [namespaces] = [rule for rule in cluster_wide if "namespaces" in rule["resources"]]
    assert namespaces["resourceNames"] == ["shop", "billing"]
    assert {"shop", "billing"} <= {
        each["metadata"]["namespace"] for each in rendered if each["kind"] == "RoleBinding"
    }


def test_prometheus_is_sent_to_the_pods_that_admit_it_from_its_own_namespace_and_to_no_others(
    helm: Helm,
) -> None:
    [monitor] = [
        each
        for each in objects(helm.render("--set", "metrics.podMonitor.enabled=true"))
        if each["kind"] == "PodMonitor"
    ]
    [chosen] = monitor["spec"]["selector"]["matchExpressions"]
    made = [each for path in MADE for each in objects(path.read_text())]
    ports = {
        pod["metadata"]["labels"][chosen["key"]]: port["containerPort"]
        for pod in (each["spec"]["template"] for each in made if each["kind"] == "Deployment")
        for port in pod["spec"]["containers"][0]["ports"]
        if port["name"] == monitor["spec"]["podMetricsEndpoints"][0]["port"]
    }
    open_wide = {
        (each["metadata"]["labels"][chosen["key"]], port["port"])
        for each in made
        if each["kind"] == "NetworkPolicy"
        for rule in each["spec"]["ingress"]
        if {"namespaceSelector": {}} in rule.get("from", [])
        for port in rule["ports"]
    }
    assert set(ports) == {"worker", "bounces", "sandbox"}
    assert set(chosen["values"]) == {component for component, _ in open_wide & ports.items()}


@pytest.mark.parametrize("values", [(), ("--values", QUICKSTART)], ids=["defaults", "quickstart"])
def test_every_pod_is_admitted_where_pod_security_is_restricted(
    helm: Helm, values: tuple[str | Path, ...]
) -> None:
    workloads = [each for each in objects(helm.render(*values)) if each["kind"] in WORKLOADS]
    assert workloads
    for workload in workloads:
        pod = pod_of(workload)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]) == {"requests", "limits"}


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("replica=2", "replica"),
        ("image.digest=latest", "image/digest"),
        ("watchNamespaces={Shop}", "watchNamespaces"),
        ("callbacks.allow={https://x.org}", "allow"),
        ("kafka.bootstrapServers=kafka", "bootstrapServers"),
        ("kafka.replicationFactor=0", "replicationFactor"),
        ("crds.keep=maybe", "keep"),
        ("networkPolicy.egressPorts={}", "egressPorts"),
        ("quickstart.postgresql.password=a/b", "password"),
    ],
)
def test_a_value_that_cannot_work_is_rejected_by_name(helm: Helm, setting: str, named: str) -> None:
    done = helm("template", "postroom", CHART, "--set", setting)
    assert done.returncode != 0
    assert named in done.stderr


def test_two_sources_of_the_kafka_connection_are_rejected(helm: Helm) -> None:
    both = ("--set", "kafka.existingSecret=admin", "--set", "kafka.bootstrapServers=kafka:9092")
    assert helm("template", "postroom", CHART, *both).returncode != 0


def test_every_value_is_commented_and_in_the_schema(helm: Helm) -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    silent = [
        line
        for before, line in pairwise(lines)
        if line and not line.startswith((" ", "#")) and not before.startswith("#")
    ]
    nested = [line for line in silent if not line.endswith(":")]
    assert nested == [], "a value at the top says in a comment what it is"


def test_a_secret_that_changes_restarts_the_operator(helm: Helm) -> None:
    def checksum(servers: str) -> str:
        rendered = objects(helm.render("--set", f"kafka.bootstrapServers={servers}"))
        [operator] = [each for each in rendered if each["kind"] == "Deployment"]
        return str(operator["spec"]["template"]["metadata"]["annotations"]["checksum/kafka"])

    assert checksum("one:9092") != checksum("two:9092")
