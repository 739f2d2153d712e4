"""Building the embedded broker: the errors have remedies, and a cached executable needs no toolchain."""

import os
from pathlib import Path

import pytest

from postroom.local import broker
from postroom.local.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and an environment without Go."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path / "scripts"))
    return tmp_path


def fake_go(folder: Path, version: str, *, build: str = "exit 1") -> None:
    """A `go` that prints its version and builds by running a line of shell ($out is the target)."""
    folder.mkdir()
    script = f'#!/bin/sh\n[ "$1" = version ] && echo "go version go{version} linux/amd64" && exit\n'
    script += f'while [ "$1" != -o ]; do shift; done; out=$2\n{build}\n'
    (folder / "go").write_text(script)
    (folder / "go").chmod(0o755)


def test_a_machine_without_go_gets_three_remedies() -> None:
    with pytest.raises(UserError) as raised:
        broker.broker_executable(print)
    assert "no Go toolchain was found" in raised.value.problem
    for way in ("pip install 'postroom[local]'", "Go ≥ 1.26", "--bootstrap-servers"):
        assert way in raised.value.remedy


def test_an_old_go_is_rejected_with_its_version(cache: Path) -> None:
    fake_go(cache / "bin", "1.22.1")
    with pytest.raises(UserError, match=r"bin/go is 1\.22"):
        broker.broker_executable(print)


def test_the_go_beside_the_interpreter_is_used_when_path_has_none(cache: Path) -> None:
    fake_go(cache / "scripts", "1.27.3")
    assert broker.find_go() == str(cache / "scripts" / "go")


def test_the_broker_is_built_once_and_then_taken_from_the_cache(cache: Path) -> None:
    fake_go(cache / "bin", "1.26.0", build='echo "go: downloading x" >&2; echo lib >&2; echo built > "$out"')
    messages: list[str] = []
    built = broker.broker_executable(messages.append)
    assert built.read_text() == "built\n"
    assert built.parent == cache / "cache" / "postroom"
    assert "downloading x" in messages
    assert "compiling lib (2)" in messages
    (cache / "bin" / "go").unlink()
    assert broker.broker_executable(messages.append) == built


def test_a_failed_build_leaves_no_file_and_reports_the_reason(cache: Path) -> None:
    fake_go(cache / "bin", "1.26.0", build='echo "main.go:7: no" >&2; echo half > "$out"; exit 1')
    with pytest.raises(UserError, match=r"main\.go:7: no"):
        broker.broker_executable(print)
    assert [file.suffix for file in (cache / "cache" / "postroom").iterdir()] == [".lock"]


def test_an_unreachable_module_proxy_is_reported(cache: Path) -> None:
    fake_go(cache / "bin", "1.26.0", build='echo "dial tcp: lookup proxy: no such host" >&2; exit 1')
    with pytest.raises(UserError) as raised:
        broker.broker_executable(print)
    assert "GOPROXY" in raised.value.remedy


def test_the_source_decides_the_name_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = broker.cached_executable()
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "main.go").write_text("package main")
    monkeypatch.setattr(broker, "BROKER_SOURCE", tmp_path / "source")
    assert broker.cached_executable() != before
    assert os.fspath(before.parent) == os.fspath(broker.cached_executable().parent)
