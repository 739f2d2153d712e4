"""Events into the cluster's Kafka, from a pod in it: a client outside could not reach the broker by its name.

The pod runs Postroom's image with the namespace's connections mounted; the program below is handed to its
Python. It takes lines on standard input (topic, key, event) and says how many the broker acknowledged.
"""

import json
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from tests.cluster.kubectl import Object, Place

POD = "publisher"
PROGRAM = """
import json, sys, time
from pathlib import Path
from confluent_kafka import Producer
rate = float(sys.argv[1])
servers = Path("/connections/kafka-bootstrap-servers").read_text()
acknowledged = 0
def settled(error, message):
    global acknowledged
    acknowledged += error is None
producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})
begin = time.monotonic()
for number, line in enumerate(sys.stdin):
    topic, key, event = json.loads(line)
    if rate:
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
    producer.produce(topic, json.dumps(event), key=key, on_delivery=settled)
    producer.poll(0)
assert producer.flush(60) == 0
print(acknowledged)
"""


def event(identity: str, event_type: str, recipient: str, data: Object) -> Object:
    """A message in the plain form."""
    return {
        "message_id": identity,
        "event_type": event_type,
        "timestamp": datetime.now(UTC).isoformat(),
        "recipient": recipient,
        "data": data,
    }


def pod(image: str, secret: str) -> Object:
    """The publisher; admitted where Pod Security is restricted."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": POD,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "86400"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": True,
                    },
                    "volumeMounts": [{"name": "connections", "mountPath": "/connections"}],
                }
            ],
            "volumes": [{"name": "connections", "secret": {"secretName": secret}}],
        },
    }


def publish(place: Place, topic: str, events: Iterable[Object]) -> int:
    """Send events at once; how many were acknowledged."""
    said = place.kubectl(*_command(place, 0), stdin=_lines(topic, events))
    return int(said.split()[-1])


class Load:
    """Events at a steady rate, while something else happens."""

    def __init__(self, place: Place, topic: str, events: Iterable[Object], rate: float) -> None:
        self._process: subprocess.Popen[str] = place.kubectl.start(*_command(place, rate))
        assert self._process.stdin is not None
        self._process.stdin.write(_lines(topic, events))
        self._process.stdin.close()
        self._process.stdin = None

    def acknowledged(self, within: float) -> int:
        """Wait for the end of it; how many the broker acknowledged."""
        said, _ = self._process.communicate(timeout=within)
        assert self._process.returncode == 0, said
        return int(said.split()[-1])

    @property
    def running(self) -> bool:
        """Whether events are still being sent."""
        return self._process.poll() is None


def _command(place: Place, rate: float) -> tuple[str, ...]:
    return ("exec", "-i", "-n", place.namespace, POD, "--", "python", "-c", PROGRAM, str(rate))


def _lines(topic: str, events: Iterable[Object]) -> str:
    rows: list[tuple[str, Any, Object]] = [(topic, each["recipient"], each) for each in events]
    return "".join(f"{json.dumps(row)}\n" for row in rows)
