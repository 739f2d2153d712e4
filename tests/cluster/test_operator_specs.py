"""Problems of an object are in its status, and gone as soon as they are corrected."""

import pytest

from tests.cluster.manifests import layout, profile, template
from tests.cluster.operator_process import Object, OperatedNamespace

pytestmark = pytest.mark.apiserver


def refused(world: OperatedNamespace, kind: str, name: str) -> Object:
    """The Ready condition, once it is False."""
    return world.ready_condition(kind, name, "False")


def ready(world: OperatedNamespace, kind: str, name: str) -> Object:
    """The Ready condition, once it is True."""
    return world.ready_condition(kind, name, "True")


def test_an_impossible_profile_creates_nothing_until_it_is_corrected(world: OperatedNamespace) -> None:
    world.apply(profile(kafka={"topic": "postroom.payments.orders"}))
    found = refused(world, "SmtpProfile", "shop")
    assert f"must begin with postroom.{world.namespace}." in found["message"]
    assert world.get("Deployment", "postroom-shop") == {}
    world.apply(profile())
    world.until(lambda: world.get("Deployment", "postroom-shop"))


def test_a_rejected_object_is_reported_with_the_servers_message_until_it_is_corrected(
    world: OperatedNamespace,
) -> None:
    bad = {"tolerations": [{"operator": "Sometimes"}]}
    world.apply(profile(workers=bad))
    found = refused(world, "SmtpProfile", "shop")
    assert "Sometimes" in found["message"]
    world.apply(profile())
    world.until(lambda: world.get("Deployment", "postroom-shop"))
    world.until(lambda: world.condition("SmtpProfile", "shop").get("reason") not in {None, found["reason"]})


def test_no_worker_starts_without_its_network_policy(world: OperatedNamespace) -> None:
    peers = [{"ipBlock": {"cidr": "10.0.0.0/99"}}]
    world.apply(profile(networkPolicy={"peers": peers}))
    found = refused(world, "SmtpProfile", "shop")
    assert "10.0.0.0/99" in found["message"]
    assert "is not created without NetworkPolicy" in found["message"]
    assert world.get("Deployment", "postroom-shop") == {}
    world.apply(profile())
    world.until(lambda: world.get("Deployment", "postroom-shop"))


def test_a_template_waits_for_its_profile(world: OperatedNamespace) -> None:
    world.apply(template())
    assert refused(world, "EmailTemplate", "welcome")["reason"] == "ProfileNotFound"
    world.apply(profile())
    ready(world, "EmailTemplate", "welcome")
    assert "welcome" in world.served()


def test_a_template_waits_for_its_layout(world: OperatedNamespace) -> None:
    world.apply(profile(), template(layoutRef={"name": "larkfield"}))
    assert refused(world, "EmailTemplate", "welcome")["reason"] == "LayoutNotFound"
    world.apply(layout())
    ready(world, "EmailTemplate", "welcome")
    world.until(lambda: world.condition("EmailLayout", "larkfield").get("status") == "True")
    assert world.get("EmailLayout", "larkfield")["status"]["templates"] == 1


def test_a_changed_partial_validates_its_dependents_again(world: OperatedNamespace) -> None:
    world.apply(profile(), layout(), template(layoutRef={"name": "larkfield"}), template("plain"))
    ready(world, "EmailTemplate", "welcome")
    first = world.until(lambda: world.served().get("welcome"))
    plain = world.until(lambda: world.served().get("plain"))
    world.apply(layout(button="<b>{{ name }}</b>"))
    world.until(lambda: world.served()["welcome"].revision != first.revision)
    assert world.served()["plain"].revision == plain.revision

    second = world.served()["welcome"].revision
    world.apply(layout(button="<b>{{ surname }}</b>"))
    world.until(lambda: "surname" in world.condition("EmailTemplate", "welcome").get("message", ""))
    assert world.served()["welcome"].revision == second, "the last good version stays in use"
    world.until(lambda: world.condition("EmailLayout", "larkfield").get("status") == "False")


def test_a_bad_edit_names_line_and_rule_and_the_last_good_version_stays_in_use(
    world: OperatedNamespace,
) -> None:
    world.apply(profile(), template())
    ready(world, "EmailTemplate", "welcome")
    good = world.served()["welcome"].revision
    world.apply(template(html="<p>Hello</p>\n<p>{{ nmae }}</p>"))
    found = refused(world, "EmailTemplate", "welcome")
    assert found["reason"] == "VariableUndeclared"
    assert "spec.html, line 2" in found["message"]
    assert "did you mean" in found["message"]
    status = world.get("EmailTemplate", "welcome")["status"]
    assert status["revision"] == good
    assert status["problems"][0]["line"] == 2
    assert world.served()["welcome"].revision == good

    world.operator.kill()  # it stores nothing outside the cluster
    world.operator.start()
    world.apply(template("other"))
    world.until(lambda: "other" in world.served())
    assert world.served()["welcome"].revision == good

    world.apply(template(html="<p>Good day {{ name }}</p>"))
    ready(world, "EmailTemplate", "welcome")
    assert world.served()["welcome"].revision != good


def test_a_template_that_was_never_valid_is_not_served(world: OperatedNamespace) -> None:
    world.apply(profile(), template(html="{% if %}"), template("other"))
    assert refused(world, "EmailTemplate", "welcome")["reason"] == "TemplateSyntax"
    world.until(lambda: list(world.served()) == ["other"])


def test_a_suspended_template_reports_it_and_resumes(world: OperatedNamespace) -> None:
    world.apply(profile(), template(suspend=True))
    assert refused(world, "EmailTemplate", "welcome")["reason"] == "Suspended"
    world.apply(template())
    ready(world, "EmailTemplate", "welcome")


def test_a_suspended_profile_reports_it_and_resumes(world: OperatedNamespace) -> None:
    world.apply(profile(suspend=True))
    assert refused(world, "SmtpProfile", "shop")["reason"] == "Suspended"
    world.apply(profile(suspend=False))
    world.until(lambda: world.condition("SmtpProfile", "shop").get("reason") not in {None, "Suspended"})


def test_two_templates_of_one_event_type_are_distinguished(world: OperatedNamespace) -> None:
    world.apply(profile(), template())
    ready(world, "EmailTemplate", "welcome")
    world.apply(template("rival", eventTypes=["shop.welcome"]))
    assert refused(world, "EmailTemplate", "rival")["reason"] == "EventTypeConflict"
    assert list(world.served()) == ["welcome"]
    world.delete("EmailTemplate", "welcome")
    ready(world, "EmailTemplate", "rival")
