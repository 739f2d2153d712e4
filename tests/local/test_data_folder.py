"""One run owns a data folder, and its programs keep it theirs until the last of them has ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from postroom.local import data_folder as folders
from postroom.local.data_folder import DataFolder, RunAddresses, write_atomically
from postroom.local.errors import UserError

ADDRESSES = RunAddresses(
    os.getpid(), "127.0.0.1:9092", "http://g", "http://i", "127.0.0.1:1025", "m", {"shop": "w"}
)


def test_a_second_owner_is_refused_by_the_first_ones_process(tmp_path: Path) -> None:
    first, second = DataFolder(tmp_path), DataFolder(tmp_path)
    first.acquire(print)
    first.write_addresses(ADDRESSES)
    with pytest.raises(UserError, match=f"in use by process {os.getpid()}") as trouble:
        second.acquire(print)
    assert "--data" in trouble.value.remedy
    first.release()
    second.acquire(print)
    second.release()


def test_programs_that_are_left_over_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, told = DataFolder(tmp_path), list[str]()
    first.acquire(told.append)
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=first.inherited_fds) as left_over:
        first.release()  # as after a kill -9 of the run
        assert left_over.stdin is not None
        ending = left_over.stdin

        def hear(line: str) -> None:
            told.append(line)
            ending.close()  # only now does the program end

        second = DataFolder(tmp_path)
        second.acquire(hear)
        second.release()
    assert told == ["waiting for the programs of the previous run to end"]


def test_programs_that_never_end_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "EXIT_SECONDS", 0.0)
    first = DataFolder(tmp_path)
    first.acquire(print)
    held = [os.dup(lock) for lock in first.inherited_fds]
    first.release()
    with pytest.raises(UserError, match="earlier run"):
        DataFolder(tmp_path).acquire(print)
    for lock in held:
        os.close(lock)


def test_addresses_are_read_as_they_were_written(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert folder.addresses() is None
    folder.write_addresses(ADDRESSES)
    assert folder.addresses() == ADDRESSES
    folder.remove_addresses()
    assert folder.addresses() is None


def test_addresses_of_another_version_are_none(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text('{"pid": 1}')
    assert DataFolder(tmp_path).addresses() is None


def test_nobody_else_looks_into_a_data_folder(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "deep" / "data")
    folder.acquire(print)
    folder.release()
    assert folder.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("path", ["file", "file/data", "data"])
def test_a_folder_that_cannot_be_used_is_named_with_the_way_out(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "up.lock").mkdir()  # what may not be opened for writing
    with pytest.raises(UserError, match=f"{path} cannot be used") as trouble:
        DataFolder(tmp_path / path).acquire(print)
    assert "--data" in trouble.value.remedy


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "deep" / "a.txt", "one")
    write_atomically(tmp_path / "deep" / "a.txt", "two")
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["a.txt"]
    assert (tmp_path / "deep" / "a.txt").read_text() == "two"
