"""kubectl for tests: objects in and out, waits with a deadline, and a dump where a deadline passes."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
PATIENCE = 0.5
"""Seconds between two polls."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One cluster, by the context of the user's kubeconfig."""

    program: str
    context: str

    def __call__(
        self, *arguments: str, stdin: str | None = None, check: bool = True, within: float = 120
    ) -> str:
        """Run kubectl and return its output; fails with its error."""
        done = subprocess.run(
            [self.program, "--context", self.context, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=within,
        )
        assert not check or done.returncode == 0, (
            f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}"
        )
        return done.stdout

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start kubectl in the background; the caller waits for it."""
        return subprocess.Popen(
            [self.program, "--context", self.context, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def get(self, kind: str, namespace: str, name: str = "", labels: str = "") -> Any:
        """An object, or None where it does not exist; without a name the list of all."""
        selector = ("-l", labels) if labels else ()
        wanted = [name] if name else []
        text = self("get", kind, *wanted, "-n", namespace, "-o", "json", "--ignore-not-found", *selector)
        if name:
            return json.loads(text) if text.strip() else None
        return json.loads(text)["items"] if text.strip() else []

    def apply(self, *objects: Mapping[str, Any], namespace: str) -> None:
        """Apply objects as a user would."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self("apply", "-n", namespace, "-f", "-", stdin=text)

    def through(self, namespace: str, service: str, path: str) -> Any:
        """The JSON that a Service returns for GET, through the API server's proxy."""
        return json.loads(
            self("get", "--raw", f"/api/v1/namespaces/{namespace}/services/{service}/proxy{path}")
        )

    def has(self, definition: str) -> bool:
        """Whether a kind is installed, by the name of its definition."""
        return bool(self("get", "crd", definition, "--ignore-not-found", "-o", "name").strip())


@dataclass(frozen=True, slots=True)
class KubeNamespace:
    """The namespace of a cluster that a test uses."""

    kubectl: Kubectl
    namespace: str

    def get(self, kind: str, name: str = "", labels: str = "") -> Any:
        """See Kubectl.get."""
        return self.kubectl.get(kind, self.namespace, name, labels)

    def ready(self, kind: str, name: str) -> bool:
        """Whether a custom resource is Ready in its current generation."""
        found = self.get(kind, name)
        return bool(found) and is_true(found, "Ready")

    def wait(self, what: str, look: Callable[[], object], within: float) -> float:
        """Poll until `look` returns a true value, and return the seconds; past the deadline fail with a
        dump."""
        begin = time.monotonic()
        seen: object = None
        while time.monotonic() - begin < within:
            try:
                seen = look()
            except AssertionError as error:
                seen = None if "NotFound" in str(error) else error
            if seen and not isinstance(seen, Exception):
                return time.monotonic() - begin
            time.sleep(PATIENCE)
        raise AssertionError(f"not within {within:.0f} s: {what}; seen: {seen}\n{self.dump()}")

    def dump(self) -> str:
        """Pods, objects, events and logs."""
        statuses = "jsonpath={range .items[*]}{.kind} {.metadata.name} {.status}{'\\n'}{end}"
        looks = (
            ("get", "pods,deployments,statefulsets,jobs", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            # without KEDA its kind is unknown, and the error is part of the dump
            ("get", "emailtemplates,smtpprofiles", "-o", statuses),
            ("get", "scaledobjects", "-o", statuses),
            ("describe", "hpa"),
        )
        names = [pod["metadata"]["name"] for pod in self.get("pods")]
        logs = [("logs", name, "--all-containers", "--tail=40", "--prefix") for name in names]
        parts = [self._output(*look) for look in (*logs, *looks)]
        return "\n".join(parts)[-30_000:]

    def _output(self, *arguments: str) -> str:
        output = self.kubectl(*arguments, "-n", self.namespace, check=False)
        return f"--- kubectl {' '.join(arguments)}\n{output}"


def is_true(found: Object, condition: str) -> bool:
    """Whether a condition is True for the current generation."""
    generation = found["metadata"]["generation"]
    return any(
        each["type"] == condition
        and each["status"] == "True"
        and each.get("observedGeneration", generation) == generation
        for each in found.get("status", {}).get("conditions", [])
    )
