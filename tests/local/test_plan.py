"""A command that is shown works when it is copied: the same program, the same folders, whole lines."""

import os
import shlex
import sys
from pathlib import Path

import pytest

from postroom.local.plan import UpOptions, command_line, up_command, wrap_command


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name that was called by its path, and is not on the PATH."""
    program = tmp_path / "my bin" / "postroom"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", os.defpath)
    return program


def test_the_program_is_named_as_it_was_called(called: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shlex.split(command_line("up")) == [str(called), "up"]
    monkeypatch.setenv("PATH", str(called.parent))
    assert command_line("up") == "postroom up"
    monkeypatch.setattr(sys, "argv", ["/somewhere/postroom/__main__.py"])
    assert shlex.split(command_line("up"))[-3:] == ["-m", "postroom", "up"]


def test_folders_are_said_again_where_they_are_not_the_default_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["postroom"])
    assert up_command(UpOptions(Path("m"), Path("dp"))) == "postroom up m --data dp"
    assert up_command(UpOptions(Path("m"), Path(".postroom"), custom_manifests=False)) == "postroom up"
    fixed = UpOptions(Path("m"), Path(".postroom"), "k:9092", fixed_ports=frozenset({"inbox"}))
    assert up_command(fixed) == "postroom up m --bootstrap-servers k:9092 --port-inbox 8025"


@pytest.mark.parametrize("width", [20, 40, 200])
def test_a_long_command_is_broken_where_a_shell_reads_on(width: int) -> None:
    line = "postroom send shop.user.welcomed --to mira@example.com 'name=Mira de Smet' code=1"
    lines = wrap_command(line, width).splitlines()
    assert all(each.endswith(" \\") for each in lines[:-1])
    read_on = wrap_command(line, width).replace("\\\n", "")  # as a shell does; shlex does not
    assert shlex.split(read_on) == shlex.split(line)
    assert width < 40 or max(map(len, lines)) <= width
