"""`postroom up` end to end: from a folder of manifests to letters in the inbox, through crashes."""

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from postroom.local import http_client
from tests.local.up_process import ANY_PORT, UpProcess, run_postroom

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(sys.platform != "linux", reason="the tests find children through /proc"),
    pytest.mark.usefixtures("broker"),  # skipped where no broker can be built
]
EXAMPLES = Path(__file__).parents[2] / "manifests" / "examples"

Start = Callable[[], UpProcess]


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """A copy of the examples for edits."""
    return shutil.copytree(EXAMPLES, tmp_path / "manifests")


@pytest.fixture
def start(manifests: Path, tmp_path: Path) -> Iterator[Start]:
    """Start `postroom up` on the copy; every run is stopped after the test."""
    running: list[UpProcess] = []

    def begin() -> UpProcess:
        up = UpProcess(manifests, tmp_path / "data")
        running.append(up)
        up.until("letters: ")
        return up

    yield begin
    for up in running:
        up.end()


def test_every_example_arrives_in_the_inbox(tmp_path: Path) -> None:
    done = run_postroom("up", "--once", "--data", str(tmp_path / "data"), *ANY_PORT)
    assert done.returncode == 0, done.stdout
    found = re.search(r"(\d+) of (\d+) letters arrived\.", done.stdout)
    assert found, done.stdout
    assert found[1] == found[2] != "0"
    for word in ("captured", "shop.user.welcomed", "Willkommen", "welcome@"):
        assert word in done.stdout


def test_every_example_arrives_through_apache_kafka_too(tmp_path: Path, apache_kafka: str) -> None:
    """On the user's brokers only topics are created."""
    done = run_postroom(
        "up", "--once", "--data", str(tmp_path / "data"), "--bootstrap-servers", apache_kafka, *ANY_PORT
    )
    assert done.returncode == 0, done.stdout
    assert not (tmp_path / "data" / "broker").exists()


def test_letters_survive_kills_of_worker_broker_and_up(start: Start) -> None:
    up = start()
    for victim in ("postroom.local.child_program worker", "postroom/broker-"):
        (process,) = up.children(victim)
        os.kill(process, signal.SIGKILL)
        recipient = f"after-{'worker' if 'worker' in victim else 'broker'}@example.org"
        up.until("restarting")
        up.send(recipient)
        assert up.wait_for(recipient)["to"] == [recipient]
    up.send("last@example.org")
    up.kill()
    again = start()
    assert again.wait_for("last@example.org")["to"] == ["last@example.org"]
    assert again.wait_for("after-worker@example.org")["to"] == ["after-worker@example.org"]
    assert again.end() == 0


def test_a_second_run_on_a_data_folder_is_rejected(start: Start, manifests: Path) -> None:
    up = start()
    second = run_postroom("up", str(manifests), "--data", str(up.data), *ANY_PORT)
    assert second.returncode == 1
    assert f"is in use by process {up.process.pid}" in second.stdout
    assert up.end() == 0
    assert not (up.data / "up.json").exists()


def test_a_valid_edit_is_served_at_once_and_an_invalid_edit_is_reported(
    start: Start, manifests: Path
) -> None:
    up = start()
    file = manifests / "verification-code.yaml"
    good = file.read_text()
    subject = re.search(r"^  subject: .*$", good, re.MULTILINE)
    assert subject
    file.write_text(good.replace(subject[0], '  subject: "{{ cod }} is wrong"'))
    line = good[: subject.start()].count("\n") + 1
    assert f"verification-code.yaml:{line}:16: variable_undeclared" in up.until("variable_undeclared")
    up.send("before@example.org")
    assert "123456" in str(up.wait_for("before@example.org")["subject"])
    file.write_text(good.replace(subject[0], '  subject: "Now it is {{ code }}"'))
    up.until("now serves verification-code@")
    for number in range(50):  # the gateway uses the new revision at once, a worker polls every second
        up.send(f"after{number}@example.org")
        if up.wait_for(f"after{number}@example.org")["subject"] == "Now it is 123456":
            break
    else:
        pytest.fail("the edit did not become live")


def test_a_new_profile_gets_a_topic_and_a_worker(start: Start, manifests: Path) -> None:
    up = start()
    profile = (manifests / "profile.yaml").read_text()
    template = (manifests / "verification-code.yaml").read_text()
    (manifests / "second.yaml").write_text(
        profile.replace("name: shop", "name: second")
        + "\n---\n"
        + template.replace("name: verification-code", "name: second-code").replace(
            "name: shop", "name: second"
        )
    )
    up.until("postroom.default.second created")
    up.until("now serves second-code@")
    answer = run_postroom(
        *("send", "shop.user.code-requested", "code=654321", "--profile", "second"),
        *("--to", "new@example.org", "--data", str(up.data)),
    )
    assert answer.returncode == 0, answer.stdout
    assert "654321" in str(up.wait_for("new@example.org")["subject"])


def test_send_and_letter_use_the_running_up(start: Start) -> None:
    up = start()
    data = ["--data", str(up.data)]
    refused = run_postroom("send", "shop.user.code-requested", "--to", "mira@example.org", *data)
    assert refused.returncode == 1
    assert "/data/code" in refused.stdout
    sent = run_postroom("send", "shop.user.code-requested", "code=123456", "--to", "mira@example.org", *data)
    assert sent.returncode == 0
    up.wait_for("mira@example.org")
    up.until("1 captured")
    message_id = sent.stdout.split()[2]
    known = http_client.get(f"{up.addresses.gateway}/v1/messages/{message_id}")
    assert [letter["state"] for letter in known.body["letters"]] == ["captured"]
    shown = run_postroom("letter", "mira@example.org", *data)
    for word in ("captured", "verification-code@", "Message-ID", "250"):
        assert word in shown.stdout


def test_a_letter_sent_from_the_studio_is_in_the_inbox_and_a_save_updates_the_studio(
    start: Start, manifests: Path
) -> None:
    up = start()
    studio, inbox = up.addresses.studio, up.addresses.inbox
    page = f"{studio}/templates/default/verification-code"
    with httpx.Client(trust_env=False, follow_redirects=True, timeout=60) as browser:
        assert f'href="{studio}/templates"' in browser.get(f"{inbox}/").text
        sent = browser.post(f"{page}/send", data={"recipient": "studio@example.org"}).text
        found = re.search(rf"{inbox}/letters/(\d+)", sent)
        assert found, sent
        letter = browser.get(f"{inbox}/api/v1/letters/{found[1]}").json()
        assert letter["to"] == ["studio@example.org"]
        file = manifests / "verification-code.yaml"
        with browser.stream("GET", f"{studio}/events") as events:
            file.write_text(file.read_text().replace("is your Larkfield code", "it is, your code"))
            for line in events.iter_lines():
                if line.startswith("data: ") and "it is, your code" in browser.get(page).text:
                    break
    assert up.end() == 0
