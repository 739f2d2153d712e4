"""The command line: errors as lines instead of tracebacks, and exit statuses."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from postroom.cli import app
from postroom.letter.problems import Code, Problem, Rejected
from postroom.local.errors import UserError
from postroom.local.machine import free_port
from postroom.local.plan import Ports, UpOptions, choose_ports
from tests.local.manifest_texts import PROFILE, TEMPLATE, write_manifests


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["postroom", *arguments])
    with pytest.raises(SystemExit) as exit_:
        app.main()
    return int(exit_.value.code or 0)


def test_help_names_every_command() -> None:
    text = CliRunner().invoke(app.app, ["--help"]).output
    for command in ("up", "check", "send", "letter", "worker", "sandbox", "gateway", "version"):
        assert command in text


def test_check_exits_with_1_when_an_object_may_not_go_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifests(tmp_path, profile=PROFILE, welcome=TEMPLATE)
    assert run(monkeypatch, "check", str(tmp_path)) == 0
    write_manifests(tmp_path, welcome=TEMPLATE.replace("{{ name }}", "{{ nam }}"))
    assert run(monkeypatch, "check", str(tmp_path), "--format", "github") == 1
    assert "::error file=" in capsys.readouterr().out


def test_check_accepts_references_to_a_context_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = tmp_path / "platform"
    platform.mkdir()
    write_manifests(platform, profile=PROFILE)
    write_manifests(tmp_path, welcome=TEMPLATE)
    template = str(tmp_path / "welcome.yaml")
    assert run(monkeypatch, "check", template) == 1
    assert run(monkeypatch, "check", template, "--context", str(platform)) == 0
    assert run(monkeypatch, "check", template, "--ignore-missing-references", "--strict") == 0
    assert run(monkeypatch, "check", template, "--no-such-option") == 2


@pytest.mark.parametrize("text", [None, "", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n"])
def test_a_folder_without_a_manifest_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    if text is not None:
        write_manifests(tmp_path, other=text)
    assert run(monkeypatch, "check", str(tmp_path)) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(f"postroom: {tmp_path} holds ")
    assert "EmailTemplate" in errors


def test_a_user_error_is_two_lines_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "send", "user.welcomed", "--to", "a@example.org", "--data", str(tmp_path)) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("postroom: No `postroom up` runs on the data folder")
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "command", [["send", "x"], ["letter", "x", "--data", "nowhere"], ["check", "nowhere"]]
)
def test_a_missing_input_is_an_error_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert run(monkeypatch, *command) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_an_unknown_letter_points_to_the_dead_letter_topics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bundles" / "shop").mkdir(parents=True)
    (tmp_path / "bundles" / "shop" / "profile.yaml").write_text(PROFILE)
    monkeypatch.setattr("postroom.local.letters.find_letters", lambda *_: [])
    assert run(monkeypatch, "letter", "m-1", "--data", str(tmp_path)) == 1
    assert "are on postroom.default.shop.dlq." in capsys.readouterr().err


def test_the_version_is_an_option_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("postroom ")


def test_a_rejection_is_a_line_for_each_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reject() -> None:
        raise Rejected(Problem(Code.SETTING_MISSING, "POSTROOM_LEDGER", "is not set"))

    monkeypatch.setattr(app, "app", reject)
    assert run(monkeypatch) == 1
    assert capsys.readouterr().err == "postroom: POSTROOM_LEDGER: is not set (setting_missing)\n"


def test_the_examples_are_found() -> None:
    assert list(app._examples().glob("*.yaml"))


def test_a_taken_port_is_replaced_and_reported() -> None:
    import socket

    messages: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        preferred = Ports(broker=0, smtp=0, inbox=taken, gateway=free_port())
        ports = choose_ports(UpOptions(Path(), Path(), ports=preferred), messages.append)
        with pytest.raises(UserError, match=f"Port {taken} is taken") as raised:
            choose_ports(UpOptions(Path(), Path(), ports=preferred, fixed_ports=frozenset({"inbox"})), print)
    assert "--port-inbox" in raised.value.remedy
    assert ports.inbox != taken
    assert messages == [f"port {taken} is taken; the inbox listens on {ports.inbox}"]
    assert len({ports.broker, ports.smtp, ports.inbox, ports.gateway}) == 4
