"""What `helm test` runs: one letter, from an event to the sandbox's inbox.

It applies a profile and a template of its own, waits until both are ready, produces an event to Kafka, and
asks the sandbox for the letter. Both objects are deleted at the end; their topic stays, as topics do. Each
step is a line with its seconds; the first that fails says what was found instead.
"""

import json
import os
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
from kubernetes import client, config

from postroom import connections

NAMESPACE = os.environ["TEST_NAMESPACE"]
DEADLINE = time.monotonic() + float(os.environ["TEST_TIMEOUT"])
CONNECTIONS = Path("/var/run/postroom/connections")
NAME = "postroom-test"
EVENT_TYPE = "postroom.test.requested"
GROUP, VERSION = "postroom.dev", "v1alpha1"
PROFILE = {
    "apiVersion": f"{GROUP}/{VERSION}",
    "kind": "SmtpProfile",
    "metadata": {"name": NAME, "labels": {"app.kubernetes.io/part-of": "postroom"}},
    "spec": {"mode": "Sandbox", "from": {"address": "test@postroom.example"}},
}
TEMPLATE = {
    "apiVersion": f"{GROUP}/{VERSION}",
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


def ready(api: client.CustomObjectsApi, plural: str) -> tuple[bool, str]:
    """Whether an object's Ready is True for its present generation."""
    found: Any = api.get_namespaced_custom_object(GROUP, VERSION, NAMESPACE, plural, NAME)
    conditions = found.get("status", {}).get("conditions", [])
    generation = found["metadata"]["generation"]
    is_so = any(
        each["type"] == "Ready" and each["status"] == "True" and each.get("observedGeneration") == generation
        for each in conditions
    )
    return is_so, json.dumps(
        {each["type"]: f"{each['status']} {each['reason']}: {each['message']}" for each in conditions}
    )


def produce(word: str, recipient: str) -> None:
    """One event, acknowledged by the broker."""
    told = {path.name: path.read_text() for path in CONNECTIONS.iterdir() if path.is_file()}
    settings = connections.read(told, CONNECTIONS).kafka
    failed: list[str] = []
    producer = Producer(dict(settings) | {"enable.idempotence": True})
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


def remove(api: client.CustomObjectsApi) -> None:
    """Delete what was applied; what is not there needs no deletion."""
    for plural in ("emailtemplates", "smtpprofiles"):
        try:
            api.delete_namespaced_custom_object(GROUP, VERSION, NAMESPACE, plural, NAME)
        except client.ApiException as error:
            if error.status != 404:
                raise


def main() -> None:
    """The steps, in order."""
    config.load_incluster_config()
    api = client.CustomObjectsApi()
    remove(api)
    try:
        for plural, manifest in (("smtpprofiles", PROFILE), ("emailtemplates", TEMPLATE)):
            api.create_namespaced_custom_object(GROUP, VERSION, NAMESPACE, plural, manifest)
        say("a profile and a template are applied")
        wait("the template is ready", lambda: ready(api, "emailtemplates"))
        wait("the profile is ready", lambda: ready(api, "smtpprofiles"))
        word = uuid.uuid4().hex[:12]
        recipient = f"{word}@postroom.example"
        produce(word, recipient)
        say("an event is in Kafka")
        wait("its letter is in the sandbox", lambda: arrived(recipient))
    finally:
        remove(api)


if __name__ == "__main__":
    main()
