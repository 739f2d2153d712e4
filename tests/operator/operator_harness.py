"""An operator without its process: a fake cluster with the real store, observer, applier and reconcile.

`settle` works keys off until nothing is left to do, as the loop would; what the cluster answers with an error
is tried again. `restart` forgets everything that a process forgets.
"""

import json
from collections.abc import Hashable
from datetime import UTC, datetime
from functools import cache
from typing import Any

from postroom.letter.bundle import CompiledTemplate, unpack_bundle
from postroom_operator.apply import Applier
from postroom_operator.context import ReconcileContext
from postroom_operator.desired.inputs import KafkaAccess, OperatorDefaults
from postroom_operator.models import (
    API_VERSION,
    ClusterError,
    Manifest,
    NamespaceTerminating,
    Ref,
    RequiredTopic,
    TopicState,
    ValidationResult,
    WorkerReport,
    ref_of,
    version_of,
)
from postroom_operator.observe import Observer
from postroom_operator.reconcile import reconcile
from postroom_operator.resync import Resync
from postroom_operator.store import ObjectStore, ReconcileKey
from postroom_operator.validation import build_request, read_result
from postroom_operator.validator_process import validate_request
from tests.operator.fake_cluster import FakeCluster

ROUNDS = 300
NAMESPACE = "shop"


class InProcessValidator:
    """Validates without a process; the validation of templates in `slow` stays in progress."""

    def __init__(self) -> None:
        self.slow: set[str] = set()

    async def validate(
        self, template: Manifest | None, layout: Manifest | None, *, urgent: bool = False
    ) -> ValidationResult | None:
        if template and template["metadata"]["name"] in self.slow:
            return None
        _, question, _ = build_request(template, layout)
        return read_result(_answer(question))


@cache
def _answer(question: bytes) -> bytes:
    """Cached for all tests, because most use the same templates."""
    return json.dumps(validate_request(json.loads(question))).encode()


class FakeTopicsAndWorkers:
    """Topics and workers in the state that a test sets."""

    def __init__(self) -> None:
        self.topics: dict[str, TopicState] = {}
        self.worker_reports: tuple[WorkerReport, ...] = ()
        self.polled_faster: list[tuple[str, str]] = []
        self.wanted: set[Hashable] = set()
        """The profiles whose topics are managed."""

    def request(
        self, owner: Hashable, topics: tuple[RequiredTopic, ...], ours: frozenset[str]
    ) -> tuple[TopicState, ...]:
        self.wanted.add(owner)
        return tuple(self.topics.get(each.name, TopicState(each.name, each.partitions)) for each in topics)

    def forget(self, owner: Hashable) -> None:
        self.wanted.discard(owner)

    def reports(self, group: tuple[str, str]) -> tuple[WorkerReport, ...]:
        return self.worker_reports

    def unresponsive(self, group: tuple[str, str]) -> bool:
        return False

    def poll_faster(self, group: tuple[str, str]) -> None:
        self.polled_faster.append(group)


class OperatorHarness:
    """A cluster with one operator."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.validator = InProcessValidator()
        self.external = FakeTopicsAndWorkers()
        self.pending: set[ReconcileKey] = set()
        self.errors: list[ClusterError] = []
        self.kafka = KafkaAccess("kafka:9096", "SCRAM-SHA-512", tls=True)
        self._begin()
        self.cluster.listeners.append(self._watch)
        self.apply(namespace())

    def apply(self, *manifests: Manifest) -> None:
        """A user applies manifests."""
        for manifest in manifests:
            self.cluster.put(manifest)

    async def settle(self) -> list[tuple[str, Ref]]:
        """Reconcile until no key is left; returns what was written."""
        before = len(self.cluster.writes)
        for _ in range(ROUNDS):
            if not self.pending:
                return self.cluster.writes[before:]
            key = min(self.pending)
            self.pending.discard(key)
            try:
                await reconcile(key, self.context)
            except NamespaceTerminating:
                continue
            except ClusterError as error:
                self.errors.append(error)
                self.pending.add(key)
        raise AssertionError(f"no end in sight: {sorted(self.pending)}")

    async def restart(self) -> None:
        """Start a new process, which knows only what it lists."""
        self._begin()
        await Resync(self.cluster, self.store, (), self.pending.update).once()

    def status(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.objects[Ref(API_VERSION, kind, NAMESPACE, name)].get(
            "status", {}
        )
        return found

    def condition(self, kind: str, name: str, type_: str = "Ready") -> tuple[str, str, str]:
        """Status, reason and message of a condition."""
        found = self.status(kind, name).get("conditions", [])
        one = next(each for each in found if each["type"] == type_)
        return one["status"], one["reason"], one["message"]

    def served(self, profile: str = "orders") -> dict[str, CompiledTemplate]:
        """The templates that the workers of a profile would read."""
        found: dict[str, CompiledTemplate] = {}
        for ref, each in self.cluster.objects.items():
            if ref.kind == "ConfigMap" and ref.name.startswith(f"postroom-{profile}-bundle-"):
                for text in each["data"].values():
                    found |= {template.name: template for template in unpack_bundle(text)}
        return found

    def created_objects(self) -> dict[str, Manifest]:
        """Everything that the operator created, by kind and name."""
        return {
            f"{ref.kind}/{ref.name}": each
            for ref, each in self.cluster.objects.items()
            if ref.api_version != API_VERSION and ref.kind not in ("Namespace", "Event")
        }

    def _begin(self) -> None:
        self.store = ObjectStore()
        self.pending.clear()
        self.context = ReconcileContext(
            store=self.store,
            cluster=self.cluster,
            applier=Applier(self.cluster, self.store, "operator-0", lambda: NOW),
            observer=Observer(self.store),
            validator=self.validator,
            topics=self.external,
            workers=self.external,
            defaults=lambda: OperatorDefaults("postroom:test", kafka=self.kafka),
            keda=lambda: False,
            now=lambda: NOW,
        )

    def _watch(self, event: str, manifest: Manifest) -> None:
        if event == "DELETED":
            self.pending |= self.store.drop(ref_of(manifest), version_of(manifest))
        else:
            self.pending |= self.store.put(manifest)


NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)


def namespace(**labels: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def profile(name: str = "orders", **spec: Any) -> Manifest:
    return _ours("SmtpProfile", name, {"from": {"address": "orders@larkfield.example"}, **spec})


def layout(name: str = "plain", html: str = "") -> Manifest:
    page = html or "<html><body>{% block content %}{% endblock %}</body></html>"
    return _ours("EmailLayout", name, {"html": page})


def template(name: str = "paid", html: str = "<p>Hello</p>", **spec: Any) -> Manifest:
    wanted = {
        "smtpProfileRef": {"name": "orders"},
        "eventTypes": [f"shop.{name}"],
        "subject": "Paid",
        "html": html,
        "samples": [{"name": "ada", "data": {}}],
        **spec,
    }
    return _ours("EmailTemplate", name, wanted)


def _ours(kind: str, name: str, spec: dict[str, Any]) -> Manifest:
    metadata = {"namespace": NAMESPACE, "name": name}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
