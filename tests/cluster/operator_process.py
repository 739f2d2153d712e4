"""A real operator process on the test's API server, with exactly the chart's roles.

`World` is a namespace of a tenant with an operator that looks after it; the operator lives in a namespace of
its own, as in a real installation. Tests say what they want to be true and wait for it (`until`).
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from postroom.letter.bundle import CompiledTemplate
from postroom_operator.desired.bundle import read_shards
from tests.cluster.controlplane import Account, ControlPlane
from tests.cluster.program import ServerProcess, free_ports

GOLDEN = Path(__file__).parents[1] / "golden" / "chart"
NAMESPACED = GOLDEN / "namespaced" / "rendered.yaml"
"""The chart for an operator in namespace `mail` that manages `shop` (and `billing`)."""
CLUSTER_WIDE = GOLDEN / "defaults" / "rendered.yaml"
"""The chart for an operator in namespace `mail` that manages all namespaces."""
IMAGE = "postroom.test/postroom:1"
WITHIN_SECONDS = 120.0
"""Ten times the duration on an idle machine."""
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PATHS = {
    "EmailTemplate": "apis/postroom.dev/v1alpha1/namespaces/{}/emailtemplates",
    "EmailLayout": "apis/postroom.dev/v1alpha1/namespaces/{}/emaillayouts",
    "SmtpProfile": "apis/postroom.dev/v1alpha1/namespaces/{}/smtpprofiles",
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "Event": "api/v1/namespaces/{}/events",
    "Lease": "apis/coordination.k8s.io/v1/namespaces/{}/leases",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Service": "api/v1/namespaces/{}/services",
}
Object = dict[str, Any]
T = TypeVar("T")


def rights(chart: Path, office: str, tenant: str) -> Iterator[tuple[str, Object]]:
    """The chart's roles and bindings for these two namespaces, each with the path to create it at."""
    plurals = {
        kind: f"{kind.lower()}s" for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    }
    text = chart.read_text().replace("postroom-operator-mail", f"postroom-operator-{office}")
    for each in yaml.safe_load_all(text):
        if each and each["kind"] in plurals and _is_operators(each):
            manifest = _moved(each, {"mail": office, "shop": tenant})
            namespace = manifest["metadata"].get("namespace")
            place = f"namespaces/{namespace}/" if namespace else ""
            yield f"{RBAC}/{place}{plurals[each['kind']]}", manifest


def _is_operators(manifest: Object) -> bool:
    """Whether it belongs to the operator, and not to another tenant, to users, or to the chart's test."""
    name: str = manifest["metadata"]["name"]
    namespace = manifest["metadata"].get("namespace")
    return namespace != "billing" and name.startswith("postroom-operator")


def _moved(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _moved(each, names) for name, each in value.items()}
    if isinstance(value, list):
        return [_moved(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value


class OperatorProcess(ServerProcess):
    """The operator's process."""

    def __init__(self, name: str, environment: dict[str, str], folder: Path) -> None:
        self.environment = environment
        super().__init__(name, [], folder)

    def start(self, **more: str) -> None:
        """Start it with its settings, and `more` on top."""
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
        settings = {**keep, **self.environment, **more}
        self.command = ["env", "-i", *(f"{name}={each}" for name, each in settings.items())]
        self.command += [sys.executable, "-m", "postroom_operator"]
        super().start()

    @property
    def words(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@dataclass(slots=True)
class OperatedNamespace:
    """A tenant's namespace and the operator that manages it."""

    cluster: ControlPlane
    namespace: str
    office: str
    account: Account
    folder: Path
    settings: dict[str, str]
    operators: list[OperatorProcess] = field(default_factory=list)

    @property
    def operator(self) -> OperatorProcess:
        """The first operator."""
        return self.operators[0]

    def another(self) -> OperatorProcess:
        """Another operator, not started yet."""
        name = f"operator-{len(self.operators)}"
        own = {"POSTROOM_POD": name, "POSTROOM_OPERATOR_HTTP": f"127.0.0.1:{free_ports(1)[0]}"}
        found = OperatorProcess(name, {**self.settings, **own}, self.folder)
        self.operators.append(found)
        return found

    def apply(self, *objects: Object) -> None:
        """Apply as an administrator (server-side); fields that are no longer in an object are removed."""
        how = {"fieldManager": "test", "force": "true", "fieldValidation": "Strict"}
        headers = {"Content-Type": "application/apply-patch+yaml"}
        for each in objects:
            path = self._path(each["kind"], each["metadata"]["name"])
            answer = self.cluster.api.patch(path, params=how, json=each, headers=headers)
            assert answer.is_success, answer.text

    def delete(self, kind: str, name: str) -> None:
        """Delete as an administrator; a missing object is no error."""
        self.cluster.api.delete(self._path(kind, name))

    def patch(self, kind: str, name: str, change: Object) -> None:
        """A strategic merge patch as an administrator, which is what `kubectl edit` sends."""
        path = self._path(kind, name)
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        self.cluster.api.patch(path, json=change, headers=headers).raise_for_status()

    def label(self, value: str | None) -> None:
        """Add or remove the namespace's delivery label."""
        change = {"metadata": {"labels": {"postroom.dev/delivery": value}}}
        headers = {"Content-Type": "application/merge-patch+json"}
        path = f"/api/v1/namespaces/{self.namespace}"
        self.cluster.api.patch(path, json=change, headers=headers).raise_for_status()

    def get(self, kind: str, name: str) -> Object:
        """The object; empty where it does not exist."""
        answer = self.cluster.api.get(self._path(kind, name))
        if answer.status_code == 404:
            return {}
        found: Object = answer.raise_for_status().json()
        return found

    def all(self, kind: str) -> list[Object]:
        """All objects of a kind in the namespace."""
        answer = self.cluster.api.get(self._path(kind)).raise_for_status()
        found: list[Object] = answer.json()["items"]
        return found

    def made(self, kind: str) -> list[Object]:
        """All objects of a kind that the operator created."""
        ours = {"labelSelector": "app.kubernetes.io/managed-by=postroom-operator"}
        answer = self.cluster.api.get(self._path(kind), params=ours).raise_for_status()
        found: list[Object] = answer.json()["items"]
        return found

    def condition(self, kind: str, name: str, type_: str = "Ready") -> Object:
        """A condition of the newest generation; empty until it exists."""
        found = self.get(kind, name)
        if not found or found.get("status", {}).get("observedGeneration") != found["metadata"]["generation"]:
            return {}
        return next((each for each in found["status"]["conditions"] if each["type"] == type_), {})

    def ready_condition(self, kind: str, name: str, status: str) -> Object:
        """The Ready condition, once its status is `status` for the newest generation."""
        return self.until(
            lambda: found if (found := self.condition(kind, name)).get("status") == status else None
        )

    def served(self, profile: str = "shop") -> dict[str, CompiledTemplate]:
        """The templates that the profile's workers would use, by name."""
        maps = [self.get("ConfigMap", f"postroom-{profile}-bundle-{number:02}") for number in range(16)]
        texts = {
            number: text for number, each in enumerate(maps) for text in (each.get("data") or {}).values()
        }
        return {name: each.template for name, each in read_shards(texts).items()}

    def until(self, found: Callable[[], T | None], within: float = WITHIN_SECONDS) -> T:
        """The result of `found`, once it is true; fails with the operators' logs."""
        last: list[T | None] = []

        def something() -> bool:
            last[:] = [found()]
            return bool(last[0])

        try:
            self.cluster.until(something, within)
        except AssertionError as error:
            words = "\n".join(f"--- {each.name}\n{each.words[-4000:]}" for each in self.operators)
            raise AssertionError(f"{error}; last found: {last}\n{words}") from None
        assert last[0] is not None
        return last[0]

    def _path(self, kind: str, name: str = "") -> str:
        path = "/" + PATHS[kind].format(self.namespace)
        return f"{path}/{name}" if name else path
