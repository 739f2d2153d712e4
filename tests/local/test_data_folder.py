"""One run owns a data folder until the last of its programs has exited."""

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


def test_a_second_owner_is_rejected_with_the_process_id_of_the_first(tmp_path: Path) -> None:
    first, second = DataFolder(tmp_path), DataFolder(tmp_path)
    first.acquire(print)
    first.write_addresses(ADDRESSES)
    with pytest.raises(UserError, match=f"in use by process {os.getpid()}") as raised:
        second.acquire(print)
    assert "--data" in raised.value.remedy
    first.release()
    second.acquire(print)
    second.release()


def test_programs_of_a_killed_run_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, messages = DataFolder(tmp_path), list[str]()
    first.acquire(messages.append)
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=first.inherited_fds) as remaining:
        first.release()  # as after a kill -9 of the run
        assert remaining.stdin is not None
        ending = remaining.stdin

        def notify(line: str) -> None:
            messages.append(line)
            ending.close()  # now the program exits

        second = DataFolder(tmp_path)
        second.acquire(notify)
        second.release()
    assert messages == ["waiting for the programs of the previous run to exit"]


def test_programs_that_do_not_exit_fail_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_addresses_of_another_version_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text('{"pid": 1}')
    assert DataFolder(tmp_path).addresses() is None


def test_a_data_folder_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "deep" / "data")
    folder.acquire(print)
    folder.release()
    assert folder.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("path", ["file", "file/data", "data"])
def test_an_unusable_folder_is_an_error_with_a_remedy(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "up.lock").mkdir()  # cannot be opened for writing
    with pytest.raises(UserError, match=f"{path} cannot be used") as raised:
        DataFolder(tmp_path / path).acquire(print)
    assert "--data" in raised.value.remedy


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "deep" / "a.txt", "one")
    write_atomically(tmp_path / "deep" / "a.txt", "two")
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["a.txt"]
    assert (tmp_path / "deep" / "a.txt").read_text() == "two"
