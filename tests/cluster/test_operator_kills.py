"""An operator that is killed at any step of a reconcile leaves a state that the next one completes.

It converges, no unwanted object is left, and nothing is created twice: a Deployment's
generation and its ReplicaSets tell each roll-out. Eight kills in every run, thirty more with the faults.
"""

import itertools
from collections.abc import Iterator

import pytest

from tests.cluster.manifests import layout, profile, template
from tests.cluster.operator_process import Object, OperatedNamespace
from tests.faults.results import Fault

pytestmark = pytest.mark.apiserver
STEPS = ("observed", "validated", "planned", "applied", "deleted", "annotated", "status")
KINDS = ("ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service")
SANDBOX = {"Deployment postroom-sandbox", "NetworkPolicy postroom-sandbox", "Service postroom-sandbox"}
WORKERS = {"ConfigMap postroom-shop-profile", "Deployment postroom-shop", "NetworkPolicy postroom-shop"}
BUNDLES = {f"ConfigMap postroom-shop-bundle-{number:02}" for number in range(16)}


def letters(edit: int) -> Iterator[Object]:
    """Two templates of one layout, in a numbered version."""
    for number in range(2):
        html = f"<p>Hello {{{{ name }}}}, {edit}</p>"
        yield template(f"letter-{number}", html, layoutRef={"name": "larkfield"})


def made(world: OperatedNamespace) -> set[str]:
    return {f"{kind} {each['metadata']['name']}" for kind in KINDS for each in world.made(kind)}


def whole(world: OperatedNamespace, edit: int, mode: str) -> bool:
    """Whether exactly the desired objects exist."""
    wanted = WORKERS | (SANDBOX if mode == "Sandbox" else set())
    names = ["letter-0", "letter-1"]
    live = [world.condition("EmailTemplate", name).get("status") == "True" for name in names]
    served = world.served()
    return (
        all(live)
        and sorted(served) == names
        and all(f", {edit}" in str(each.variants) for each in served.values())
        and world.get("SmtpProfile", "shop").get("status", {}).get("mode") == mode
        and made(world) - BUNDLES == wanted
    )


def rollouts(world: OperatedNamespace) -> tuple[int, int]:
    """How often the workers' pod template changed, and the number of ReplicaSets."""
    owner = world.get("Deployment", "postroom-shop")["metadata"]
    path = f"/apis/apps/v1/namespaces/{world.namespace}/replicasets"
    sets = world.cluster.api.get(path).raise_for_status().json()["items"]
    own = [each for each in sets if each["metadata"]["ownerReferences"][0]["uid"] == owner["uid"]]
    revision = owner.get("annotations", {}).get("deployment.kubernetes.io/revision", "0")
    return int(revision), len(own)


def kill(world: OperatedNamespace, failpoint: str, *objects: Object) -> bool:
    """Apply while the operator is down, let it die at a step (returns whether it did), and start the next."""
    world.operator.stop()
    world.apply(*objects)
    offset = len(world.operator.words)
    world.operator.start(POSTROOM_FAILPOINT=failpoint)
    ended = world.until(lambda: "died" if not world.operator.running else settled(world, offset))
    world.operator.kill()
    world.operator.start()
    return ended == "died"


def settled(world: OperatedNamespace, offset: int) -> str:
    """Whether it is idle and did not reach the step; `offset` is where its log of this run begins."""
    lines = world.operator.words[offset:].splitlines()
    done = any(
        '"reconciled"' in line and "SmtpProfile" in line for line in lines
    )  # logged after its last step
    ready = [world.condition("EmailTemplate", name).get("status") for name in ("letter-0", "letter-1")]
    return "rests" if done and ready == ["True", "True"] and world.operator.running else ""


@pytest.mark.parametrize(
    "failpoint", [*(f"{step}:1" for step in STEPS if step != "annotated"), "applied:4", "status:3"]
)
def test_an_operator_that_is_killed_at_a_step_is_followed_by_one_that_completes_it(
    world: OperatedNamespace, failpoint: str
) -> None:
    mode = "Sandbox"
    if failpoint.startswith("deleted"):  # an object that is no longer desired has to exist: the sandbox
        world.apply(profile(), layout(), *letters(0))
        world.until(lambda: whole(world, 0, "Sandbox"))
        mode = "Log"
    assert kill(world, failpoint, profile(mode=mode), layout(), *letters(1)), "it did not die"
    world.until(lambda: whole(world, 1, mode))
    if mode == "Sandbox":
        world.until(lambda: rollouts(world) == (1, 1))


@pytest.mark.faults
@pytest.mark.fault(24)
def test_kills_one_after_the_other_leave_no_orphan_and_roll_nothing_out_twice(
    world: OperatedNamespace, fault: Fault
) -> None:
    kills = fault.size(4, 30)
    world.apply(profile(), layout(), *letters(0))
    world.until(lambda: whole(world, 0, "Sandbox"))
    steps = itertools.cycle(STEPS)
    died, turn, mode, changes = 0, 0, "Sandbox", 1
    while died < kills:
        turn += 1
        step = next(steps)
        if step == "deleted":
            mode, changes = ("Log" if mode == "Sandbox" else "Sandbox"), changes + 1
        point = f"{step}:{1 + turn % 3}"
        died += kill(world, point, profile(mode=mode), *letters(turn))
        world.until(lambda edit=turn, mode=mode: whole(world, edit, mode))  # type: ignore[misc]
        world.until(lambda changes=changes: rollouts(world)[0] == changes)  # type: ignore[misc]
        assert turn < 4 * kills, f"only {died} of {turn} starts came to their step"
    assert "internal error" not in world.operator.words
    written = world.get("Deployment", "postroom-shop")["metadata"]["generation"]
    assert changes <= written < 2 * changes  # the strategy changes with the mode, and back again
    fault.record(f"{died} kills in {turn} starts of the operator; roll-outs {rollouts(world)}")
