"""What the steps of the test on a cluster with nodes share."""

from typing import Any
from urllib.parse import quote
from uuid import uuid4

from tests.cluster.kubectl import KubeNamespace, Object
from tests.cluster.publishing import event, publish
from tests.fixtures.helm import CHART
from tests.fixtures.kind import Kind, run

RELEASE = "postroom"


class KindSteps:
    """The namespace, the release's values, and the letters that the steps wait for."""

    def __init__(self, kind: Kind, namespace: str) -> None:
        self.kind = kind
        self.place = KubeNamespace(kind.kubectl, namespace)
        self.topic = f"postroom.{namespace}.shop"

    def helm(self, *arguments: str) -> str:
        """Run helm on the release's namespace."""
        where = ("--kube-context", self.kind.kubectl.context, "--namespace", self.place.namespace)
        return run("helm", *arguments, *where)

    def values(self, image: str) -> list[str]:
        """The quickstart, with the images that were loaded."""
        images = {
            "image": image,
            **{f"quickstart.{name}.image": each for name, each in self.kind.images.items()},
        }
        settings = []
        for where, name in images.items():
            repository, _, tag = name.rpartition(":")
            settings += [f"{where}.registry=", f"{where}.repository={repository}", f"{where}.tag={tag}"]
        chosen = [part for setting in settings for part in ("--set", setting)]
        return ["--values", str(CHART / "values-quickstart.yaml"), *chosen]

    def send(self, event_type: str, recipient: str, data: Object) -> None:
        """Publish an event that the broker acknowledges."""
        assert publish(self.place, self.topic, [event(uuid4().hex, event_type, recipient, data)]) == 1

    def letters(self, recipient: str) -> list[Any]:
        """The letters to a recipient in the sandbox, newest first."""
        return self.found(f"to={quote(recipient)}")

    def found(self, query: str) -> list[Any]:
        """The letters that the sandbox's API finds, newest first."""
        path = f"/api/v1/letters?{query}"
        answer = self.place.kubectl.through(self.place.namespace, "postroom-sandbox:8025", path)
        return list(answer["letters"])

    def ledger(self, query: str) -> str:
        """The answer of PostgreSQL in the namespace's schema, a line for each row."""
        schema = f"postroom_{self.place.namespace.replace('-', '_')}"
        command = ("psql", "-U", "postroom", "-d", "postroom", "-tA", "-c", f"SET search_path={schema}")
        output = self.place.kubectl(
            "exec", "-n", self.place.namespace, f"{RELEASE}-postgresql-0", "--", *command, "-c", query
        )
        return output.removeprefix("SET\n").strip()
