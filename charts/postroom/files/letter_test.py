"""What `helm test` runs: one letter, from an event to the sandbox's inbox.

It applies a profile and a template of its own, waits until both are ready, produces an event to Kafka, and
asks the sandbox for the letter. Both objects are deleted at the end; their topic stays, as topics do. Each
step is a line with its seconds; the first that fails says what was found instead. Where the namespace has no
connections Secret, or the operator does not look at it, nothing is applied: that is said at once.
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
WATCHED = [each for each in os.environ.get("TEST_WATCHED", "").split(",") if each]
"""The namespaces that the operator looks at; none: all."""
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


def say(what: str) -> None:
    """One line for a step that is done."""
    print(f"{time.monotonic() - BEGAN:6.1f} s  {what}", flush=True)


def wait(what: str, look: Callable[[], tuple[bool, str]]) -> None:
    """Look each second until it is so; at the deadline say what was seen last."""
    seen = "nothing"
    while time.monotonic() < DEADLINE:
        done, seen = look()
        if done:
            say(what)
            return
        time.sleep(1)
    sys.exit(f"not in time: {what}. Last seen: {seen}")


def call(method: str, path: str, body: object = None) -> Any:
    """One call of the API server, as this pod's service account; None where the object is not there."""
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
    """Whether an object's Ready is True for its present generation."""
    found = call("GET", f"{plural}/{NAME}") or {"metadata": {"generation": None}}
    conditions = found.get("status", {}).get("conditions", [])
    is_so = any(
        each["type"] == "Ready"
        and each["status"] == "True"
        and each.get("observedGeneration") == found["metadata"]["generation"]
        for each in conditions
    )
    told = {each["type"]: f"{each['status']} {each['reason']}: {each['message']}" for each in conditions}
    return is_so, json.dumps(told)


def connect() -> Connections:
    """What the Secret says; ends the test where its letter could never go."""
    if WATCHED and NAMESPACE not in WATCHED:
        sys.exit(
            f"The operator looks at {', '.join(WATCHED)} only (watchNamespaces). This test sends its letter "
            f"in the release's namespace, {NAMESPACE}: add that one, or do without the test (tests.enabled)."
        )
    try:
        mounted = ConnectionsSecret(read_folder(CONNECTIONS), CONNECTIONS, f"Secret {NAMESPACE}/{SECRET}")
        return read_connections(mounted, NAMESPACE)
    except Rejected as rejected:
        problems = "\n".join(map(str, rejected.problems))
        sys.exit(
            f"{problems}\nThis test sends its letter in the release's namespace: its profile and its worker "
            "are there and need that Secret, with rights on the topics and the group "
            f"postroom.{NAMESPACE}.{NAME}*. Make it there, or name another one of that namespace in "
            "tests.connectionsSecret, or do without the test (tests.enabled)."
        )


def produce(connections: Connections, word: str, recipient: str) -> None:
    """One event, acknowledged by the broker."""
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
        sys.exit(f"Kafka did not take the event: {failed or 'no answer in 30 s'}")


def arrived(recipient: str) -> tuple[bool, str]:
    """Whether the sandbox holds a letter to the recipient."""
    url = f"http://postroom-sandbox:8025/api/v1/letters?to={recipient}"
    request = urllib.request.Request(url, headers={"Host": "localhost"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            letters = json.load(response)["letters"]
    except (OSError, urllib.error.URLError) as error:
        return False, f"{url}: {error}"
    return bool(letters), f"{len(letters)} letters to {recipient}"


def remove() -> None:
    """Delete what was applied; what is not there needs no deletion."""
    for plural in ("emailtemplates", "smtpprofiles"):
        call("DELETE", f"{plural}/{NAME}")


def main() -> None:
    """The steps, in order."""
    connections = connect()
    remove()
    try:
        for plural, manifest in (("smtpprofiles", PROFILE), ("emailtemplates", TEMPLATE)):
            call("POST", plural, manifest)
        say("a profile and a template are applied")
        wait("the template is ready", lambda: ready("emailtemplates"))
        wait("the profile is ready", lambda: ready("smtpprofiles"))
        word = uuid.uuid4().hex[:12]
        recipient = f"{word}@postroom.example"
        produce(connections, word, recipient)
        say("an event is in Kafka")
        wait("its letter is in the sandbox", lambda: arrived(recipient))
    finally:
        remove()


if __name__ == "__main__":
    main()
