"""The operator at rest, with a second operator, and without its API server."""

import json
import time

import httpx
import pytest

from tests.cluster.manifests import layout, profile, template
from tests.cluster.operator_process import OperatedNamespace, OperatorProcess
from tests.faults.results import at_full_size

pytestmark = pytest.mark.apiserver
PROFILES, TEMPLATES = 20, 10
WRITES = ("create", "update", "patch", "delete", "deletecollection")


def whole(world: OperatedNamespace, letters: int = 2) -> bool:
    """Whether all applied objects have their desired state."""
    names = [f"letter-{number}" for number in range(letters)]
    live = [world.condition("EmailTemplate", name).get("status") == "True" for name in names]
    made = [world.get("Deployment", name) for name in ("postroom-shop", "postroom-sandbox")]
    return (
        all(live) and all(made) and sorted(world.served()) == names and bool(world.get("SmtpProfile", "shop"))
    )


def plant(world: OperatedNamespace, letters: int = 2) -> None:
    """A profile, a layout and some templates."""
    templates = [template(f"letter-{number}", layoutRef={"name": "larkfield"}) for number in range(letters)]
    world.apply(profile(), layout(), *templates)


def writes(world: OperatedNamespace) -> list[str]:
    """The operator's writes, without renewals of the Lease."""
    return [
        f"{event['verb']} {event['objectRef']['resource']}/{event['objectRef'].get('name', '')}"
        for event in world.cluster.requests(world.account.user, *WRITES)
        if event["objectRef"]["resource"] != "leases"
    ]


def quiet(world: OperatedNamespace, seconds: float) -> bool:
    """Whether nothing was written for a number of seconds."""
    before, deadline = len(writes(world)), time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.5)
        if len(writes(world)) != before:
            return False
    return True


def test_at_rest_nothing_is_written(world: OperatedNamespace) -> None:
    plant(world, 5)
    world.until(lambda: whole(world, 5))
    world.until(lambda: quiet(world, 3.0))
    before = writes(world)
    world.operator.stop()  # a restart writes nothing either: everything is listed and compared
    world.operator.start(POSTROOM_RESYNC_SECONDS="2")
    holder = f"{world.operator.name}"
    path = f"/apis/coordination.k8s.io/v1/namespaces/{world.office}/leases/postroom-operator"
    world.until(lambda: world.cluster.api.get(path).json()["spec"]["holderIdentity"] == holder)
    assert quiet(world, 15.0), writes(world)[len(before) :]
    assert writes(world) == before
    assert not [event for event in world.cluster.requests(world.account.user) if denied(event)]


@pytest.mark.faults
def test_at_rest_for_long_nothing_is_written(world: OperatedNamespace) -> None:
    """20 profiles with 10 templates each; at full size (POSTROOM_FAULTS_WHOLE=1) for five minutes.

    Those are two listings of everything and six watches of each kind.
    """
    seconds = 300.0 if at_full_size() else 30.0
    for number in range(PROFILES):
        name = f"shop-{number}"
        letters = (
            template(f"{name}-{each}", smtpProfileRef={"name": name}, eventTypes=[f"{name}.event-{each}"])
            for each in range(TEMPLATES)
        )
        world.apply(profile(name), *letters)
    names = [f"shop-{number}-{each}" for number in range(PROFILES) for each in range(TEMPLATES)]
    world.until(lambda: all(world.condition("EmailTemplate", name).get("status") == "True" for name in names))
    world.until(lambda: quiet(world, 10.0))
    before = writes(world)
    assert quiet(world, seconds), writes(world)[len(before) :]
    print(f"{len(before)} writes until it rested, none in {seconds:.0f} s afterwards")
    assert world.operator.running


def denied(event: dict[str, object]) -> bool:
    status = event.get("responseStatus")
    return isinstance(status, dict) and status.get("code") == 403


def test_a_second_operator_waits_and_takes_over_when_the_first_is_gone(world: OperatedNamespace) -> None:
    plant(world)
    world.until(lambda: whole(world))
    second = world.another()
    second.start()
    world.until(lambda: "another operator holds the Lease" in second.words)
    world.apply(template("letter-2"))
    world.until(lambda: whole(world, 3))
    assert second.running
    assert any('name="letter-2"' in line for line in exported(world.operator))
    assert exported(second) == [], "a standby has listed nothing"
    world.operator.kill()
    world.apply(template("letter-3"))
    world.until(lambda: "/letter-3" in second.words)
    assert "letter-3" in world.served()
    assert "acquired the Lease; listing" in second.words
    assert any('name="letter-3"' in line for line in exported(second))
    ready = [line for line in second.words.splitlines() if "Ready changed" in line]
    assert [json.loads(line)["object"] for line in ready if "EmailTemplate" in line] == [
        f"EmailTemplate {world.namespace}/letter-3"
    ], "a new process says only what has changed"


def exported(operator: OperatorProcess) -> list[str]:
    """The readiness metrics of an operator."""
    page = httpx.get(f"http://{operator.environment['POSTROOM_OPERATOR_HTTP']}/metrics").text
    return [line for line in page.splitlines() if line.startswith("postroom_operator_object_ready{")]


def test_an_operator_that_ends_in_order_is_replaced_at_once(world: OperatedNamespace) -> None:
    plant(world)
    world.until(lambda: whole(world))
    second = world.another()
    second.start()
    world.until(lambda: "another operator holds the Lease" in second.words)
    world.operator.stop()
    world.until(lambda: "acquired the Lease; listing" in second.words, within=10.0)


def test_the_death_of_the_api_server_is_survived(world: OperatedNamespace) -> None:
    plant(world)
    world.until(lambda: whole(world))
    world.cluster.restart_apiserver()
    world.apply(template("letter-2", layoutRef={"name": "larkfield"}))
    world.delete("Deployment", "postroom-shop")

    def recovered() -> bool:
        if not world.operator.running:  # it could not renew its Lease in time: its platform restarts it
            world.operator.kill()
            world.operator.start()
        return whole(world, 3)

    world.until(recovered)
