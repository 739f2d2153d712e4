"""Commands that are shown work when they are copied: the same program, folders and ports."""

import os
import shlex
import sys
from pathlib import Path

import pytest

from postroom.local.plan import UpOptions, command_line, up_command, wrap_command


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that was called by its path, and is not on PATH."""
    program = tmp_path / "my bin" / "postroom"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", os.defpath)
    return program


def test_a_command_names_the_program_as_the_user_called_it(
    called: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shlex.split(command_line("up")) == [str(called), "up"]
    monkeypatch.setenv("PATH", str(called.parent))
    assert command_line("up") == "postroom up"
    monkeypatch.setattr(sys, "argv", ["/somewhere/postroom/__main__.py"])
    assert shlex.split(command_line("up"))[-3:] == ["-m", "postroom", "up"]


def test_a_command_repeats_options_that_are_not_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["postroom"])
    assert up_command(UpOptions(Path("m"), Path("dp"))) == "postroom up m --data dp"
    assert up_command(UpOptions(Path("m"), Path(".postroom"), custom_manifests=False)) == "postroom up"
    fixed = UpOptions(Path("m"), Path(".postroom"), "k:9092", fixed_ports=frozenset({"inbox"}))
    assert up_command(fixed) == "postroom up m --bootstrap-servers k:9092 --port-inbox 8025"


@pytest.mark.parametrize("width", [20, 40, 200])
def test_a_long_command_is_wrapped_with_backslashes(width: int) -> None:
    line = "postroom send shop.user.welcomed --to mira@example.com 'name=Mira de Smet' code=1"
    lines = wrap_command(line, width).splitlines()
    assert all(each.endswith(" \\") for each in lines[:-1])
    joined = wrap_command(line, width).replace("\\\n", "")  # as a shell does; shlex does not
    assert shlex.split(joined) == shlex.split(line)
    assert width < 40 or max(map(len, lines)) <= width
