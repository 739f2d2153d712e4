"""A letter goes out by the gateway; one that would reach real people is not sent at all."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from postroom.local import http_client
from postroom.local.bundles import ServedProfile, write_bundles
from postroom.local.data_folder import DataFolder
from postroom.local.manifests import read_manifest_folder
from postroom.local.studio import sending
from postroom.local.studio.sending import Outcome, Sender
from postroom.local.studio.state import ShownTemplate
from tests.local.manifest_texts import PROFILE
from tests.local.studio.conftest import Folder

RELAY = PROFILE + "  mode: SMTP\n  smtp: {host: relay.example}\n"


def serve_folder(folder: Folder, profile: str = PROFILE) -> list[ServedProfile]:
    folder.write(profile=profile)
    manifest_set = read_manifest_folder(folder.path)
    return write_bundles(folder.path.parent / "bundles", manifest_set.validation, complete=True)


def sender(folder: Folder, served: list[ServedProfile], *, deliver: bool = False) -> Sender:
    return Sender("http://gateway", "http://inbox", DataFolder(folder.path.parent), lambda: served, deliver)


def shown(folder: Folder) -> ShownTemplate:
    (found,) = folder.studio.templates.values()
    return found


def test_a_profile_that_delivers_is_never_used(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve_folder(folder, RELAY)
    monkeypatch.setattr(http_client, "post", None)
    outcome = asyncio.run(sender(folder, served, deliver=True).send(shown(folder), {}, None, None))
    assert "sends nothing through it" in outcome.text
    assert not sender(folder, served).refusal(shown(folder))


def test_a_profile_of_the_sandbox_may_be_used_while_others_deliver(folder: Folder) -> None:
    assert not sender(folder, serve_folder(folder), deliver=True).refusal(shown(folder))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            http_client.HttpResponse(
                422, {"errors": [{"pointer": "/data/id", "detail": "is no text", "code": "x"}]}
            ),
            "/data/id",
        ),
        (http_client.HttpResponse(503, {"detail": "not ready"}), "not ready"),
        (http_client.RequestFailed("http://gateway does not answer"), "does not answer"),
    ],
)
def test_the_cause_of_a_failed_send_is_reported(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, answer: http_client.HttpResponse | Exception, words: str
) -> None:
    asked: list[Any] = []

    def post(url: str, message: object) -> http_client.HttpResponse:
        asked.append((url, message))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(http_client, "post", post)
    outcome = asyncio.run(
        sender(folder, serve_folder(folder)).send(shown(folder), {"id": "1"}, "a@example.org", "de")
    )
    assert words in outcome.text
    assert not outcome.address
    ((url, message),) = asked
    assert url == "http://gateway/v1/messages?profile=shop"
    assert message == {
        "event_type": "order.paid",
        "recipient": "a@example.org",
        "data": {"id": "1"},
        "locale": "de",
    }


def test_a_letter_that_no_worker_takes_is_on_the_topic(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del tmp_path
    monkeypatch.setattr(sending, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(http_client, "post", lambda *_: http_client.HttpResponse(202, {"id": "m-1"}))
    outcome = asyncio.run(sender(folder, serve_folder(folder)).send(shown(folder), {}, None, None))
    assert isinstance(outcome, Outcome)
    assert "on the topic" in outcome.text
