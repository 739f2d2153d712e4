"""Events for the cluster's Kafka and mail for its bounce server, from a pod in the cluster.

The pod runs Postroom's image with the namespace's connections mounted; the program below is handed to its
Python. It takes lines on standard input (topic, key, event) and says how many the broker acknowledged.
"""

import json
import subprocess
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from tests.cluster.kubectl import KubeNamespace, Object

POD = "publisher"
PROGRAM = """
import json, sys
from pathlib import Path
from confluent_kafka import Producer
servers = Path("/connections/kafka-bootstrap-servers").read_text()
acknowledged = 0
def settled(error, message):
    global acknowledged
    acknowledged += error is None
producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})
for line in sys.stdin:
    topic, key, event = json.loads(line)
    producer.produce(topic, json.dumps(event), key=key, on_delivery=settled)
    producer.poll(0)
assert producer.flush(60) == 0
print(acknowledged)
"""
REPORTER = """
import smtplib, sys
server, recipient = sys.argv[1:]
with smtplib.SMTP(server, timeout=20) as line:
    line.sendmail("", [recipient], sys.stdin.read().encode())
"""


def event(identity: str, event_type: str, recipient: str, data: Object) -> Object:
    """An event in the plain form."""
    return {
        "message_id": identity,
        "event_type": event_type,
        "timestamp": datetime.now(UTC).isoformat(),
        "recipient": recipient,
        "data": data,
    }


def pod(image: str, secret: str) -> Object:
    """The publisher's pod, which passes restricted Pod Security."""
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


def publish(place: KubeNamespace, topic: str, events: Iterable[Object]) -> int:
    """Send events together; returns how many were acknowledged."""
    output = place.kubectl(*_command(place), stdin="".join(_line(topic, each) for each in events))
    return int(output.split()[-1])


def report(place: KubeNamespace, server: str, recipient: str, message: str) -> None:
    """Send a delivery report over SMTP from the publisher's pod; fails when it is rejected."""
    command = ("exec", "-i", "-n", place.namespace, POD, "--", "python", "-c", REPORTER, server, recipient)
    place.kubectl(*command, stdin=message)


class Load:
    """Publishes events at a steady rate in the background."""

    def __init__(self, place: KubeNamespace, topic: str, events: Iterator[Object], rate: float) -> None:
        self.sent = 0
        self._process: subprocess.Popen[str] = place.kubectl.start(*_command(place))
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._send, args=(topic, events, rate))
        self._thread.start()

    def _send(self, topic: str, events: Iterator[Object], rate: float) -> None:
        assert self._process.stdin is not None
        for each in events:
            self._process.stdin.write(_line(topic, each))
            self._process.stdin.flush()
            self.sent += 1
            if self._ending.wait(1 / rate):
                return

    def end(self, within: float) -> int:
        """Stop and return how many events the broker acknowledged."""
        self._ending.set()
        self._thread.join()
        output, _ = self._process.communicate(timeout=within)
        assert self._process.returncode == 0, output
        return int(output.split()[-1])


def _command(place: KubeNamespace) -> tuple[str, ...]:
    return ("exec", "-i", "-n", place.namespace, POD, "--", "python", "-c", PROGRAM)


def _line(topic: str, each: Object) -> str:
    row: tuple[str, Any, Object] = (topic, each["recipient"], each)
    return f"{json.dumps(row)}\n"
