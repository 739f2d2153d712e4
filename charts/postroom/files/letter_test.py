"""What `helm test` runs: one letter, from an event to the sandbox's inbox.

It applies a profile and a template of its own, waits until both are ready, produces an event to Kafka, and
reads the letter from the sandbox. Both objects are deleted at the end; their topic stays, because topics are
never deleted. Each completed step is a line with its time; the first failed step ends the test with the last
state that it saw. Where the namespace has no connections Secret, or the operator does not manage it, the test
ends at once and applies nothing.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from postroom.connections import Connections, ConnectionsSecret, read_connections
from postroom.letter.problems import Rejected
from postroom.secret_files import read_folder

NAMESPACE = os.environ["TEST_NAMESPACE"]
SECRET = os.environ["TEST_SECRET"]
WATCHED = [name for name in os.environ.get("TEST_WATCHED", "").split(",") if name]
"""The namespaces that the operator manages; empty: all."""
DEADLINE = time.monotonic() + float(os.environ["TEST_TIMEOUT"])
CONNECTIONS = Path("/var/run/postroom/connections")
NAME = "postroom-test"
EVENT_TYPE = "postroom.test.requested"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
API = "https://kubernetes.default.svc/apis/postroom.dev/v1alpha1"
PROFILE = {
    "apiVersion": "postroom.dev/v1alpha1",
    "kind": "SmtpProfile",
    "metadata": {"name": NAME, "labels": {"app.kubernetes.io/part-of": "postroom"}},
    "spec": {
        "mode": "Sandbox",
        "from": {"address": "test@postroom.example"},
        "connectionsSecretRef": {"name": SECRET},
    },
}
TEMPLATE = {
    "apiVersion": "postroom.dev/v1alpha1",
    "kind": "EmailTemplate",
    "metadata": {"name": NAME, "labels": {"app.kubernetes.io/part-of": "postroom"}},
    "spec": {
        "smtpProfileRef": {"name": NAME},
        "eventTypes": [EVENT_TYPE],
        "subject": "Test {{ word }}",
        "html": "<p>The word is {{ word }}.</p>",
        "variables": {
            "type": "object",
            "required": ["word"],
            "properties": {"word": {"type": "string", "minLength": 1}},
        },
        "samples": [{"name": "one", "data": {"word": "sample"}}],
    },
}
BEGAN = time.monotonic()


def report(step: str) -> None:
    """Print a completed step with its time."""
    print(f"{time.monotonic() - BEGAN:6.1f} s  {step}", flush=True)


def wait(step: str, look: Callable[[], tuple[bool, str]]) -> None:
    """Look every second until the step is done; at the deadline exit with the last state."""
    seen = "nothing"
    while time.monotonic() < DEADLINE:
        done, seen = look()
        if done:
            report(step)
            return
        time.sleep(1)
    sys.exit(f"timeout: {step}. Last seen: {seen}")


def call(method: str, path: str, body: object = None) -> Any:
    """Call the API server as this pod's service account; returns None where the object does not exist."""
    request = urllib.request.Request(
        f"{API}/namespaces/{NAMESPACE}/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}",
            "Content-Type": "application/json",
        },
    )
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    try:
        with urllib.request.urlopen(request, timeout=30, context=trusted) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        sys.exit(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}")


def ready(plural: str) -> tuple[bool, str]:
    """Whether an object's Ready is True for its current generation, and all its conditions as text."""
    found = call("GET", f"{plural}/{NAME}") or {"metadata": {"generation": None}}
    conditions = found.get("status", {}).get("conditions", [])
    is_ready = any(
        condition["type"] == "Ready"
        and condition["status"] == "True"
        and condition.get("observedGeneration") == found["metadata"]["generation"]
        for condition in conditions
    )
    texts = {each["type"]: f"{each['status']} {each['reason']}: {each['message']}" for each in conditions}
    return is_ready, json.dumps(texts)


def connect() -> Connections:
    """Read the connections from the Secret; exit where the letter could not be sent."""
    if WATCHED and NAMESPACE not in WATCHED:
        sys.exit(
            f"The operator manages {', '.join(WATCHED)} only (watchNamespaces). This test sends its letter "
            f"in the release's namespace, {NAMESPACE}: add it, or disable the test (tests.enabled)."
        )
    try:
        mounted = ConnectionsSecret(read_folder(CONNECTIONS), CONNECTIONS, f"Secret {NAMESPACE}/{SECRET}")
        return read_connections(mounted, NAMESPACE)
    except Rejected as rejected:
        problems = "\n".join(map(str, rejected.problems))
        sys.exit(
            f"{problems}\nThis test sends its letter in the release's namespace: its profile and its worker "
            "need that Secret there, with rights on the topics and the group "
            f"postroom.{NAMESPACE}.{NAME}*. Create it, name another Secret of that namespace in "
            "tests.connectionsSecret, or disable the test (tests.enabled)."
        )


def produce(connections: Connections, word: str, recipient: str) -> None:
    """Produce an event that the broker acknowledges."""
    settings = connections.kafka.client_settings()
    failed: list[str] = []
    producer = Producer(settings | {"enable.idempotence": True})
    event = {
        "message_id": word,
        "event_type": EVENT_TYPE,
        "timestamp": datetime.now(UTC).isoformat(),
        "recipient": recipient,
        "data": {"word": word},
    }
    producer.produce(
        f"postroom.{NAMESPACE}.{NAME}",
        json.dumps(event),
        key=recipient,
        on_delivery=lambda error, _: failed.append(str(error)) if error else None,
    )
    if producer.flush(30) or failed:
        sys.exit(f"Kafka did not accept the event: {failed or 'no answer within 30 s'}")


def arrived(recipient: str) -> tuple[bool, str]:
    """Whether the sandbox has a letter to the recipient, and what it returned."""
    url = f"http://postroom-sandbox:8025/api/v1/letters?to={recipient}"
    request = urllib.request.Request(url, headers={"Host": "localhost"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            letters = json.load(response)["letters"]
    except (OSError, urllib.error.URLError) as error:
        return False, f"{url}: {error}"
    return bool(letters), f"{len(letters)} letters to {recipient}"


def remove() -> None:
    """Delete the profile and the template, if they exist."""
    for plural in ("emailtemplates", "smtpprofiles"):
        call("DELETE", f"{plural}/{NAME}")


def main() -> None:
    """The steps, in order."""
    connections = connect()
    remove()
    try:
        for plural, manifest in (("smtpprofiles", PROFILE), ("emailtemplates", TEMPLATE)):
            call("POST", plural, manifest)
        report("a profile and a template are applied")
        wait("the template is ready", lambda: ready("emailtemplates"))
        wait("the profile is ready", lambda: ready("smtpprofiles"))
        word = uuid.uuid4().hex[:12]
        recipient = f"{word}@postroom.example"
        produce(connections, word, recipient)
        report("an event is in Kafka")
        wait("its letter is in the sandbox", lambda: arrived(recipient))
    finally:
        remove()


if __name__ == "__main__":
    main()
