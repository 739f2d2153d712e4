"""Workers that run, die, end, come and go: every letter is counted."""

import json
import time

import pytest
import yaml

from postroom.letter.bundle import pack_bundle
from postroom.letter.template import EmailTemplate
from postroom.letter.validation.validate import validate_template
from tests.faults.fault_environment import FaultEnvironment
from tests.faults.pod import WorkerPod
from tests.faults.results import Fault
from tests.fixtures.pipeline import MANIFESTS, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

GRACE_SECONDS = 20.0


@pytest.mark.fault(1)
def test_without_a_fault_every_letter_arrives_once(setup: FaultEnvironment, fault: Fault) -> None:
    setup.start(setup.pod(), setup.pod())
    begin = time.monotonic()
    setup.publish(fault.size(1000, 10_000))
    setup.finish()
    seconds = time.monotonic() - begin
    verdict = setup.verdict()
    verdict.hold()
    assert (verdict.doubled, set(setup.sink.copies.values())) == (0, {1})
    fault.record(f"control, two workers: {verdict}; {seconds:.0f} s")


@pytest.mark.fault(5)
def test_a_worker_that_gets_sigterm_leaves_nothing_in_doubt(setup: FaultEnvironment, fault: Fault) -> None:
    count, ends = fault.size(600, 5000), fault.size(4, 20)
    pod, slowest = setup.pod(), 0.0
    for end in range(ends):
        setup.start(pod)
        setup.publish(count // ends, f"t{end}-")
        setup.copies(setup.sink.copies.total() + count // ends // 3)
        begin = time.monotonic()
        assert pod.end() == 0
        slowest = max(slowest, time.monotonic() - begin)
        settled = pod.settled()
        assert pod.sending() == 0
        assert (
            setup.committed()
            <= settled + pod.query("SELECT count(*) FROM letter WHERE state = 'deferred'")[0][0]
        )
    setup.start(pod)
    setup.finish()
    assert setup.committed() == len(setup.produced)
    verdict = setup.verdict()
    verdict.hold()
    assert slowest < GRACE_SECONDS
    fault.record(
        f"SIGTERM {ends} times: {verdict}; the slowest end took {slowest:.1f} s of {GRACE_SECONDS:.0f}"
    )


@pytest.mark.fault(30)
def test_a_template_that_changes_in_a_stream_leaves_each_letter_whole(
    setup: FaultEnvironment, fault: Fault
) -> None:
    edits = fault.size(8, 50)
    pod = setup.pod()
    revisions = [edit(pod, 0)]
    setup.start(pod)
    for number in range(1, edits):
        setup.publish(40, f"v{number}-")
        revisions.append(edit(pod, number))
        wait_until(lambda: pod.says().get("templates", {}).get("order") == revisions[-1], "the edit is live")
    setup.publish(40, "last-")
    setup.finish()
    verdict = setup.verdict()
    verdict.hold()
    revision_of = dict(pod.query("SELECT message_id, revision FROM letter"))
    assert set(revision_of.values()) <= set(revisions)
    mixed = [
        message_id
        for message_id, marks in setup.sink.marks.items()
        if set(marks) != {f"revision-{revisions.index(revision_of[message_id])}-mark"}
    ]
    assert len(setup.sink.marks) == len(setup.produced)
    assert mixed == []
    used = len(set(revision_of.values()))
    fault.record(f"{edits} edits in a stream: {verdict}; letters of {used} revisions, none mixed")


def edit(pod: WorkerPod, number: int) -> str:
    """Publish the template with a new mark at its head and its foot; returns the revision."""
    manifest = yaml.safe_load((MANIFESTS / "order.yaml").read_text())
    html = manifest["spec"]["html"]
    for place in ("Thank you", "It needs no answer."):
        html = html.replace(place, f"revision-{number}-mark {place}")
    manifest["spec"]["html"] = html
    proof = validate_template(EmailTemplate.model_validate(manifest), None)
    assert proof.compiled, proof.problems
    new = pod.folder / "new.json"
    new.write_text(pack_bundle([proof.compiled]))
    new.replace(pod.folder / "bundles" / "templates.json")
    [bundled] = json.loads((pod.folder / "bundles" / "templates.json").read_text())["templates"]
    return str(bundled["revision"])
