"""The rules of the API server and of the models are the same: both accept the same manifests, and reject
others at the same field. tests/letter/test_crd_corpus.py holds the models' half."""

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.cluster.corpus import Case, cases

pytestmark = pytest.mark.apiserver
PLURALS = {"EmailTemplate": "emailtemplates", "EmailLayout": "emaillayouts", "SmtpProfile": "smtpprofiles"}
UNKNOWN = "strict decoding error: unknown field "
UNFINISHED = "<nil>"
"""No field: `some validation rules were not checked because the object was invalid`."""


@pytest.fixture(scope="module")
def tenant(cluster: ControlPlane) -> str:
    """A namespace in which nothing is stored: every request is a dry run."""
    cluster.kubectl("create", "namespace", "tenant")
    return "tenant"


def complaints(cluster: ControlPlane, case: Case, namespace: str) -> set[str]:
    """The fields for which the API server rejects the object."""
    answer = cluster.api.post(
        f"/apis/postroom.dev/v1alpha1/namespaces/{namespace}/{PLURALS[case.kind]}",
        params={"dryRun": "All", "fieldValidation": "Strict"},
        json=case.manifest,
    )
    if answer.is_success:
        return set()
    status = answer.json()
    if status["reason"] == "BadRequest":
        assert UNKNOWN in status["message"], status["message"]
        return {status["message"].rpartition(UNKNOWN)[2].strip('"')}
    assert status["reason"] == "Invalid", status["message"]
    causes = status["details"]["causes"]
    return {cause["field"] for cause in causes} - {UNFINISHED}


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_the_api_server_gives_the_verdicts_of_the_corpus(
    cluster: ControlPlane, tenant: str, case: Case
) -> None:
    found = complaints(cluster, case.placed(tenant), tenant)
    assert found == ({case.server} if case.verdict == "refused" else set())
