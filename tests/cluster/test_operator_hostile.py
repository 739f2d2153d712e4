"""Hostile templates on the running operator: their statuses report it, and other templates are not
affected."""

from pathlib import Path

import pytest

from tests.cluster.manifests import Object, profile, template
from tests.cluster.operator_process import OperatedNamespace

pytestmark = pytest.mark.apiserver
LOOPS = "{% for i in range(99) %}" * 8 + "{{ i }}" + "{% endfor %}" * 8
"""10^16 iterations: endless."""
WORK = "{% set y = (i * j) | string | upper | length %}" * 30
SLOW = "{% for i in range(99) %}{% for j in range(99) %}" + WORK + "{% endfor %}{% endfor %}<p>Hi</p>"
"""Each rendering stays within its limits; 32 of them, rendered twice, exceed the time of a validation."""
TENS = "{% set a = [a, a, a, a, a, a, a, a, a, a] %}"
MEMORY = "{% set a = [1] %}" + TENS * 9 + "{{ a | string | length }}"
"""Nine small lists, and a text of 10^9 numbers: the kernel's limits end the validation."""
GROWTH_KIB = 64 * 1024
SAMPLES = [{"name": f"s{number}", "data": {"name": "Ada"}} for number in range(32)]
HOSTILE: dict[str, Object] = {
    "loops": {"html": LOOPS},
    "memory": {"html": MEMORY},
    "slow": {"html": SLOW, "samples": SAMPLES},
}
REASONS = {"RenderLimit", "ValidationTimedOut", "SampleFailed"}


def resident(pid: int) -> int:
    """The memory of a process, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc: needs Linux to weigh a process")
def test_hostile_templates_are_named_while_others_are_validated(world: OperatedNamespace) -> None:
    world.apply(profile(), template())
    world.until(lambda: "welcome" in world.served())
    before = resident(world.operator.pid)
    for name, spec in HOSTILE.items():
        world.apply(template(name, **spec))
    neighbours = [f"neighbour-{number}" for number in range(10)]
    world.apply(*map(template, neighbours))
    world.until(lambda: {*neighbours} <= {*world.served()}, within=60.0)
    for name in HOSTILE:
        found = world.ready_condition("EmailTemplate", name, "False")
        assert found["reason"] in REASONS, found
        assert found["message"], "what to do"
    assert not {*HOSTILE} & {*world.served()}
    grown = resident(world.operator.pid) - before
    print(f"the operator grew by {grown} KiB to {before + grown} KiB")
    assert grown < GROWTH_KIB
    assert world.operator.running
    assert "internal error" not in world.operator.words


def test_a_valid_template_that_becomes_hostile_keeps_its_last_revision(world: OperatedNamespace) -> None:
    world.apply(profile(), template())
    world.until(lambda: "welcome" in world.served())
    good = world.served()["welcome"].revision
    world.apply(template(html=MEMORY))
    world.ready_condition("EmailTemplate", "welcome", "False")
    assert world.served()["welcome"].revision == good
    world.apply(template(html="<p>Good day {{ name }}</p>"))
    world.ready_condition("EmailTemplate", "welcome", "True")
