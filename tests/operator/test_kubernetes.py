"""Credentials in a pod: the token is rotated every hour or sooner.

What follows from each answer of an API server that is no success.
"""

from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.config import incluster_config

from postroom.letter.problems import Rejected
from postroom_operator.kubernetes import ApiCredentials, error_of_response, find_credentials
from postroom_operator.models import Conflict, Invalid, NamespaceTerminating, NotFound, Unavailable


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a pod's service account, with token `first`."""
    (tmp_path / "token").write_text("first")
    (tmp_path / "ca.crt").write_text("an authority")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return tmp_path


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two minutes pass for the client library, which reads the file once a minute."""

    then = datetime.now() + timedelta(minutes=2)  # noqa: DTZ005 - as the library has it
    clock = SimpleNamespace(now=lambda: then)
    monkeypatch.setattr(incluster_config, "datetime", SimpleNamespace(datetime=clock, timedelta=timedelta))


def test_a_rotated_token_is_used(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = find_credentials()
    assert (access.server, access.token()) == ("https://10.96.0.1:443", "first")
    (account / "token").write_text("second")
    later(monkeypatch)
    assert access.token() == "second"


@pytest.mark.parametrize("there", [True, False], ids=["empty", "not there"])
def test_a_token_file_that_is_being_replaced_keeps_the_last_token(
    account: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    access: ApiCredentials = find_credentials()
    assert access.token() == "first"
    (account / "token").write_text("") if there else (account / "token").unlink()
    later(monkeypatch)
    assert access.token() == "first"


def test_without_credentials_the_error_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(Rejected, match="KUBECONFIG"):
        find_credentials()


ASKED = "GET /api/v1/pods"
ENDING = {"message": "m", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, None, Invalid),
        (401, None, Unavailable),  # a token that is being rotated
        (403, {"message": "quota"}, Invalid),
        (403, ENDING, NamespaceTerminating),
        (404, None, NotFound),
        (409, None, Conflict),
        (410, None, NotFound),
        (422, {"message": "m", "details": None}, Invalid),
        (429, None, Unavailable),
        (500, "no object", Unavailable),
        (503, [], Unavailable),
    ],
)
def test_each_http_status_has_its_error(status: int, body: Any, kind: type[Exception]) -> None:
    found = error_of_response(ASKED, status, body, {})
    assert type(found) is kind
    assert found.status == status


def test_a_response_without_a_message_names_the_request() -> None:
    found = error_of_response(ASKED, 404, None, {})
    assert found.message == "the API server answered 404 to GET /api/v1/pods"
    assert error_of_response(ASKED, 404, {"message": "pods not found"}, {}).message == "pods not found"


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"Retry-After": "7"}, {}, 7.0),
        ({}, {"details": {"retryAfterSeconds": 3}}, 3.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}, None),
        ({}, None, None),
    ],
)
def test_the_requested_delay_of_the_server_is_read(headers: Any, body: Any, seconds: float | None) -> None:
    assert error_of_response(ASKED, 429, body, headers).retry_after == seconds
