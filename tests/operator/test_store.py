from typing import Any

from postroom_operator.models import API_VERSION, Listing, Manifest, ResourceKind, ref_of
from postroom_operator.names import labels
from postroom_operator.store import ObjectStore, is_urgent, layout_key, profile_key, sandbox_key

TEMPLATE = ResourceKind(API_VERSION, "EmailTemplate")


def ours(kind: str, name: str, version: int, **spec: Any) -> Manifest:
    metadata = {"namespace": "shop", "name": name, "uid": name, "resourceVersion": str(version)}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def template(name: str, version: int, profile: str = "orders", layout: str | None = None) -> Manifest:
    page = {"layoutRef": {"name": layout}} if layout else {}
    return ours("EmailTemplate", name, version, smtpProfileRef={"name": profile}, **page)


def made(
    kind: str, name: str, version: int, component: str = "worker", profile: str | None = "orders"
) -> Manifest:
    metadata = {
        "namespace": "shop",
        "name": name,
        "uid": name,
        "resourceVersion": str(version),
        "labels": labels(component, profile),
    }
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def namespace(version: int, **of: Any) -> Manifest:
    metadata = {"name": "shop", "resourceVersion": str(version), **of}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def test_a_template_concerns_its_profile() -> None:
    assert ObjectStore().put(template("paid", 1)) == {profile_key("shop", "orders")}


def test_a_template_that_moves_concerns_both_profiles() -> None:
    store = ObjectStore()
    store.put(template("paid", 1))
    keys = store.put(template("paid", 2, profile="other"))
    assert keys == {profile_key("shop", "orders"), profile_key("shop", "other")}
    assert [*store.objects_of(profile_key("shop", "orders"), "EmailTemplate")] == []


def test_an_echo_of_a_write_concerns_no_key() -> None:
    store = ObjectStore()
    store.put(template("paid", 5))
    assert store.put(template("paid", 5)) == set()
    assert store.put(template("paid", 4)) == set()


def test_a_spec_is_in_memory_once_while_its_generation_is_the_same() -> None:
    store = ObjectStore()
    seen, again, edited, recreated = (template("paid", version) for version in (1, 2, 3, 4))
    for each, generation in ((seen, 1), (again, 1), (edited, 2), (recreated, 2)):
        each["metadata"]["generation"] = generation
    recreated["metadata"]["uid"] = "deleted-and-made-again"
    specs = []
    for each in (seen, again, edited, recreated):
        store.put(each)
        specs.append(store.get(ref_of(each)) or {})
    assert specs[1]["spec"] is seen["spec"]
    assert specs[1]["metadata"]["resourceVersion"] == "2"
    assert specs[2]["spec"] is edited["spec"]
    assert specs[3]["spec"] is recreated["spec"]


def test_a_layout_concerns_itself_and_the_profiles_of_its_templates() -> None:
    store = ObjectStore()
    store.put(template("paid", 1, layout="plain"))
    store.put(template("other", 2, profile="other"))
    keys = store.put(ours("EmailLayout", "plain", 3))
    assert keys == {layout_key("shop", "plain"), profile_key("shop", "orders")}


def test_a_template_wakes_no_other_template_of_its_layout() -> None:
    store = ObjectStore()
    store.put(template("paid", 1, layout="plain"))
    keys = store.put(template("sent", 2, profile="other", layout="plain"))
    assert keys == {profile_key("shop", "other"), layout_key("shop", "plain")}


def test_a_child_concerns_its_profile_and_a_pod_only_when_it_has_ended() -> None:
    store = ObjectStore()
    store.put(ours("SmtpProfile", "orders", 1))
    assert store.put(made("ConfigMap", "postroom-orders-profile", 2)) == {profile_key("shop", "orders")}
    assert store.put(made("Pod", "postroom-orders-x", 3)) == set()
    kinds = [each["kind"] for each in store.worker_objects("shop", "orders")]
    assert kinds == ["ConfigMap", "Pod"]
    assert store.drop(ref_of(made("Pod", "postroom-orders-x", 3)), 4) == {profile_key("shop", "orders")}


def test_a_profile_concerns_those_that_fall_back_to_it() -> None:
    store = ObjectStore()
    store.put(ours("SmtpProfile", "orders", 1, fallbackRef={"name": "spare"}))
    store.put(ours("SmtpProfile", "other", 2))
    keys = store.put(ours("SmtpProfile", "spare", 3))
    assert profile_key("shop", "orders") in keys
    assert profile_key("shop", "other") not in keys
    assert profile_key("shop", "orders") in store.drop(ref_of(ours("SmtpProfile", "spare", 3)), 4)


def test_the_sandbox_of_a_namespace_is_its_own() -> None:
    store = ObjectStore()
    assert store.put(made("Service", "postroom-sandbox", 1, "sandbox", None)) == {sandbox_key("shop")}


def test_a_child_without_its_labels_still_concerns_its_profile() -> None:
    store = ObjectStore()
    store.put(ours("SmtpProfile", "orders", 1))
    child = made("ConfigMap", "postroom-orders-profile", 2)
    store.put(child)
    assert store.drop(ref_of(child), 3) == {profile_key("shop", "orders")}


def test_a_namespace_concerns_its_profiles_when_its_guard_changes_and_only_then() -> None:
    store = ObjectStore()
    store.put(ours("SmtpProfile", "orders", 1))
    store.put(namespace(2))
    assert store.put(namespace(3, annotations={"seen": "yes"})) == set()
    keys = store.put(namespace(4, labels={"postroom.dev/delivery": "allowed"}))
    assert keys == {profile_key("shop", "orders"), sandbox_key("shop")}


def test_a_listing_drops_what_is_not_in_it() -> None:
    store = ObjectStore()
    store.put(template("gone", 1))
    store.put(template("stays", 2))
    keys = store.replace(TEMPLATE, "", Listing((template("stays", 2),), version=9))
    assert keys == {profile_key("shop", "orders")}
    assert [
        each["metadata"]["name"] for each in store.objects_of(profile_key("shop", "orders"), "EmailTemplate")
    ] == ["stays"]


def test_a_listing_that_is_older_than_a_watch_reverts_nothing() -> None:
    store = ObjectStore()
    store.put(template("new", 12))
    gone = template("gone", 3)
    store.put(gone)
    store.drop(ref_of(gone), 11)
    assert store.replace(TEMPLATE, "", Listing((template("gone", 3),), version=10)) == set()
    assert store.get(ref_of(gone)) is None
    assert store.get(ref_of(template("new", 12))) is not None


def test_after_a_restore_from_a_backup_the_listing_replaces_what_was_seen_before() -> None:
    store = ObjectStore()
    store.replace(TEMPLATE, "", Listing((template("paid", 70), template("later", 80)), version=90))
    gone = template("gone", 85)
    store.put(gone)
    store.drop(ref_of(gone), 88)
    restored = (template("paid", 30), template("gone", 40))
    assert store.replace(TEMPLATE, "", Listing(restored, version=50)) == {profile_key("shop", "orders")}
    assert store.get(ref_of(template("later", 0))) is None
    assert store.get(ref_of(template("paid", 0))) == template("paid", 30)
    assert store.get(ref_of(gone)) == template("gone", 40)
    assert store.put(template("paid", 55)) == {profile_key("shop", "orders")}, "watches count again"


def test_another_namespace_is_not_touched_by_a_listing() -> None:
    store = ObjectStore()
    store.put(template("paid", 1))
    assert store.replace(TEMPLATE, "elsewhere", Listing((), version=9)) == set()


def at(manifest: Manifest, generation: int, observed: int | None) -> Manifest:
    status = {} if observed is None else {"observedGeneration": observed}
    return {**manifest, "metadata": {**manifest["metadata"], "generation": generation}, "status": status}


def test_an_object_without_a_status_of_its_newest_generation_is_urgent() -> None:
    store = ObjectStore()
    store.put(at(template("old", 1, profile="quiet"), 3, observed=3))
    assert store.urgent_keys() == set()
    store.put(at(template("new", 2, profile="orders"), 1, observed=None))
    store.put(at(template("user", 3, profile="mail", layout="page"), 1, observed=1))
    store.put(at(ours("EmailLayout", "page", 4), 2, observed=1))
    wanted = {profile_key("shop", "orders"), profile_key("shop", "mail"), layout_key("shop", "page")}
    assert store.urgent_keys() == wanted, "an edited layout is news for the profiles of its templates too"


def test_a_changed_namespace_is_urgent_and_a_created_object_is_not() -> None:
    assert is_urgent(namespace(1))
    assert not is_urgent(made("ConfigMap", "orders-0", 1))
