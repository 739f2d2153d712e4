"""From `helm install` to a letter, on a cluster with nodes; then an edit, an upgrade under load, the removal.

The tests are steps of one story and run in order, in a namespace where Pod Security is restricted. Each wait
has a deadline and says what was there when it is missed.
"""

import time
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.cluster import publishing
from tests.cluster.kind_steps import RELEASE, KindSteps
from tests.cluster.kubectl import KubeNamespace, Object
from tests.cluster.publishing import Load, event, publish
from tests.fixtures.helm import CHART
from tests.fixtures.kind import NEXT, OWN, ROOT, Kind, Phases

pytestmark = pytest.mark.kind
EXAMPLES = ROOT / "manifests" / "examples"
REPORT = ROOT / "tests" / "letter" / "reports" / "postfix.eml"
OPERATOR = "postroom-operator"
WORKERS = "postroom-shop"
INTAKE = "postroom-bounces"
MINE = "app.kubernetes.io/managed-by=postroom-operator"
HELD_SECONDS = 8.0
"""The seconds for which a suspended profile is observed while events arrive."""
LIVE_WITHIN = 10.0
"""The documented seconds from `kubectl apply` of a template to its next letter."""
RATE = 20.0


@pytest.fixture(scope="module")
def story(kind: Kind, phases: Phases) -> Iterator[KindSteps]:
    """The chart, installed with its quickstart in its own namespace; everything is deleted at the end."""
    namespace = f"mail-{uuid4().hex[:6]}"
    story = KindSteps(kind, namespace)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kind.kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        namespace="default",
    )
    try:
        with phases("helm install, until all of it is ready"):
            try:
                # CRDs that an earlier release has left are adopted
                install = ("install", RELEASE, str(CHART), *story.values(OWN), "--take-ownership")
                story.helm(*install, "--wait", "--timeout", "240s")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{story.place.dump()}") from None
        kind.kubectl.apply(publishing.pod(OWN, "postroom-connections"), namespace=namespace)
        yield story
    finally:
        clean(kind, story)


def clean(kind: Kind, story: KindSteps) -> None:
    """Clean up in an existing cluster."""
    for kinds in ("emailtemplates", "emaillayouts", "smtpprofiles"):
        kind.kubectl("delete", kinds, "--all", "-n", story.place.namespace, "--wait=false", check=False)
    listed = story.helm("list", "--short")
    if RELEASE in listed.split():
        story.helm("uninstall", RELEASE)
    definitions = [each["metadata"]["name"] for each in definition_files()]
    kind.kubectl("delete", "crd", *definitions, "--ignore-not-found", check=False)
    kind.kubectl("delete", "namespace", story.place.namespace, "--wait=false", check=False)


def definition_files() -> list[Any]:
    return [yaml.safe_load(path.read_text()) for path in (CHART / "files" / "crds").glob("*.yaml")]


def example(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())


def test_the_examples_are_applied_and_become_ready(story: KindSteps, phases: Phases) -> None:
    place = story.place
    with phases("kubectl apply of the examples, until templates, profile and workers are ready"):
        place.kubectl("apply", "-n", place.namespace, "-f", str(EXAMPLES))
        names = [each["metadata"]["name"] for each in place.get("emailtemplates")]
        assert len(names) >= 6
        place.wait("the profile is ready", lambda: place.ready("smtpprofile", "shop"), 180)
        for name in names:
            place.wait(f"template {name} is ready", partial(place.ready, "emailtemplate", name), 60)
    print(place.kubectl("get", "postroom", "-n", place.namespace))
    print(place.kubectl("get", "pods", "-n", place.namespace))


def test_an_event_becomes_a_letter_in_the_sandbox(story: KindSteps, phases: Phases) -> None:
    story.place.wait("the publisher runs", lambda: is_running(story.place, publishing.POD), 60)
    with phases("an event in Kafka, until its letter is in the sandbox"):
        data = {"first_name": "Noor", "confirm_url": "https://larkfield.example/confirm/7Qm2"}
        story.send("shop.user.welcomed", "noor@example.org", data)
        story.place.wait("the letter is there", lambda: story.letters("noor@example.org"), 60)
    [letter] = story.letters("noor@example.org")
    assert letter["subject"] == "Welcome to Larkfield, Noor"


def is_running(place: KubeNamespace, pod: str) -> bool:
    found = place.get("pod", pod)
    return bool(found) and found["status"].get("phase") == "Running"


def test_an_edited_template_is_live_in_the_next_letter_with_no_rollout(
    story: KindSteps, phases: Phases
) -> None:
    place = story.place
    before = place.get("deployment", WORKERS)
    edited = example("welcome")
    edited["spec"]["subject"] = "Edited for {{ first_name }}"
    batch = f"edit{uuid4().hex[:6]}"
    load = Load(place, story.topic, welcomes(batch), 5)
    try:
        place.wait("letters flow", lambda: story.letters(f"{batch}-0@example.org"), 60)
        place.kubectl.apply(edited, namespace=place.namespace)
        took = place.wait("a letter is of the edit", lambda: story.found("subject=Edited"), 60)
    finally:
        load.end(within=60)
    phases.note("kubectl apply of an edited template, until a letter is of it", took)
    after = place.get("deployment", WORKERS)
    assert took <= LIVE_WITHIN
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


def test_a_suspended_profile_sends_nothing_until_it_is_resumed(story: KindSteps, phases: Phases) -> None:
    place = story.place
    held = example("profile")
    held["spec"]["suspend"] = True
    batch = f"held{uuid4().hex[:6]}"
    load = Load(place, story.topic, welcomes(batch), 5)
    try:
        place.wait("letters flow", lambda: story.letters(f"{batch}-0@example.org"), 60)
        place.kubectl.apply(held, namespace=place.namespace)
        with phases("a profile is suspended, until no worker takes events any more"):
            place.wait("it says so", lambda: why(place, "smtpprofile", "shop") == "Suspended", 90)
        before = settled(story, batch)
        time.sleep(HELD_SECONDS)
        assert settled(story, batch) == before
        place.kubectl.apply(example("profile"), namespace=place.namespace)
    finally:
        sent = load.end(within=60)
    with phases(f"it is resumed, until each of {sent} letters is sent"):
        place.wait("every letter is sent", lambda: settled(story, batch) == sent, 120)


def why(place: KubeNamespace, kind: str, name: str) -> str:
    """The reason of an object's Ready condition."""
    found = (place.get(kind, name).get("status") or {}).get("conditions") or []
    return next((each["reason"] for each in found if each["type"] == "Ready"), "")


def test_a_bad_edit_is_named_and_the_last_good_revision_keeps_serving(story: KindSteps) -> None:
    place = story.place
    broken = example("welcome")
    broken["spec"]["subject"] = "Dear {{ frist_name }}"
    place.kubectl.apply(broken, namespace=place.namespace)
    place.wait(
        "the template says what is wrong",
        lambda: "frist_name" in str(place.get("emailtemplate", "welcome").get("status", {})),
        30,
    )
    recipient = f"{uuid4().hex[:8]}@example.org"
    data = {"first_name": "Mira", "confirm_url": "https://larkfield.example/confirm/2"}
    story.send("shop.user.welcomed", recipient, data)
    place.wait("a letter of the last good revision", lambda: story.letters(recipient), 30)
    assert story.letters(recipient)[0]["subject"] == "Edited for Mira"
    place.kubectl.apply(example("welcome"), namespace=place.namespace)
    place.wait("the template is ready again", lambda: place.ready("emailtemplate", "welcome"), 30)


def test_a_missing_secret_is_named_and_the_workers_continue_once_it_exists(
    story: KindSteps, phases: Phases
) -> None:
    place = story.place
    late = example("profile")
    late["metadata"]["name"] = "late"
    late["spec"]["connectionsSecretRef"] = {"name": "late-connections"}
    place.kubectl.apply(late, namespace=place.namespace)
    place.wait("the profile names the Secret", lambda: secret_is_missing(place, "late"), 120)

    there = place.get("secret", "postroom-connections")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late-connections"}}
    place.kubectl.apply({**secret, "data": there["data"]}, namespace=place.namespace)
    with phases("a Secret that was missing is created, until the profile is ready"):
        place.wait("the profile is ready", lambda: place.ready("smtpprofile", "late"), 240)
    assert restarts(place, "late") == {0}, "it waited and did not crash"
    place.kubectl("delete", "smtpprofile", "late", "-n", place.namespace)
    place.kubectl("delete", "secret", "late-connections", "-n", place.namespace)
    place.wait("its workers are gone", lambda: not restarts(place, "late"), 120)


def secret_is_missing(place: KubeNamespace, profile: str) -> bool:
    """Whether SecretsReady is False and says which Secret."""
    status = (place.get("smtpprofile", profile) or {}).get("status", {})
    found = [each for each in status.get("conditions", []) if each["type"] == "SecretsReady"]
    return any(each["status"] == "False" and f"{profile}-connections" in each["message"] for each in found)


def restarts(place: KubeNamespace, profile: str) -> set[int]:
    """How often the containers of a profile's workers were started again; empty where there are none."""
    pods = place.get(
        "pods", labels=f"{MINE},app.kubernetes.io/component=worker,postroom.dev/profile={profile}"
    )
    kinds = ("initContainerStatuses", "containerStatuses")
    statuses = [each for pod in pods for kind in kinds for each in pod["status"].get(kind, ())]
    return {each["restartCount"] for each in statuses}


def test_helm_test_sends_a_letter(story: KindSteps, phases: Phases) -> None:
    with phases("helm test"):
        try:
            # without --logs: Helm 3 looks for them when the pod of a good test is gone
            story.helm("test", RELEASE, "--timeout", "300s")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{story.place.dump()}") from None
    left = [each for each in story.place.get("pods") if each["metadata"]["name"] == f"{RELEASE}-test"]
    assert left == [], "a test that succeeded leaves nothing"


def test_a_report_that_comes_back_bounces_its_letter(story: KindSteps, phases: Phases) -> None:
    place = story.place
    key = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "return-paths"}}
    place.kubectl.apply({**key, "stringData": {"bounces.key": "k" * 44}}, namespace=place.namespace)
    asking = example("profile")
    asking["spec"]["bounces"] = {"domain": "bounces.larkfield.example", "secretRef": {"name": "return-paths"}}
    place.kubectl.apply(asking, namespace=place.namespace)
    with phases("a profile asks for bounces, until its workers and the intake are ready"):
        place.wait("the intake is ready", lambda: is_whole(place.get("deployment", INTAKE)), 120)
        place.wait("its workers sign return paths", lambda: place.ready("smtpprofile", "shop"), 180)
        place.wait("no worker of before is left", lambda: is_whole(deployment(place)), 180)
    recipient = "mira@example.net"  # whom the report names
    data = {"first_name": "Mira", "confirm_url": "https://larkfield.example/confirm/3"}
    story.send("shop.user.welcomed", recipient, data)
    place.wait("its letter is there", lambda: story.letters(recipient), 60)
    return_path = story.letters(recipient)[0]["mail_from"]
    with phases("a report over SMTP, until its letter is bounced"):
        publishing.report(place, f"{INTAKE}:25", return_path, REPORT.read_text())
        state = f"SELECT state FROM letter WHERE recipient = '{recipient}'"
        place.wait("the ledger says bounced", lambda: story.ledger(state) == "bounced", 30)
    place.kubectl.apply(example("profile"), namespace=place.namespace)
    place.wait("the intake is gone", lambda: place.get("deployment", INTAKE) is None, 60)


def is_whole(found: Any) -> bool:
    """Whether a Deployment runs all its pods, all of its newest revision."""
    if not found or found["status"].get("observedGeneration") != found["metadata"]["generation"]:
        return False
    counts = {found["status"].get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")}
    return counts == {found["spec"]["replicas"]}


def test_workers_grow_with_the_lag(story: KindSteps, phases: Phases) -> None:
    place = story.place
    if not place.kubectl.has("scaledobjects.keda.sh"):
        print("not tried: scaling by lag; this cluster has no KEDA")
        profile = place.get("smtpprofile", "shop")
        assert "autoscaling" not in profile["spec"].get("workers", {})
        return
    grown = example("profile")
    autoscaling = {"minReplicas": 1, "maxReplicas": 3, "lagThreshold": 100}
    # a slow worker with a fifth of a core, so that lag builds up
    grown["spec"]["workers"] = {"autoscaling": autoscaling, "resources": {"limits": {"cpu": "200m"}}}
    place.kubectl.apply(grown, namespace=place.namespace)
    place.wait("KEDA has the ScaledObject", lambda: is_scaled(place), 90)
    place.wait("one slow worker is all there is", lambda: is_alone(place), 180)
    backlog = LagSampler(story, welcomes("lag"))
    with phases(f"a lag of {LagSampler.LEAST:,} events and more, until the autoscaler asks for more workers"):
        # kept up, because a fast machine would process it before the autoscaler polls
        place.wait("more workers are wanted", lambda: backlog.keep_up() and is_grown(place), 300)
    place.wait("more than one is ready", lambda: deployment(place)["status"].get("readyReplicas", 0) > 1, 180)
    print(place.kubectl("get", "scaledobjects,hpa,pods", "-n", place.namespace))
    place.kubectl.apply(example("profile"), namespace=place.namespace)
    place.wait("the ScaledObject is gone", lambda: place.get("scaledobject", WORKERS) is None, 60)
    place.wait("all of them are sent", lambda: settled(story, "lag") == backlog.published, 300)


class LagSampler:
    """A backlog of events that is refilled whenever it is small."""

    LEAST = 3_000
    MOST = 60_000
    """The total: what three workers send in the minutes that the test waits for its end."""

    def __init__(self, story: KindSteps, events: Iterator[Object]) -> None:
        self._story = story
        self._events = events
        self.published = 0

    def keep_up(self) -> bool:
        """Publish again where the backlog is below its minimum; always true."""
        left = self.published - settled(self._story, "lag")
        if left < self.LEAST and self.published < self.MOST:
            events = list(islice(self._events, 2 * self.LEAST))
            assert publish(self._story.place, self._story.topic, events) == len(events)
            self.published += len(events)
        return True


def is_grown(place: KubeNamespace) -> bool:
    """Whether the autoscaler has requested more than one worker."""
    return bool(deployment(place)["spec"]["replicas"] > 1)


def is_scaled(place: KubeNamespace) -> bool:
    found = place.get("scaledobject", WORKERS) or {}
    return any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in found.get("status", {}).get("conditions", [])
    )


def deployment(place: KubeNamespace) -> Any:
    return place.get("deployment", WORKERS)


def is_alone(place: KubeNamespace) -> bool:
    """Whether one worker runs, of the newest revision, and none of an earlier one is left."""
    found = deployment(place)
    return is_whole(found) and found["spec"]["replicas"] == 1


def welcomes(batch: str) -> Iterator[Object]:
    """Endless events, each to its own recipient, whose ids begin with the batch's name."""
    for number in count():
        yield event(
            f"{batch}-{number}",
            "shop.user.welcomed",
            f"{batch}-{number}@example.org",
            {"first_name": f"Guest {number}", "confirm_url": f"https://larkfield.example/c/{number}"},
        )


def settled(story: KindSteps, batch: str) -> int:
    """The number of letters of a batch that the ledger records as accepted by the sandbox."""
    done = "state IN ('accepted', 'captured')"
    return int(story.ledger(f"SELECT count(*) FROM letter WHERE event_id LIKE '{batch}-%' AND {done}"))


def test_an_upgrade_under_load_loses_nothing(story: KindSteps, phases: Phases) -> None:
    place = story.place
    batch = f"load{uuid4().hex[:6]}"
    load = Load(place, story.topic, welcomes(batch), RATE)
    try:
        with phases(f"helm upgrade to another image under {RATE:.0f} events a second"):
            story.helm("upgrade", RELEASE, str(CHART), *story.values(NEXT), "--wait", "--timeout", "300s")
        with phases("then, until all workers run it"):
            place.wait("the workers run the next image", lambda: runs(place, WORKERS, NEXT), 400)
    finally:
        acknowledged = load.end(within=120)
    assert acknowledged == load.sent
    with phases(f"the end of the load, until each of {acknowledged} letters is settled"):
        place.wait("every letter is settled", lambda: settled(story, batch) == acknowledged, 600)
    query = (
        "SELECT state, count(*), sum(in_doubt_count) FROM letter "
        f"WHERE event_id LIKE '{batch}-%' GROUP BY state"
    )
    print(f"after the upgrade, by state, with doubts: {story.ledger(query)}")


def runs(place: KubeNamespace, deployment: str, image: str) -> bool:
    """Whether a Deployment runs completely on an image and no pod has another."""
    pods = place.get("pods", labels=f"{MINE},app.kubernetes.io/component=worker")
    images = {each["spec"]["containers"][0]["image"] for each in pods}
    return is_whole(place.get("deployment", deployment)) and images == {image}


def test_helm_uninstall_keeps_objects_and_workers_which_are_deleted_with_their_profile(
    story: KindSteps, phases: Phases
) -> None:
    place = story.place
    with phases("helm uninstall"):
        story.helm("uninstall", RELEASE, "--wait", "--timeout", "180s")
    assert place.get("deployment", OPERATOR) is None
    for each in definition_files():
        assert place.kubectl.has(each["metadata"]["name"])
    assert place.get("smtpprofile", "shop")
    assert place.get("deployment", WORKERS)
    assert place.get("pods", labels=f"{MINE},app.kubernetes.io/component=worker")
    with phases("kubectl delete of the objects, until all that they own is gone"):
        for kinds in ("emailtemplates", "emaillayouts", "smtpprofiles"):
            place.kubectl("delete", kinds, "--all", "-n", place.namespace)
        place.wait("nothing of Postroom's is left", lambda: not remains(place), 180)


def remains(place: KubeNamespace) -> list[str]:
    """The objects of the operator that still exist."""
    kinds = "deployments,configmaps,services,networkpolicies,poddisruptionbudgets,pods"
    found = place.kubectl("get", kinds, "-n", place.namespace, "-l", MINE, "-o", "name")
    return found.split()
