"""The API server rejects bad manifests with the messages in the reference."""

import pytest

from tests.badinputs.manifests import MANIFESTS, SERVER, Manifested
from tests.badinputs.table import keep, kept
from tests.cluster.controlplane import ControlPlane
from tests.cluster.test_parity import PLURALS

pytestmark = pytest.mark.apiserver
TAKEN = "taken: the operator says in a condition what is wrong"
NAMESPACE = "bad-inputs"


@pytest.fixture(scope="module")
def tenant(cluster: ControlPlane) -> str:
    """A namespace in which nothing is stored: every request is a dry run."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    return NAMESPACE


def messages(cluster: ControlPlane, case: Manifested, namespace: str) -> list[str]:
    """The API server's message; a line for each cause."""
    manifest = case.objects[-1]
    path = f"/apis/postroom.dev/v1alpha1/namespaces/{namespace}/{PLURALS[manifest['kind']]}"
    how = {"dryRun": "All", "fieldValidation": "Strict"}
    answer = cluster.api.post(path, params=how, json=manifest)
    if answer.is_success:
        return [TAKEN]
    status = answer.json()
    causes = status.get("details", {}).get("causes", ())
    return [f"{each['field']}: {each['message']}" for each in causes] or [status["message"]]


@pytest.mark.parametrize("case", MANIFESTS, ids=lambda case: case.name)
def test_the_api_server_answers_a_bad_manifest_as_the_reference_says(
    cluster: ControlPlane, tenant: str, case: Manifested, rewrite: bool
) -> None:
    answer = messages(cluster, case, tenant)
    if rewrite:
        keep(case.name, {SERVER: answer})
    assert kept()[case.name][SERVER] == answer
