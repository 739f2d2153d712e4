import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from postroom.letter.bundle import unpack_bundle
from postroom_operator.apply import ReconcileResult
from postroom_operator.desired.deployment import may_deliver
from postroom_operator.desired.inputs import KafkaAccess
from postroom_operator.diff import Plan
from postroom_operator.models import (
    API_VERSION,
    Conflict,
    Invalid,
    NamespaceTerminating,
    Ref,
    TopicState,
    Unavailable,
    WorkerReport,
    ref_of,
)
from postroom_operator.names import labels
from postroom_operator.resync import Resync
from postroom_operator.store import profile_key
from tests.operator.operator_harness import NAMESPACE, OperatorHarness, layout, namespace, profile, template

Test = Callable[[OperatorHarness], Awaitable[None]]


def run(test: Test) -> None:
    asyncio.run(asyncio.wait_for(test(OperatorHarness()), 60))


async def started(harness: OperatorHarness) -> None:
    harness.apply(profile(), layout(), template("paid"), template("sent"))
    await harness.settle()


def test_the_bounce_server_is_created_with_its_first_profile_and_deleted_with_the_last() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        intake = {f"{kind}/postroom-bounces" for kind in ("Deployment", "Service", "NetworkPolicy")}
        assert not intake & set(harness.created_objects())
        asked = {"domain": "b.example", "secretRef": {"name": "return-paths"}}
        harness.apply(profile(bounces=asked))
        await harness.settle()
        assert intake <= set(harness.created_objects())
        assert "Deployment/postroom-sandbox" in harness.created_objects()
        harness.apply(profile())
        await harness.settle()
        assert not intake & set(harness.created_objects())

    run(test)


def test_manifests_become_workers_and_every_object_reports_it() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        assert {
            "ConfigMap/postroom-orders-bundle-00",
            "ConfigMap/postroom-orders-profile",
            "Deployment/postroom-orders",
            "NetworkPolicy/postroom-orders",
            "Deployment/postroom-sandbox",
            "Service/postroom-sandbox",
            "NetworkPolicy/postroom-sandbox",
        } <= set(harness.created_objects())
        assert set(harness.served()) == {"paid", "sent"}
        assert harness.condition("EmailTemplate", "paid")[:2] == ("True", "Serving")
        assert harness.status("EmailTemplate", "paid")["revision"] == harness.served()["paid"].revision
        assert harness.status("SmtpProfile", "orders")["templates"] == 2
        assert harness.condition("EmailLayout", "plain")[0] == "True"

    run(test)


def test_at_rest_nothing_is_written_and_a_new_process_writes_nothing_either() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        harness.pending |= harness.store.keys()
        assert await harness.settle() == []
        await harness.restart()
        assert harness.pending == harness.store.keys()
        assert await harness.settle() == []

    run(test)


def test_an_edit_writes_one_shard_and_one_status() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        harness.apply(template("paid", "<p>Hello again</p>"))
        written = await harness.settle()
        assert [(verb, ref.kind, ref.name) for verb, ref in written] == [
            ("apply", "ConfigMap", "postroom-orders-bundle-00"),
            ("status", "EmailTemplate", "paid"),
        ]
        assert "Hello again" in harness.served()["paid"].variants[0].html

    run(test)


def test_a_bad_edit_leaves_the_last_good_revision_serving_even_after_a_restart() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        good = harness.served()["paid"]
        harness.apply(template("paid", "<p>\n{{ missing }}</p>"))
        await harness.settle()
        assert harness.served()["paid"] == good
        status, reason, message = harness.condition("EmailTemplate", "paid")
        assert (status, reason) == ("False", "VariableUndeclared")
        assert "spec.html, line 2" in message
        assert f"revision {good.revision} stays in use" in message
        await harness.restart()
        assert await harness.settle() == []
        harness.apply(template("paid", "<p>Mended</p>"))
        await harness.settle()
        assert harness.served()["paid"] != good
        assert harness.condition("EmailTemplate", "paid")[0] == "True"

    run(test)


def test_a_topic_has_one_profile_and_the_next_gets_it_when_that_profile_is_deleted() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        harness.apply(profile("late", kafka={"topic": "postroom.shop.orders"}))
        await harness.settle()
        status, reason, message = harness.condition("SmtpProfile", "late")
        assert (status, reason) == ("False", "TopicConflict")
        assert "SmtpProfile orders has postroom.shop.orders" in message
        assert "Deployment/postroom-late" not in harness.created_objects()
        assert harness.condition("SmtpProfile", "orders")[1] != "TopicConflict"
        harness.cluster.remove(Ref(API_VERSION, "SmtpProfile", NAMESPACE, "orders"))
        await harness.settle()
        assert "Deployment/postroom-late" in harness.created_objects()
        assert harness.status("SmtpProfile", "late").get("problems", []) == []

    run(test)


def test_an_edit_takes_no_topic_from_its_profile_and_leaves_the_workers_as_they_are() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        harness.apply(profile("younger"))
        await harness.settle()
        before = harness.created_objects()["Deployment/postroom-orders"]
        harness.apply(profile(kafka={"topic": "postroom.shop.younger.dlq"}))
        await harness.settle()
        assert harness.condition("SmtpProfile", "orders")[1] == "TopicConflict"
        assert harness.condition("SmtpProfile", "younger")[1] != "TopicConflict"
        assert harness.created_objects()["Deployment/postroom-orders"] == before
        await harness.restart()
        assert await harness.settle() == []

    run(test)


def test_a_foreign_key_in_a_shard_is_not_read_as_the_last_good_revision() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        good = harness.status("EmailTemplate", "paid")["revision"]
        ref = Ref("v1", "ConfigMap", NAMESPACE, "postroom-orders-bundle-00")
        shard = harness.cluster.objects[ref]
        harness.cluster.put({**shard, "data": {"a-note": "by a user", **shard["data"]}})
        harness.apply(template("paid", "{{ missing }}"))
        await harness.settle()
        assert harness.condition("EmailTemplate", "paid")[0] == "False"
        assert harness.status("EmailTemplate", "paid")["revision"] == good

    run(test)


@pytest.mark.parametrize(
    ("what", "instead"), [('"name": "paid"', '"name": ["paid"]'), ("<p>Hello</p>", "\\ud800")]
)
def test_a_shard_that_no_release_can_read_is_rewritten(what: str, instead: str) -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        name = "ConfigMap/postroom-orders-bundle-00"
        shard = harness.created_objects()[name]
        ((key, text),) = shard["data"].items()
        assert what in text
        harness.cluster.put({**shard, "data": {key: text.replace(what, instead)}})
        await harness.settle()
        assert harness.created_objects()[name]["data"] == shard["data"]

    run(test)


def test_a_copy_of_a_shard_is_ignored_and_delays_nothing() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        shard = harness.created_objects()["ConfigMap/postroom-orders-bundle-00"]
        labels = shard["metadata"]["labels"]
        copy = {"namespace": NAMESPACE, "name": "postroom-orders-bundle-00-backup", "labels": labels}
        harness.apply({**shard, "metadata": copy})
        harness.cluster.remove(Ref(API_VERSION, "EmailTemplate", NAMESPACE, "paid"))
        await harness.settle()
        (text,) = harness.created_objects()["ConfigMap/postroom-orders-bundle-00"]["data"].values()
        assert [each.name for each in unpack_bundle(text)] == ["sent"]

    run(test)


def test_the_templates_of_a_deleted_profile_are_not_kept_in_memory() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        assert harness.context.observer._parsed
        harness.cluster.remove(Ref(API_VERSION, "SmtpProfile", NAMESPACE, "orders"))
        await harness.settle()
        assert not harness.context.observer._parsed, "though its ConfigMaps go only after it"

    run(test)


def test_an_operator_that_cannot_read_its_own_secret_keeps_the_way_to_the_brokers() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        policy = harness.created_objects()["NetworkPolicy/postroom-orders"]
        assert "9096" in str(policy["spec"]["egress"])
        harness.kafka = KafkaAccess()
        await harness.restart()
        assert await harness.settle() == []
        harness.apply(profile(workers={"replicas": 2}, networkPolicy={"peers": [{"podSelector": {}}]}))
        await harness.settle()
        assert "9096" in str(harness.created_objects()["NetworkPolicy/postroom-orders"]["spec"]["egress"])

    run(test)


@pytest.mark.parametrize("text", ["", "{", '{"sasl_mechanism": "GSSAPI"}', "[]"])
def test_an_edited_kafka_annotation_stops_nothing(text: str) -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        policy = harness.created_objects()["NetworkPolicy/postroom-orders"]
        noted = {**policy["metadata"], "annotations": {"postroom.dev/kafka": text}}
        harness.kafka = KafkaAccess()
        harness.cluster.put({**policy, "metadata": noted})
        await harness.settle()
        assert harness.errors == []
        assert "9092" in str(harness.created_objects()["NetworkPolicy/postroom-orders"]["spec"]["egress"])

    run(test)


def test_deleted_objects_leave_nothing_in_memory() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        await harness.restart()
        await harness.settle()
        before = (
            set(harness.store._objects),
            set(harness.store._index),
            set(harness.context.observer._parsed),
        )
        for number in range(3):
            name = f"passing-{number}"
            harness.apply(profile(name), template(name, smtpProfileRef={"name": name}))
            await harness.settle()
            for ref in [ref for ref in harness.cluster.objects if name in ref.name]:
                harness.cluster.remove(ref)
            await harness.settle()
        await Resync(harness.cluster, harness.store, (), harness.pending.update).once()
        await harness.settle()
        after = (
            set(harness.store._objects),
            set(harness.store._index),
            set(harness.context.observer._parsed),
        )
        assert after == before
        assert harness.store._gone == {}
        assert harness.external.wanted == {profile_key(NAMESPACE, "orders")}

    run(test)


def test_a_template_whose_first_revision_is_bad_is_not_served() -> None:
    async def test(harness: OperatorHarness) -> None:
        harness.apply(profile(), template("paid", "{{ missing }}"), template("sent"))
        await harness.settle()
        assert set(harness.served()) == {"sent"}

    run(test)


def test_a_slow_validation_delays_no_other_template_and_stops_nothing() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        before = harness.served()["paid"]
        harness.validator.slow.add("paid")
        harness.apply(template("paid", "<p>Slow</p>"), template("sent", "<p>Quick</p>"))
        await harness.settle()
        assert harness.served()["paid"] == before
        assert "Quick" in harness.served()["sent"].variants[0].html
        assert harness.condition("EmailTemplate", "paid", "Compiled")[:2] == ("Unknown", "Validating")

    run(test)


def test_an_operator_that_validates_everything_again_writes_nothing_while_that_is_slow() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        harness.validator.slow.update({"paid", "sent"})
        await harness.restart()
        assert await harness.settle() == []

    run(test)


def test_templates_wait_for_their_profile_and_for_their_layout() -> None:
    async def test(harness: OperatorHarness) -> None:
        html = "{% block content %}<p>Hi</p>{% endblock %}"
        harness.apply(template("paid", html, layoutRef={"name": "plain"}))
        await harness.settle()
        assert harness.condition("EmailTemplate", "paid")[:2] == ("False", "LayoutNotFound")
        harness.apply(layout())
        await harness.settle()
        assert harness.condition("EmailTemplate", "paid")[:2] == ("False", "ProfileNotFound")
        assert harness.created_objects() == {}
        harness.apply(profile())
        await harness.settle()
        assert harness.condition("EmailTemplate", "paid")[0] == "True"

    run(test)


def test_the_log_reports_once_that_an_object_is_not_ready_and_once_that_it_is_ready_again() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        with capture_logs() as lines:
            harness.apply(template("paid", "<p>{{ nmae }}</p>"))
            await harness.settle()
            await harness.restart()
            await harness.settle()
            harness.apply(template("paid"))
            await harness.settle()
        logged = [line for line in lines if line["event"] == "Ready changed"]
        assert [(each["log_level"], each["object"], each["ready"], each["reason"]) for each in logged] == [
            ("warning", "EmailTemplate shop/paid", "False", "VariableUndeclared"),
            ("info", "EmailTemplate shop/paid", "True", "Serving"),
        ]
        assert logged[0]["message"].startswith("spec.html, line 1: `nmae`")

    run(test)


def test_a_layout_that_breaks_its_templates_reports_it_and_their_last_revisions_stay() -> None:
    async def test(harness: OperatorHarness) -> None:
        html = "{% block content %}{% include 'foot' %}{% endblock %}"
        foot = layout()
        foot["spec"]["partials"] = [{"name": "foot", "html": "<p>Foot</p>"}]
        harness.apply(profile(), foot, template("paid", html, layoutRef={"name": "plain"}))
        await harness.settle()
        good = harness.served()["paid"]
        harness.apply(layout())
        await harness.settle()
        assert harness.served()["paid"] == good
        assert harness.condition("EmailTemplate", "paid")[:2] == ("False", "PartialNotFound")
        assert harness.condition("EmailLayout", "plain")[:2] == ("False", "TemplatesFail")

    run(test)


@pytest.mark.parametrize(
    ("html", "subject", "ready"),
    [
        ("<p>Hello</p>", "{{ nmae }}", ("True", "Valid")),
        ("{% block content %}<p>{{ nmae }}</p>{% endblock %}", "Paid", ("True", "Valid")),
        ("{% block why %}<p>Hello</p>{% endblock %}", "Paid", ("False", "TemplatesFail")),
    ],
)
def test_a_layout_is_not_blamed_for_a_templates_own_mistake(
    html: str, subject: str, ready: tuple[str, str]
) -> None:
    async def test(harness: OperatorHarness) -> None:
        harness.apply(
            profile(), layout(), template("paid", html, subject=subject, layoutRef={"name": "plain"})
        )
        await harness.settle()
        assert harness.condition("EmailTemplate", "paid")[0] == "False"
        assert harness.condition("EmailLayout", "plain")[:2] == ready

    run(test)


def test_a_variable_that_a_template_lacks_for_its_layout_is_reported_by_the_layout_too() -> None:
    async def test(harness: OperatorHarness) -> None:
        page = layout(html="<body>{{ brand }}{% block content %}{% endblock %}</body>")
        harness.apply(profile(), page, template("paid", layoutRef={"name": "plain"}))
        await harness.settle()
        message = "template paid is invalid with this layout; see its status"
        assert harness.condition("EmailLayout", "plain") == ("False", "TemplatesFail", message)

    run(test)


def test_a_template_that_moves_goes_from_one_profile_to_the_other() -> None:
    async def test(harness: OperatorHarness) -> None:
        harness.apply(profile(), profile("news"), template("paid"))
        await harness.settle()
        harness.apply(template("paid", smtpProfileRef={"name": "news"}))
        await harness.settle()
        assert (set(harness.served()), set(harness.served("news"))) == (set(), {"paid"})

    run(test)


def test_the_oldest_template_has_an_event_type_and_the_next_one_gets_it_when_that_goes() -> None:
    async def test(harness: OperatorHarness) -> None:
        young, old = template("a", eventTypes=["shop.paid"]), template("b", eventTypes=["shop.paid"])
        young["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
        old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        harness.apply(profile(), young, old)
        await harness.settle()
        assert set(harness.served()) == {"b"}
        assert harness.condition("EmailTemplate", "a")[:2] == ("False", "EventTypeConflict")
        harness.cluster.remove(Ref(API_VERSION, "EmailTemplate", NAMESPACE, "b"))
        await harness.settle()
        assert set(harness.served()) == {"a"}

    run(test)


@pytest.mark.parametrize("how", ["deleted", "edited", "unlabelled"])
def test_a_change_of_a_child_is_reverted(how: str) -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        wanted = harness.created_objects()
        for ref in [ref for ref in harness.cluster.objects if ref.api_version != API_VERSION]:
            if ref.kind in ("Namespace", "Event"):
                continue
            found = harness.cluster.objects[ref]
            match how:
                case "deleted":
                    harness.cluster.remove(ref)
                case "edited":
                    field = "data" if ref.kind == "ConfigMap" else "spec"
                    harness.cluster.put({**found, field: {"hacked": "yes"}})
                case _:
                    harness.cluster.put({**found, "metadata": {**found["metadata"], "labels": {}}})
            await harness.settle()
        now = harness.created_objects()
        assert now.keys() == wanted.keys()
        for name, each in wanted.items():
            assert each["metadata"]["labels"] == now[name]["metadata"]["labels"]
            if each["kind"] == "ConfigMap":
                assert now[name]["data"].items() >= each["data"].items()

    run(test)


def test_objects_of_another_owner_are_never_taken_over() -> None:
    async def test(harness: OperatorHarness) -> None:
        theirs = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"namespace": NAMESPACE, "name": "postroom-orders-profile"},
            "data": {"theirs": "yes"},
        }
        harness.apply(theirs)
        await started(harness)
        assert harness.created_objects()["ConfigMap/postroom-orders-profile"]["data"] == {"theirs": "yes"}
        status, _, message = harness.condition("SmtpProfile", "orders")
        assert status == "False"
        assert "does not belong to Postroom" in message

    run(test)


def test_smtp_takes_effect_only_in_a_namespace_that_is_labelled() -> None:
    async def test(harness: OperatorHarness) -> None:
        harness.apply(profile(mode="SMTP", smtp={"host": "smtp.example.org"}))
        await harness.settle()
        assert harness.status("SmtpProfile", "orders")["mode"] == "Sandbox"
        assert "Deployment/postroom-sandbox" in harness.created_objects()
        harness.apply(namespace(**{"postroom.dev/delivery": "allowed"}))
        await harness.settle()
        assert harness.status("SmtpProfile", "orders")["mode"] == "SMTP"
        assert "Deployment/postroom-sandbox" not in harness.created_objects()
        harness.apply(namespace(**{"postroom.dev/delivery": "yes"}))
        await harness.settle()
        assert harness.status("SmtpProfile", "orders")["mode"] == "Sandbox"

    run(test)


def test_a_rejected_object_is_reported_and_the_others_are_created() -> None:
    async def test(harness: OperatorHarness) -> None:
        def refuse(verb: str, ref: Ref) -> None:
            if ref.kind == "PodDisruptionBudget":
                raise Invalid("spec.maxUnavailable: is not valid", 422)

        harness.cluster.before = refuse
        harness.apply(profile(workers={"replicas": 2}), template("paid"))
        await harness.settle()
        assert "Deployment/postroom-orders" in harness.created_objects()
        status, reason, message = harness.condition("SmtpProfile", "orders")
        assert (status, reason) == ("False", "NotApplied")
        assert "spec.maxUnavailable" in message
        assert harness.condition("EmailTemplate", "paid")[0] == "True"

    run(test)


def test_no_template_is_served_while_the_api_server_rejects_its_bundle() -> None:
    """Reject ConfigMaps, as a quota does."""

    async def test(harness: OperatorHarness) -> None:
        def refuse(verb: str, ref: Ref) -> None:
            if verb == "apply" and "-bundle-" in ref.name:
                raise Invalid("exceeded quota: team", 403)

        harness.cluster.before = refuse
        await started(harness)
        expected = ("False", "ProfileInvalid", "SmtpProfile orders is invalid or not applied")
        status, reason, message = harness.condition("EmailTemplate", "paid")
        assert (status, reason, message.partition(";")[0]) == expected
        assert "revision" not in harness.status("EmailTemplate", "paid")
        assert harness.status("SmtpProfile", "orders")["templates"] == 0
        harness.cluster.before = lambda *_: None
        harness.pending |= harness.store.keys()
        await harness.settle()
        assert harness.condition("EmailTemplate", "paid")[:2] == ("True", "Serving")

    run(test)


@pytest.mark.parametrize("name", ["NetworkPolicy/postroom-orders", "ConfigMap/postroom-orders-profile"])
@pytest.mark.parametrize("theirs", [False, True], ids=["refused", "foreign"])
def test_no_worker_starts_without_its_network_policy_and_its_profile(name: str, theirs: bool) -> None:
    kind, _, called = name.partition("/")

    async def test(harness: OperatorHarness) -> None:
        def refuse(verb: str, ref: Ref) -> None:
            if (ref.kind, ref.name) == (kind, called):
                raise Invalid("is not valid", 422)

        if theirs:
            group = "v1" if kind == "ConfigMap" else "networking.k8s.io/v1"
            harness.apply(
                {"apiVersion": group, "kind": kind, "metadata": {"namespace": NAMESPACE, "name": called}}
            )
        else:
            harness.cluster.before = refuse
        await started(harness)
        assert "Deployment/postroom-orders" not in harness.created_objects()
        status, reason, message = harness.condition("SmtpProfile", "orders")
        assert (status, reason) == ("False", "NotApplied")
        assert f"Deployment shop/postroom-orders is not created without {kind} shop/{called}" in message
        assert "Deployment/postroom-sandbox" in harness.created_objects()

    run(test)


@pytest.mark.parametrize("verb", ["delete", "annotate"])
def test_a_rejected_step_does_not_keep_the_statuses_from_being_written(verb: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": NAMESPACE, "name": "x", "labels": labels("worker", "orders")},
    }

    async def test(harness: OperatorHarness) -> None:
        harness.apply(profile(workers={"replicas": 2}), template("paid"), pod)
        await harness.settle()

        def refuse(asked: str, ref: Ref) -> None:
            if asked == verb:
                raise Invalid("denied by a policy", 403)

        harness.cluster.before = refuse
        harness.apply(profile(), template("paid", "<p>Hello again</p>"))
        await harness.settle()
        assert harness.errors == []
        assert harness.condition("EmailTemplate", "paid")[0] == "True"
        status, reason, message = harness.condition("SmtpProfile", "orders")
        if verb == "annotate":
            assert reason != "NotApplied", "its kubelet looks by itself, later"
        else:
            assert (status, reason) == ("False", "NotApplied")
            assert message == "PodDisruptionBudget shop/postroom-orders: denied by a policy"

    run(test)


def test_a_number_of_workers_that_cannot_be_handed_over_stays_owned() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)

        def refuse(verb: str, ref: Ref) -> None:
            if verb == "scale":
                raise Invalid("denied by a policy", 403)

        harness.cluster.before = refuse
        deployment = harness.created_objects()["Deployment/postroom-orders"]
        plan = Plan(scale=((ref_of(deployment), 3),), apply=({**deployment, "spec": {}},))
        done = await harness.context.applier.apply(plan)
        assert done == ReconcileResult(0, ("Deployment shop/postroom-orders: denied by a policy",))
        assert harness.created_objects()["Deployment/postroom-orders"] == deployment

    run(test)


def test_existing_workers_follow_their_profile_whatever_is_rejected() -> None:
    async def test(harness: OperatorHarness) -> None:
        harness.apply(namespace(**ALLOWED), profile(**RELAY))
        await harness.settle()

        def refuse(verb: str, ref: Ref) -> None:
            if ref.kind == "NetworkPolicy":
                raise Invalid("is not valid", 422)

        harness.cluster.before = refuse
        harness.apply(namespace())
        await harness.settle()
        assert not may_deliver(harness.created_objects()["Deployment/postroom-orders"]), (
            "or the guard would be held up"
        )

    run(test)


@pytest.mark.parametrize(
    "error",
    [Unavailable("later", 429, 1.0), Unavailable("no answer"), Conflict("another client was faster", 409)],
)
def test_an_api_server_that_fails_every_third_write_is_retried(error: Exception) -> None:
    async def test(harness: OperatorHarness) -> None:
        calls = 0

        def fail(verb: str, ref: Ref) -> None:
            nonlocal calls
            calls += 1
            if calls % 3 == 0:
                raise error

        harness.cluster.before = fail
        await started(harness)
        harness.pending |= harness.store.keys()
        await harness.settle()
        assert set(harness.served()) == {"paid", "sent"}

    run(test)


def test_in_a_namespace_that_is_being_deleted_nothing_is_created_and_nothing_fails() -> None:
    async def test(harness: OperatorHarness) -> None:
        ending = namespace()
        ending["metadata"]["deletionTimestamp"] = "2026-01-05T09:30:00Z"
        harness.apply(ending, profile(), template("paid"))

        def refuse(verb: str, ref: Ref) -> None:
            raise NamespaceTerminating("namespace is being terminated", 403)

        harness.cluster.before = refuse
        assert await harness.settle() == []
        assert harness.errors == []

    run(test)


@pytest.mark.parametrize("whole", [False, True], ids=["alone", "with its namespace"])
def test_the_topics_of_a_deleted_profile_are_no_longer_managed(whole: bool) -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        assert harness.external.wanted == {profile_key(NAMESPACE, "orders")}
        if whole:
            ending = namespace()
            ending["metadata"]["deletionTimestamp"] = "2026-01-05T09:30:00Z"
            harness.apply(ending)
            await harness.settle()
        else:
            harness.cluster.remove(Ref(API_VERSION, "SmtpProfile", NAMESPACE, "orders"))
            await harness.settle()
        assert harness.external.wanted == set(), "or they would be created again after their deletion"

    run(test)


def test_a_profile_that_is_not_valid_says_why_and_its_workers_stay_as_they_are() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        before = harness.created_objects()
        harness.apply(profile(kafka={"topic": "elsewhere.orders"}))
        await harness.settle()
        assert harness.created_objects() == before
        status, reason, message = harness.condition("SmtpProfile", "orders")
        assert (status, reason) == ("False", "ManifestInvalid")
        assert "spec.kafka.topic" in message

    run(test)


RELAY: dict[str, Any] = {"mode": "SMTP", "smtp": {"host": "smtp.example.org"}}
FAULTY: dict[str, Any] = {"kafka": {"topic": "elsewhere.orders"}}
ALLOWED = {"postroom.dev/delivery": "allowed"}


def test_a_fault_in_a_profile_takes_no_letter_past_the_guard() -> None:
    async def test(harness: OperatorHarness) -> None:
        harness.apply(namespace(**ALLOWED), profile(**RELAY))
        await harness.settle()
        harness.apply(profile(**RELAY, **FAULTY))
        await harness.settle()
        assert "Deployment/postroom-orders" in harness.created_objects(), "its workers stay as they were"
        assert harness.status("SmtpProfile", "orders")["mode"] == "SMTP"
        harness.apply(namespace())
        await harness.settle()
        assert "Deployment/postroom-orders" not in harness.created_objects(), (
            "their environment allows delivery"
        )
        assert harness.status("SmtpProfile", "orders")["mode"] == "Sandbox"
        assert harness.condition("SmtpProfile", "orders", "DeliveryAllowed")[0] == "False"
        assert harness.condition("SmtpProfile", "orders")[1] == "ManifestInvalid"
        harness.apply(profile(**RELAY))
        await harness.settle()
        assert "Deployment/postroom-orders" in harness.created_objects()
        assert harness.condition("SmtpProfile", "orders", "DeliveryAllowed")[0] == "False"

    run(test)


def test_a_profile_whose_deletion_is_blocked_takes_no_letter_past_the_guard() -> None:
    async def test(harness: OperatorHarness) -> None:
        harness.apply(namespace(**ALLOWED), profile(**RELAY))
        await harness.settle()
        ending = profile(**RELAY)
        ending["metadata"] |= {
            "deletionTimestamp": "2026-01-05T09:30:00Z",
            "finalizers": ["example.org/held"],
        }
        harness.apply(ending)
        await harness.settle()
        assert "Deployment/postroom-orders" in harness.created_objects()
        harness.apply(namespace())
        await harness.settle()
        assert "Deployment/postroom-orders" not in harness.created_objects()

    run(test)


def test_a_rejected_object_takes_no_letter_past_the_guard() -> None:
    async def test(harness: OperatorHarness) -> None:
        harness.apply(namespace(**ALLOWED), profile(**RELAY))
        await harness.settle()

        def refuse(verb: str, ref: Ref) -> None:
            if (verb, ref.kind, ref.name) == ("apply", "Deployment", "postroom-orders"):
                raise Invalid("spec.template.spec.tolerations[0]: is not valid", 422)

        harness.cluster.before = refuse
        harness.apply(namespace())
        await harness.settle()
        assert "Deployment/postroom-orders" not in harness.created_objects()
        assert "tolerations" in harness.condition("SmtpProfile", "orders")[2]

    run(test)


def test_an_invalid_profile_does_not_report_that_it_may_deliver() -> None:
    async def test(harness: OperatorHarness) -> None:
        harness.apply(profile(**RELAY, **FAULTY))
        await harness.settle()
        assert harness.condition("SmtpProfile", "orders", "DeliveryAllowed")[1] == "NamespaceNotLabelled"
        assert harness.status("SmtpProfile", "orders")["mode"] == "Sandbox"

    run(test)


def test_workers_of_another_mode_end_before_new_ones_begin() -> None:
    async def test(harness: OperatorHarness) -> None:
        def workers(effect: str) -> None:
            labels = harness.created_objects()["Deployment/postroom-orders"]["metadata"]["labels"]
            pod = {"namespace": NAMESPACE, "name": "postroom-orders-x", "labels": labels}
            pod |= {"annotations": {"postroom.dev/effect": effect, "postroom.dev/bundle": "x"}}
            harness.apply(
                {"apiVersion": "v1", "kind": "Pod", "metadata": pod, "status": {"phase": "Running"}}
            )

        def strategy() -> str:
            found: str = harness.created_objects()["Deployment/postroom-orders"]["spec"]["strategy"]["type"]
            return found

        await started(harness)
        workers("Sandbox")
        await harness.settle()
        assert strategy() == "RollingUpdate"
        harness.apply(profile(suspend=True))
        await harness.settle()
        assert strategy() == "Recreate"
        assert harness.condition("SmtpProfile", "orders")[1] == "Suspending"
        harness.cluster.remove(Ref("v1", "Pod", NAMESPACE, "postroom-orders-x"))
        await harness.settle()
        assert strategy() == "RollingUpdate"
        assert harness.condition("SmtpProfile", "orders")[1] == "Suspended"

    run(test)


def test_pods_are_annotated_once_for_a_new_bundle() -> None:
    async def test(harness: OperatorHarness) -> None:
        await started(harness)
        labels = harness.created_objects()["Deployment/postroom-orders"]["metadata"]["labels"]
        pod = {"namespace": NAMESPACE, "name": "postroom-orders-x", "labels": labels}
        harness.apply({"apiVersion": "v1", "kind": "Pod", "metadata": pod, "status": {"phase": "Running"}})
        harness.apply(template("paid", "<p>Edited</p>"))
        verbs = [verb for verb, _ in await harness.settle()]
        assert verbs == ["apply", "annotate", "status"], "the pods are annotated after the bundle is written"
        harness.pending |= harness.store.keys()
        assert await harness.settle() == []

    run(test)


def test_workers_are_polled_often_during_a_rollout_and_counted() -> None:
    async def test(harness: OperatorHarness) -> None:
        harness.external.worker_reports = (WorkerReport("one"), WorkerReport("two"))
        await started(harness)
        assert harness.condition("EmailTemplate", "paid")[:2] == ("False", "RollingOut")
        assert harness.external.polled_faster
        revision = harness.served()["paid"].revision
        harness.external.worker_reports = tuple(
            WorkerReport(pod, templates={"paid": revision}) for pod in ("one", "two")
        )
        harness.pending |= harness.store.keys()
        await harness.settle()
        assert harness.condition("EmailTemplate", "paid")[0] == "True"
        assert harness.status("EmailTemplate", "paid")["workersCurrent"] == 2

    run(test)


def test_an_unreachable_broker_delays_no_template() -> None:
    async def test(harness: OperatorHarness) -> None:
        topic = "postroom.shop.orders"
        harness.external.topics[topic] = TopicState(
            topic, problem="no broker answers", reason="BrokerUnreachable"
        )
        await started(harness)
        assert harness.condition("EmailTemplate", "paid")[0] == "True"
        assert harness.condition("SmtpProfile", "orders", "TopicReady")[:2] == ("False", "BrokerUnreachable")

    run(test)


class Killed(BaseException):
    """The process was killed."""


@pytest.mark.parametrize("step", range(30))
def test_a_process_that_is_killed_at_any_write_leaves_a_state_that_the_next_one_completes(
    step: int,
) -> None:
    async def test(harness: OperatorHarness) -> None:
        undisturbed = OperatorHarness()
        for each in (harness, undisturbed):
            each.apply(profile(), layout(), template("paid"), template("sent"), template("bad", "{{ x }}"))
        await undisturbed.settle()
        left = step

        def kill(verb: str, ref: Ref) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        harness.cluster.before = kill
        try:
            await harness.settle()
        except Killed:
            harness.cluster.before = lambda *_: None
            await harness.restart()
            await harness.settle()
        assert harness.created_objects().keys() == undisturbed.created_objects().keys()
        assert harness.served() == undisturbed.served()
        for name in ("paid", "sent", "bad"):
            assert harness.condition("EmailTemplate", name) == undisturbed.condition("EmailTemplate", name)
        harness.pending |= harness.store.keys()
        assert await harness.settle() == []

    run(test)
