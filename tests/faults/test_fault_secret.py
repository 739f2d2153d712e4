"""Fault 29: the relay takes another password while a worker runs, and the mounted Secret follows later."""

import base64
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from tests.delivery import kubelet
from tests.delivery.scripted_relay import FULL, ScriptedRelay
from tests.faults.fault_environment import FaultEnvironment
from tests.faults.pod import PATIENCE_SECONDS, WorkerPod
from tests.faults.results import Fault
from tests.faults.test_fault_relay import relaying, states
from tests.fixtures.pipeline import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

LOGIN_SECONDS = 60.0
"""From the changed files to the new login, at most."""


@dataclass
class Guarded(ScriptedRelay):
    """A relay behind TLS that knows one password at a time."""

    password: str = "first"
    refused: int = 0
    logins: dict[str, float] = field(default_factory=dict)
    """By password: time of the first accepted login, in monotonic seconds."""

    def admits(self, words: str) -> bool:
        _, user, password = base64.b64decode(words.rpartition(" ")[2]).decode().split("\0")
        assert user == "shop"
        if password != self.password:
            self.refused += 1
            return False
        self.logins.setdefault(password, time.monotonic())
        return True


def mount(secrets: Path, name: str, **keys: str) -> None:
    """A Secret as the kubelet shows it, or another state of it."""
    (secrets / name).mkdir(parents=True, exist_ok=True)
    kubelet.write(secrets / name, {key.replace("_", "."): text for key, text in keys.items()})


def guarded_pod(setup: FaultEnvironment, relay: Guarded, authority: trustme.CA) -> WorkerPod:
    """A worker of mode SMTP whose connections end after a few letters, so that it logs in all the time."""
    secrets = setup.folder / "secrets"
    mount(secrets, "relay", username="shop", password="first")
    mount(secrets, "relay-ca", ca_crt=authority.cert_pem.bytes().decode())
    pod = setup.pod(
        mode="SMTP",
        smtp={
            "host": "127.0.0.1",
            "port": relay.port,
            "tls": {"mode": "Required", "caRef": {"name": "relay-ca"}},
            "auth": {"method": "PLAIN", "secretRef": {"name": "relay"}},
        },
        limits={"connections": 4, "messagesPerConnection": 5},
    )
    pod.environment = {"POSTROOM_DELIVERY_ALLOWED": "true", "POSTROOM_SECRETS": str(secrets)}
    return pod


@pytest.mark.fault(29)
def test_a_password_that_changes_under_a_running_worker_fails_no_letter(
    setup: FaultEnvironment, fault: Fault
) -> None:
    authority, server = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    relay, waits = Guarded(extensions=(*FULL, "AUTH PLAIN"), tls=server), list[float]()
    with relaying(relay):
        pod = guarded_pod(setup, relay, authority)
        setup.start(pod)
        for turn in range(fault.size(1, 5)):
            waits.append(rotate(setup, pod, relay, f"password {turn}"))
        assert pod.runs()
        assert pod.count_logged(b"partitions assigned") == 1, "one process, one start"
        setup.finish()
    assert states(setup) == {"accepted": len(setup.produced)}
    assert pod.query("SELECT count(*) FROM letter WHERE replies > 1 OR in_doubt_count > 0") == [(0,)]
    arrived = Counter(seen.recipients[0] for seen in relay.accepted)
    assert arrived.total() == len(setup.produced)
    count = pod.query("SELECT count(*) FROM attempt WHERE result = 'unreachable' AND text LIKE '535%'")[0][0]
    assert count > 0
    assert max(waits) <= LOGIN_SECONDS
    fault.record(
        f"password changed {len(waits)} times at the relay first, in the mounted Secret when the circuit was "
        f"open: new login at most {max(waits):.1f} s after, same process; {len(setup.produced)} letters, "
        f"{relay.refused} logins refused with 535, {count} letters retried for it, none failed, none doubled"
    )


def rotate(setup: FaultEnvironment, pod: WorkerPod, relay: Guarded, password: str) -> float:
    """Change the password at the relay, then the Secret; seconds from that to the new login."""
    turn = len(setup.produced)
    setup.publish(40, f"a{turn}-")
    wait_until(lambda: pod.through(turn + 40), "the letters under the old password", PATIENCE_SECONDS)
    relay.password = password
    setup.publish(60, f"b{turn}-")
    wait_until(lambda: pod.condition("circuit") == (False, "Open"), "an open circuit", PATIENCE_SECONDS)
    assert relay.refused > 0
    mount(setup.folder / "secrets", "relay", username="shop", password=password)
    changed = time.monotonic()
    wait_until(lambda: password in relay.logins, "the new login", PATIENCE_SECONDS)
    wait_until(lambda: pod.through(turn + 100), "every letter settled", PATIENCE_SECONDS)
    return relay.logins[password] - changed
