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


async def started(world: OperatorHarness) -> None:
    world.apply(profile(), layout(), template("paid"), template("sent"))
    await world.settle()


def test_the_bounce_server_is_created_with_its_first_profile_and_deleted_with_the_last() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        intake = {f"{kind}/postroom-bounces" for kind in ("Deployment", "Service", "NetworkPolicy")}
        assert not intake & set(world.created_objects())
        asked = {"domain": "b.example", "secretRef": {"name": "return-paths"}}
        world.apply(profile(bounces=asked))
        await world.settle()
        assert intake <= set(world.created_objects())
        assert "Deployment/postroom-sandbox" in world.created_objects()
        world.apply(profile())
        await world.settle()
        assert not intake & set(world.created_objects())

    run(test)


def test_manifests_become_workers_and_every_object_reports_it() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        assert {
            "ConfigMap/postroom-orders-bundle-00",
            "ConfigMap/postroom-orders-profile",
            "Deployment/postroom-orders",
            "NetworkPolicy/postroom-orders",
            "Deployment/postroom-sandbox",
            "Service/postroom-sandbox",
            "NetworkPolicy/postroom-sandbox",
        } <= set(world.created_objects())
        assert set(world.served()) == {"paid", "sent"}
        assert world.condition("EmailTemplate", "paid")[:2] == ("True", "Serving")
        assert world.status("EmailTemplate", "paid")["revision"] == world.served()["paid"].revision
        assert world.status("SmtpProfile", "orders")["templates"] == 2
        assert world.condition("EmailLayout", "plain")[0] == "True"

    run(test)


def test_at_rest_nothing_is_written_and_a_new_process_writes_nothing_either() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        world.pending |= world.store.keys()
        assert await world.settle() == []
        await world.restart()
        assert world.pending == world.store.keys()
        assert await world.settle() == []

    run(test)


def test_an_edit_writes_one_shard_and_one_status() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        world.apply(template("paid", "<p>Hello again</p>"))
        written = await world.settle()
        assert [(verb, ref.kind, ref.name) for verb, ref in written] == [
            ("apply", "ConfigMap", "postroom-orders-bundle-00"),
            ("status", "EmailTemplate", "paid"),
        ]
        assert "Hello again" in world.served()["paid"].variants[0].html

    run(test)


def test_a_bad_edit_leaves_the_last_good_revision_serving_even_after_a_restart() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        good = world.served()["paid"]
        world.apply(template("paid", "<p>\n{{ nobody }}</p>"))
        await world.settle()
        assert world.served()["paid"] == good
        status, reason, message = world.condition("EmailTemplate", "paid")
        assert (status, reason) == ("False", "VariableUndeclared")
        assert "spec.html, line 2" in message
        assert f"revision {good.revision} stays in use" in message
        await world.restart()
        assert await world.settle() == []
        world.apply(template("paid", "<p>Mended</p>"))
        await world.settle()
        assert world.served()["paid"] != good
        assert world.condition("EmailTemplate", "paid")[0] == "True"

    run(test)


def test_a_topic_has_one_profile_and_the_next_gets_it_when_that_profile_is_deleted() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        world.apply(profile("late", kafka={"topic": "postroom.shop.orders"}))
        await world.settle()
        status, reason, message = world.condition("SmtpProfile", "late")
        assert (status, reason) == ("False", "TopicConflict")
        assert "SmtpProfile orders has postroom.shop.orders" in message
        assert "Deployment/postroom-late" not in world.created_objects()
        assert world.condition("SmtpProfile", "orders")[1] != "TopicConflict"
        world.cluster.remove(Ref(API_VERSION, "SmtpProfile", NAMESPACE, "orders"))
        await world.settle()
        assert "Deployment/postroom-late" in world.created_objects()
        assert world.status("SmtpProfile", "late").get("problems", []) == []

    run(test)


def test_an_edit_takes_no_topic_from_its_profile_and_leaves_the_workers_as_they_are() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        world.apply(profile("younger"))
        await world.settle()
        before = world.created_objects()["Deployment/postroom-orders"]
        world.apply(profile(kafka={"topic": "postroom.shop.younger.dlq"}))
        await world.settle()
        assert world.condition("SmtpProfile", "orders")[1] == "TopicConflict"
        assert world.condition("SmtpProfile", "younger")[1] != "TopicConflict"
        assert world.created_objects()["Deployment/postroom-orders"] == before
        await world.restart()
        assert await world.settle() == []

    run(test)


def test_a_foreign_key_in_a_shard_is_not_read_as_the_last_good_revision() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        good = world.status("EmailTemplate", "paid")["revision"]
        ref = Ref("v1", "ConfigMap", NAMESPACE, "postroom-orders-bundle-00")
        shard = world.cluster.objects[ref]
        world.cluster.put({**shard, "data": {"a-note": "of somebody's", **shard["data"]}})
        world.apply(template("paid", "{{ nobody }}"))
        await world.settle()
        assert world.condition("EmailTemplate", "paid")[0] == "False"
        assert world.status("EmailTemplate", "paid")["revision"] == good

    run(test)


@pytest.mark.parametrize(
    ("what", "instead"), [('"name": "paid"', '"name": ["paid"]'), ("<p>Hello</p>", "\\ud800")]
)
def test_a_shard_that_no_release_can_read_is_rewritten(what: str, instead: str) -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        name = "ConfigMap/postroom-orders-bundle-00"
        shard = world.created_objects()[name]
        ((key, text),) = shard["data"].items()
        assert what in text
        world.cluster.put({**shard, "data": {key: text.replace(what, instead)}})
        await world.settle()
        assert world.created_objects()[name]["data"] == shard["data"]

    run(test)


def test_a_copy_of_a_shard_is_ignored_and_delays_nothing() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        shard = world.created_objects()["ConfigMap/postroom-orders-bundle-00"]
        labels = shard["metadata"]["labels"]
        copy = {"namespace": NAMESPACE, "name": "postroom-orders-bundle-00-backup", "labels": labels}
        world.apply({**shard, "metadata": copy})
        world.cluster.remove(Ref(API_VERSION, "EmailTemplate", NAMESPACE, "paid"))
        await world.settle()
        (text,) = world.created_objects()["ConfigMap/postroom-orders-bundle-00"]["data"].values()
        assert [each.name for each in unpack_bundle(text)] == ["sent"]

    run(test)


def test_the_templates_of_a_deleted_profile_are_not_kept_in_memory() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        assert world.context.observer._parsed
        world.cluster.remove(Ref(API_VERSION, "SmtpProfile", NAMESPACE, "orders"))
        await world.settle()
        assert not world.context.observer._parsed, "though its ConfigMaps go only after it"

    run(test)


def test_an_operator_that_cannot_read_its_own_secret_keeps_the_way_to_the_brokers() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        policy = world.created_objects()["NetworkPolicy/postroom-orders"]
        assert "9096" in str(policy["spec"]["egress"])
        world.kafka = KafkaAccess()
        await world.restart()
        assert await world.settle() == []
        world.apply(profile(workers={"replicas": 2}, networkPolicy={"peers": [{"podSelector": {}}]}))
        await world.settle()
        assert "9096" in str(world.created_objects()["NetworkPolicy/postroom-orders"]["spec"]["egress"])

    run(test)


@pytest.mark.parametrize("text", ["", "{", '{"sasl_mechanism": "GSSAPI"}', "[]"])
def test_an_edited_kafka_annotation_stops_nothing(text: str) -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        policy = world.created_objects()["NetworkPolicy/postroom-orders"]
        noted = {**policy["metadata"], "annotations": {"postroom.dev/kafka": text}}
        world.kafka = KafkaAccess()
        world.cluster.put({**policy, "metadata": noted})
        await world.settle()
        assert world.errors == []
        assert "9092" in str(world.created_objects()["NetworkPolicy/postroom-orders"]["spec"]["egress"])

    run(test)


def test_deleted_objects_leave_nothing_in_memory() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        await world.restart()
        await world.settle()
        before = (set(world.store._objects), set(world.store._index), set(world.context.observer._parsed))
        for number in range(3):
            name = f"passing-{number}"
            world.apply(profile(name), template(name, smtpProfileRef={"name": name}))
            await world.settle()
            for ref in [ref for ref in world.cluster.objects if name in ref.name]:
                world.cluster.remove(ref)
            await world.settle()
        await Resync(world.cluster, world.store, (), world.pending.update).once()
        await world.settle()
        after = (set(world.store._objects), set(world.store._index), set(world.context.observer._parsed))
        assert after == before
        assert world.store._gone == {}
        assert world.external.wanted == {profile_key(NAMESPACE, "orders")}

    run(test)


def test_a_template_whose_first_revision_is_bad_is_not_served() -> None:
    async def test(world: OperatorHarness) -> None:
        world.apply(profile(), template("paid", "{{ nobody }}"), template("sent"))
        await world.settle()
        assert set(world.served()) == {"sent"}

    run(test)


def test_a_slow_validation_delays_no_other_template_and_stops_nothing() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        before = world.served()["paid"]
        world.validator.slow.add("paid")
        world.apply(template("paid", "<p>Slow</p>"), template("sent", "<p>Quick</p>"))
        await world.settle()
        assert world.served()["paid"] == before
        assert "Quick" in world.served()["sent"].variants[0].html
        assert world.condition("EmailTemplate", "paid", "Compiled")[:2] == ("Unknown", "Validating")

    run(test)


def test_an_operator_that_validates_everything_again_writes_nothing_while_that_is_slow() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        world.validator.slow.update({"paid", "sent"})
        await world.restart()
        assert await world.settle() == []

    run(test)


def test_templates_wait_for_their_profile_and_for_their_layout() -> None:
    async def test(world: OperatorHarness) -> None:
        html = "{% block content %}<p>Hi</p>{% endblock %}"
        world.apply(template("paid", html, layoutRef={"name": "plain"}))
        await world.settle()
        assert world.condition("EmailTemplate", "paid")[:2] == ("False", "LayoutNotFound")
        world.apply(layout())
        await world.settle()
        assert world.condition("EmailTemplate", "paid")[:2] == ("False", "ProfileNotFound")
        assert world.created_objects() == {}
        world.apply(profile())
        await world.settle()
        assert world.condition("EmailTemplate", "paid")[0] == "True"

    run(test)


def test_the_log_reports_once_that_an_object_is_not_ready_and_once_that_it_is_ready_again() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        with capture_logs() as lines:
            world.apply(template("paid", "<p>{{ nmae }}</p>"))
            await world.settle()
            await world.restart()
            await world.settle()
            world.apply(template("paid"))
            await world.settle()
        told = [line for line in lines if line["event"] == "Ready changed"]
        assert [(each["log_level"], each["object"], each["ready"], each["reason"]) for each in told] == [
            ("warning", "EmailTemplate shop/paid", "False", "VariableUndeclared"),
            ("info", "EmailTemplate shop/paid", "True", "Serving"),
        ]
        assert told[0]["message"].startswith("spec.html, line 1: `nmae`")

    run(test)


def test_a_layout_that_breaks_its_templates_reports_it_and_their_last_revisions_stay() -> None:
    async def test(world: OperatorHarness) -> None:
        html = "{% block content %}{% include 'foot' %}{% endblock %}"
        foot = layout()
        foot["spec"]["partials"] = [{"name": "foot", "html": "<p>Foot</p>"}]
        world.apply(profile(), foot, template("paid", html, layoutRef={"name": "plain"}))
        await world.settle()
        good = world.served()["paid"]
        world.apply(layout())
        await world.settle()
        assert world.served()["paid"] == good
        assert world.condition("EmailTemplate", "paid")[:2] == ("False", "PartialNotFound")
        assert world.condition("EmailLayout", "plain")[:2] == ("False", "TemplatesFail")

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
    async def test(world: OperatorHarness) -> None:
        world.apply(profile(), layout(), template("paid", html, subject=subject, layoutRef={"name": "plain"}))
        await world.settle()
        assert world.condition("EmailTemplate", "paid")[0] == "False"
        assert world.condition("EmailLayout", "plain")[:2] == ready

    run(test)


def test_a_variable_that_a_template_lacks_for_its_layout_is_reported_by_the_layout_too() -> None:
    async def test(world: OperatorHarness) -> None:
        page = layout(html="<body>{{ brand }}{% block content %}{% endblock %}</body>")
        world.apply(profile(), page, template("paid", layoutRef={"name": "plain"}))
        await world.settle()
        message = "template paid is invalid with this layout; see its status"
        assert world.condition("EmailLayout", "plain") == ("False", "TemplatesFail", message)

    run(test)


def test_a_template_that_moves_goes_from_one_profile_to_the_other() -> None:
    async def test(world: OperatorHarness) -> None:
        world.apply(profile(), profile("news"), template("paid"))
        await world.settle()
        world.apply(template("paid", smtpProfileRef={"name": "news"}))
        await world.settle()
        assert (set(world.served()), set(world.served("news"))) == (set(), {"paid"})

    run(test)


def test_the_oldest_template_has_an_event_type_and_the_next_one_gets_it_when_that_goes() -> None:
    async def test(world: OperatorHarness) -> None:
        young, old = template("a", eventTypes=["shop.paid"]), template("b", eventTypes=["shop.paid"])
        young["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
        old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        world.apply(profile(), young, old)
        await world.settle()
        assert set(world.served()) == {"b"}
        assert world.condition("EmailTemplate", "a")[:2] == ("False", "EventTypeConflict")
        world.cluster.remove(Ref(API_VERSION, "EmailTemplate", NAMESPACE, "b"))
        await world.settle()
        assert set(world.served()) == {"a"}

    run(test)


@pytest.mark.parametrize("how", ["deleted", "edited", "unlabelled"])
def test_a_change_of_a_child_is_reverted(how: str) -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        wanted = world.created_objects()
        for ref in [ref for ref in world.cluster.objects if ref.api_version != API_VERSION]:
            if ref.kind in ("Namespace", "Event"):
                continue
            found = world.cluster.objects[ref]
            match how:
                case "deleted":
                    world.cluster.remove(ref)
                case "edited":
                    field = "data" if ref.kind == "ConfigMap" else "spec"
                    world.cluster.put({**found, field: {"hacked": "yes"}})
                case _:
                    world.cluster.put({**found, "metadata": {**found["metadata"], "labels": {}}})
            await world.settle()
        now = world.created_objects()
        assert now.keys() == wanted.keys()
        for name, each in wanted.items():
            assert each["metadata"]["labels"] == now[name]["metadata"]["labels"]
            if each["kind"] == "ConfigMap":
                assert now[name]["data"].items() >= each["data"].items()

    run(test)


def test_objects_of_another_owner_are_never_taken_over() -> None:
    async def test(world: OperatorHarness) -> None:
        theirs = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"namespace": NAMESPACE, "name": "postroom-orders-profile"},
            "data": {"theirs": "yes"},
        }
        world.apply(theirs)
        await started(world)
        assert world.created_objects()["ConfigMap/postroom-orders-profile"]["data"] == {"theirs": "yes"}
        status, _, message = world.condition("SmtpProfile", "orders")
        assert status == "False"
        assert "does not belong to Postroom" in message

    run(test)


def test_smtp_takes_effect_only_in_a_namespace_that_is_labelled() -> None:
    async def test(world: OperatorHarness) -> None:
        world.apply(profile(mode="SMTP", smtp={"host": "smtp.example.org"}))
        await world.settle()
        assert world.status("SmtpProfile", "orders")["mode"] == "Sandbox"
        assert "Deployment/postroom-sandbox" in world.created_objects()
        world.apply(namespace(**{"postroom.dev/delivery": "allowed"}))
        await world.settle()
        assert world.status("SmtpProfile", "orders")["mode"] == "SMTP"
        assert "Deployment/postroom-sandbox" not in world.created_objects()
        world.apply(namespace(**{"postroom.dev/delivery": "yes"}))
        await world.settle()
        assert world.status("SmtpProfile", "orders")["mode"] == "Sandbox"

    run(test)


def test_a_rejected_object_is_reported_and_the_others_are_created() -> None:
    async def test(world: OperatorHarness) -> None:
        def refuse(verb: str, ref: Ref) -> None:
            if ref.kind == "PodDisruptionBudget":
                raise Invalid("spec.maxUnavailable: is not valid", 422)

        world.cluster.before = refuse
        world.apply(profile(workers={"replicas": 2}), template("paid"))
        await world.settle()
        assert "Deployment/postroom-orders" in world.created_objects()
        status, reason, message = world.condition("SmtpProfile", "orders")
        assert (status, reason) == ("False", "NotApplied")
        assert "spec.maxUnavailable" in message
        assert world.condition("EmailTemplate", "paid")[0] == "True"

    run(test)


def test_no_template_is_served_while_the_api_server_rejects_its_bundle() -> None:
    """As where a quota allows no more ConfigMaps."""

    async def test(world: OperatorHarness) -> None:
        def refuse(verb: str, ref: Ref) -> None:
            if verb == "apply" and "-bundle-" in ref.name:
                raise Invalid("exceeded quota: team", 403)

        world.cluster.before = refuse
        await started(world)
        said = ("False", "ProfileInvalid", "SmtpProfile orders is invalid or not applied")
        status, reason, message = world.condition("EmailTemplate", "paid")
        assert (status, reason, message.partition(";")[0]) == said
        assert "revision" not in world.status("EmailTemplate", "paid")
        assert world.status("SmtpProfile", "orders")["templates"] == 0
        world.cluster.before = lambda *_: None
        world.pending |= world.store.keys()
        await world.settle()
        assert world.condition("EmailTemplate", "paid")[:2] == ("True", "Serving")

    run(test)


@pytest.mark.parametrize("name", ["NetworkPolicy/postroom-orders", "ConfigMap/postroom-orders-profile"])
@pytest.mark.parametrize("theirs", [False, True], ids=["refused", "somebody else's"])
def test_no_worker_starts_without_its_network_policy_and_its_profile(name: str, theirs: bool) -> None:
    kind, _, called = name.partition("/")

    async def test(world: OperatorHarness) -> None:
        def refuse(verb: str, ref: Ref) -> None:
            if (ref.kind, ref.name) == (kind, called):
                raise Invalid("is not valid", 422)

        if theirs:
            group = "v1" if kind == "ConfigMap" else "networking.k8s.io/v1"
            world.apply(
                {"apiVersion": group, "kind": kind, "metadata": {"namespace": NAMESPACE, "name": called}}
            )
        else:
            world.cluster.before = refuse
        await started(world)
        assert "Deployment/postroom-orders" not in world.created_objects()
        status, reason, message = world.condition("SmtpProfile", "orders")
        assert (status, reason) == ("False", "NotApplied")
        assert f"Deployment shop/postroom-orders is not created without {kind} shop/{called}" in message
        assert "Deployment/postroom-sandbox" in world.created_objects()

    run(test)


@pytest.mark.parametrize("verb", ["delete", "annotate"])
def test_a_rejected_step_does_not_keep_the_statuses_from_being_written(verb: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": NAMESPACE, "name": "x", "labels": labels("worker", "orders")},
    }

    async def test(world: OperatorHarness) -> None:
        world.apply(profile(workers={"replicas": 2}), template("paid"), pod)
        await world.settle()

        def refuse(asked: str, ref: Ref) -> None:
            if asked == verb:
                raise Invalid("denied by a policy", 403)

        world.cluster.before = refuse
        world.apply(profile(), template("paid", "<p>Hello again</p>"))
        await world.settle()
        assert world.errors == []
        assert world.condition("EmailTemplate", "paid")[0] == "True"
        status, reason, message = world.condition("SmtpProfile", "orders")
        if verb == "annotate":
            assert reason != "NotApplied", "its kubelet looks by itself, later"
        else:
            assert (status, reason) == ("False", "NotApplied")
            assert message == "PodDisruptionBudget shop/postroom-orders: denied by a policy"

    run(test)


def test_a_number_of_workers_that_cannot_be_handed_over_stays_owned() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)

        def refuse(verb: str, ref: Ref) -> None:
            if verb == "scale":
                raise Invalid("denied by a policy", 403)

        world.cluster.before = refuse
        deployment = world.created_objects()["Deployment/postroom-orders"]
        plan = Plan(scale=((ref_of(deployment), 3),), apply=({**deployment, "spec": {}},))
        done = await world.context.applier.apply(plan)
        assert done == ReconcileResult(0, ("Deployment shop/postroom-orders: denied by a policy",))
        assert world.created_objects()["Deployment/postroom-orders"] == deployment

    run(test)


def test_existing_workers_follow_their_profile_whatever_is_rejected() -> None:
    async def test(world: OperatorHarness) -> None:
        world.apply(namespace(**ALLOWED), profile(**RELAY))
        await world.settle()

        def refuse(verb: str, ref: Ref) -> None:
            if ref.kind == "NetworkPolicy":
                raise Invalid("is not valid", 422)

        world.cluster.before = refuse
        world.apply(namespace())
        await world.settle()
        assert not may_deliver(world.created_objects()["Deployment/postroom-orders"]), (
            "or the guard would be held up"
        )

    run(test)


@pytest.mark.parametrize(
    "error", [Unavailable("later", 429, 1.0), Unavailable("no answer"), Conflict("somebody quicker", 409)]
)
def test_an_api_server_that_fails_every_third_write_is_retried(error: Exception) -> None:
    async def test(world: OperatorHarness) -> None:
        calls = 0

        def fail(verb: str, ref: Ref) -> None:
            nonlocal calls
            calls += 1
            if calls % 3 == 0:
                raise error

        world.cluster.before = fail
        await started(world)
        world.pending |= world.store.keys()
        await world.settle()
        assert set(world.served()) == {"paid", "sent"}

    run(test)


def test_in_a_namespace_that_is_being_deleted_nothing_is_created_and_nothing_fails() -> None:
    async def test(world: OperatorHarness) -> None:
        ending = namespace()
        ending["metadata"]["deletionTimestamp"] = "2026-01-05T09:30:00Z"
        world.apply(ending, profile(), template("paid"))

        def refuse(verb: str, ref: Ref) -> None:
            raise NamespaceTerminating("namespace is being terminated", 403)

        world.cluster.before = refuse
        assert await world.settle() == []
        assert world.errors == []

    run(test)


@pytest.mark.parametrize("whole", [False, True], ids=["alone", "with its namespace"])
def test_the_topics_of_a_deleted_profile_are_no_longer_managed(whole: bool) -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        assert world.external.wanted == {profile_key(NAMESPACE, "orders")}
        if whole:
            ending = namespace()
            ending["metadata"]["deletionTimestamp"] = "2026-01-05T09:30:00Z"
            world.apply(ending)
            await world.settle()
        else:
            world.cluster.remove(Ref(API_VERSION, "SmtpProfile", NAMESPACE, "orders"))
            await world.settle()
        assert world.external.wanted == set(), "or they would be made anew, whoever deletes them"

    run(test)


def test_a_profile_that_is_not_valid_says_why_and_its_workers_stay_as_they_are() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        before = world.created_objects()
        world.apply(profile(kafka={"topic": "elsewhere.orders"}))
        await world.settle()
        assert world.created_objects() == before
        status, reason, message = world.condition("SmtpProfile", "orders")
        assert (status, reason) == ("False", "ManifestInvalid")
        assert "spec.kafka.topic" in message

    run(test)


RELAY: dict[str, Any] = {"mode": "SMTP", "smtp": {"host": "smtp.example.org"}}
FAULTY: dict[str, Any] = {"kafka": {"topic": "elsewhere.orders"}}
ALLOWED = {"postroom.dev/delivery": "allowed"}


def test_a_fault_in_a_profile_takes_no_letter_past_the_guard() -> None:
    async def test(world: OperatorHarness) -> None:
        world.apply(namespace(**ALLOWED), profile(**RELAY))
        await world.settle()
        world.apply(profile(**RELAY, **FAULTY))
        await world.settle()
        assert "Deployment/postroom-orders" in world.created_objects(), "its workers stay as they were"
        assert world.status("SmtpProfile", "orders")["mode"] == "SMTP"
        world.apply(namespace())
        await world.settle()
        assert "Deployment/postroom-orders" not in world.created_objects(), (
            "they were told that they may deliver"
        )
        assert world.status("SmtpProfile", "orders")["mode"] == "Sandbox"
        assert world.condition("SmtpProfile", "orders", "DeliveryAllowed")[0] == "False"
        assert world.condition("SmtpProfile", "orders")[1] == "ManifestInvalid"
        world.apply(profile(**RELAY))
        await world.settle()
        assert "Deployment/postroom-orders" in world.created_objects()
        assert world.condition("SmtpProfile", "orders", "DeliveryAllowed")[0] == "False"

    run(test)


def test_a_profile_whose_deletion_is_blocked_takes_no_letter_past_the_guard() -> None:
    async def test(world: OperatorHarness) -> None:
        world.apply(namespace(**ALLOWED), profile(**RELAY))
        await world.settle()
        ending = profile(**RELAY)
        ending["metadata"] |= {
            "deletionTimestamp": "2026-01-05T09:30:00Z",
            "finalizers": ["example.org/held"],
        }
        world.apply(ending)
        await world.settle()
        assert "Deployment/postroom-orders" in world.created_objects()
        world.apply(namespace())
        await world.settle()
        assert "Deployment/postroom-orders" not in world.created_objects()

    run(test)


def test_a_rejected_object_takes_no_letter_past_the_guard() -> None:
    async def test(world: OperatorHarness) -> None:
        world.apply(namespace(**ALLOWED), profile(**RELAY))
        await world.settle()

        def refuse(verb: str, ref: Ref) -> None:
            if (verb, ref.kind, ref.name) == ("apply", "Deployment", "postroom-orders"):
                raise Invalid("spec.template.spec.tolerations[0]: is not valid", 422)

        world.cluster.before = refuse
        world.apply(namespace())
        await world.settle()
        assert "Deployment/postroom-orders" not in world.created_objects()
        assert "tolerations" in world.condition("SmtpProfile", "orders")[2]

    run(test)


def test_an_invalid_profile_does_not_report_that_it_may_deliver() -> None:
    async def test(world: OperatorHarness) -> None:
        world.apply(profile(**RELAY, **FAULTY))
        await world.settle()
        assert world.condition("SmtpProfile", "orders", "DeliveryAllowed")[1] == "NamespaceNotLabelled"
        assert world.status("SmtpProfile", "orders")["mode"] == "Sandbox"

    run(test)


def test_workers_of_another_mode_end_before_new_ones_begin() -> None:
    async def test(world: OperatorHarness) -> None:
        def workers(effect: str) -> None:
            labels = world.created_objects()["Deployment/postroom-orders"]["metadata"]["labels"]
            pod = {"namespace": NAMESPACE, "name": "postroom-orders-x", "labels": labels}
            pod |= {"annotations": {"postroom.dev/effect": effect, "postroom.dev/bundle": "x"}}
            world.apply({"apiVersion": "v1", "kind": "Pod", "metadata": pod, "status": {"phase": "Running"}})

        def strategy() -> str:
            found: str = world.created_objects()["Deployment/postroom-orders"]["spec"]["strategy"]["type"]
            return found

        await started(world)
        workers("Sandbox")
        await world.settle()
        assert strategy() == "RollingUpdate"
        world.apply(profile(suspend=True))
        await world.settle()
        assert strategy() == "Recreate"
        assert world.condition("SmtpProfile", "orders")[1] == "Suspending"
        world.cluster.remove(Ref("v1", "Pod", NAMESPACE, "postroom-orders-x"))
        await world.settle()
        assert strategy() == "RollingUpdate"
        assert world.condition("SmtpProfile", "orders")[1] == "Suspended"

    run(test)


def test_pods_are_annotated_once_for_a_new_bundle() -> None:
    async def test(world: OperatorHarness) -> None:
        await started(world)
        labels = world.created_objects()["Deployment/postroom-orders"]["metadata"]["labels"]
        pod = {"namespace": NAMESPACE, "name": "postroom-orders-x", "labels": labels}
        world.apply({"apiVersion": "v1", "kind": "Pod", "metadata": pod, "status": {"phase": "Running"}})
        world.apply(template("paid", "<p>Edited</p>"))
        verbs = [verb for verb, _ in await world.settle()]
        assert verbs == ["apply", "annotate", "status"], "the pods are told when the bundle is there"
        world.pending |= world.store.keys()
        assert await world.settle() == []

    run(test)


def test_workers_are_polled_often_during_a_rollout_and_counted() -> None:
    async def test(world: OperatorHarness) -> None:
        world.external.worker_reports = (WorkerReport("one"), WorkerReport("two"))
        await started(world)
        assert world.condition("EmailTemplate", "paid")[:2] == ("False", "RollingOut")
        assert world.external.polled_faster
        revision = world.served()["paid"].revision
        world.external.worker_reports = tuple(
            WorkerReport(pod, templates={"paid": revision}) for pod in ("one", "two")
        )
        world.pending |= world.store.keys()
        await world.settle()
        assert world.condition("EmailTemplate", "paid")[0] == "True"
        assert world.status("EmailTemplate", "paid")["workersCurrent"] == 2

    run(test)


def test_an_unreachable_broker_delays_no_template() -> None:
    async def test(world: OperatorHarness) -> None:
        topic = "postroom.shop.orders"
        world.external.topics[topic] = TopicState(
            topic, problem="no broker answers", reason="BrokerUnreachable"
        )
        await started(world)
        assert world.condition("EmailTemplate", "paid")[0] == "True"
        assert world.condition("SmtpProfile", "orders", "TopicReady")[:2] == ("False", "BrokerUnreachable")

    run(test)


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("step", range(30))
def test_a_process_that_is_killed_at_any_write_leaves_a_state_that_the_next_one_completes(
    step: int,
) -> None:
    async def test(world: OperatorHarness) -> None:
        undisturbed = OperatorHarness()
        for each in (world, undisturbed):
            each.apply(profile(), layout(), template("paid"), template("sent"), template("bad", "{{ x }}"))
        await undisturbed.settle()
        left = step

        def kill(verb: str, ref: Ref) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        world.cluster.before = kill
        try:
            await world.settle()
        except Killed:
            world.cluster.before = lambda *_: None
            await world.restart()
            await world.settle()
        assert world.created_objects().keys() == undisturbed.created_objects().keys()
        assert world.served() == undisturbed.served()
        for name in ("paid", "sent", "bad"):
            assert world.condition("EmailTemplate", name) == undisturbed.condition("EmailTemplate", name)
        world.pending |= world.store.keys()
        assert await world.settle() == []

    run(test)
