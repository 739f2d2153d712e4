"""The control plane itself, which all tests of this layer use."""

import os
from pathlib import Path

import pytest

from tests.cluster.controlplane import ControlPlane, KubectlError
from tests.cluster.program import ServerProcess

pytestmark = pytest.mark.apiserver
PROFILE = {
    "apiVersion": "postroom.dev/v1alpha1",
    "kind": "SmtpProfile",
    "metadata": {"name": "shop"},
    "spec": {"from": {"address": "post@larkfield.example"}},
}


def test_the_kinds_are_served_by_their_short_names_and_category(
    cluster: ControlPlane, namespace: str
) -> None:
    cluster.kubectl("create", f"--namespace={namespace}", "-f", "-", stdin=PROFILE)
    for name in ("smtp", "smtpprofiles", "postroom"):
        assert "shop" in cluster.kubectl("get", name, f"--namespace={namespace}")
    assert cluster.kubectl("get", "et,el", f"--namespace={namespace}") == ""


def test_objects_survive_the_death_of_the_api_server(cluster: ControlPlane, namespace: str) -> None:
    cluster.kubectl("create", f"--namespace={namespace}", "-f", "-", stdin=PROFILE)
    cluster.restart_apiserver()
    assert "shop" in cluster.kubectl("get", "smtp", f"--namespace={namespace}", "-o", "name")


def test_owned_objects_are_deleted_with_their_profile(cluster: ControlPlane, namespace: str) -> None:
    cluster.kubectl("create", f"--namespace={namespace}", "-f", "-", stdin=PROFILE)
    place = f"--namespace={namespace}"
    uid = cluster.kubectl("get", "smtp", "shop", place, "-o", "jsonpath={.metadata.uid}")
    owner = {"apiVersion": PROFILE["apiVersion"], "kind": "SmtpProfile", "name": "shop", "uid": uid}
    child = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "child", "ownerReferences": [owner]},
    }
    cluster.kubectl("create", place, "-f", "-", stdin=child)
    cluster.kubectl("delete", "smtp", "shop", place)
    cluster.until(lambda: "child" not in cluster.kubectl("get", "configmaps", place, "-o", "name"))


def test_an_account_has_its_rights_and_its_requests_are_recorded(
    cluster: ControlPlane, namespace: str
) -> None:
    place = f"--namespace={namespace}"
    reader = cluster.account(namespace, "reader")
    with pytest.raises(KubectlError, match="forbidden"):
        cluster.kubectl("get", "smtp", place, account=reader)
    subject = f"--serviceaccount={namespace}:reader"
    cluster.kubectl("create", "role", "reader", place, "--verb=list", "--resource=smtpprofiles.postroom.dev")
    cluster.kubectl("create", "rolebinding", "reader", place, "--role=reader", subject)
    cluster.until(lambda: allowed(cluster, "get", "smtp", place, account=reader))
    with pytest.raises(KubectlError, match="forbidden"):
        cluster.kubectl("create", place, "-f", "-", stdin=PROFILE, account=reader)
    assert {event["verb"] for event in cluster.requests(reader.user)} == {"list", "create"}
    assert not list(cluster.requests(reader.user, "update", "delete"))


def allowed(cluster: ControlPlane, *arguments: str, **more: object) -> bool:
    try:
        cluster.kubectl(*arguments, **more)  # type: ignore[arg-type]
    except KubectlError:
        return False
    return True


def test_a_program_ends_when_the_tests_are_gone(tmp_path: Path) -> None:
    program = ServerProcess("sleep", ["sleep", "600"], tmp_path)
    program.start()
    assert program._wrapper is not None
    assert program._wrapper.stdin is not None
    program._wrapper.stdin.close()  # as when the parent process was killed
    program._wrapper.wait(10)
    with pytest.raises(ProcessLookupError):
        os.kill(program.pid, 0)
    program.stop()
