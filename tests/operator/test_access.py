"""Who a pod's operator is to the API server: its token is exchanged while it runs, every hour or sooner."""

from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from kubernetes.config import incluster_config

from postroom.letter.problems import Rejected
from postroom_operator.adapters.access import Access, find_access


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
    """Two minutes pass for the client library, which looks at the file once a minute."""

    then = datetime.now() + timedelta(minutes=2)  # noqa: DTZ005 - as the library has it
    clock = SimpleNamespace(now=lambda: then)
    monkeypatch.setattr(incluster_config, "datetime", SimpleNamespace(datetime=clock, timedelta=timedelta))


def test_a_token_that_was_exchanged_is_used(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = find_access()
    assert (access.server, access.token()) == ("https://10.96.0.1:443", "first")
    (account / "token").write_text("second")
    later(monkeypatch)
    assert access.token() == "second"


@pytest.mark.parametrize("there", [True, False], ids=["empty", "not there"])
def test_a_token_that_is_written_just_now_leaves_the_one_before(
    account: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    access: Access = find_access()
    assert access.token() == "first"
    (account / "token").write_text("") if there else (account / "token").unlink()
    later(monkeypatch)
    assert access.token() == "first"


def test_who_is_nowhere_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(Rejected, match="KUBECONFIG"):
        find_access()
