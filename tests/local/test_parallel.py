"""Several processes give the same results in the same order as one; without further processes one does it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from postroom.letter.validation.validate import TemplateWithLayout
from postroom.local import parallel
from postroom.local.manifests import read_input, read_manifest_folder
from tests.letter.factories import layout, template
from tests.local.manifest_texts import PROFILE, TEMPLATE, write_manifests

PAGE = layout('<html lang="en"><body>{% block content %}{% endblock %}</body></html>')
PAIRS: list[TemplateWithLayout] = [
    (template(f"<p>{number} {{{{ name }}}}</p>" + "{{ wrong }}" * (number % 3 == 0)), PAGE)
    for number in range(8)
]


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "MIN_TEMPLATES", 2)
    monkeypatch.setattr(parallel, "available_processors", lambda: 2)
    monkeypatch.setattr(threading, "active_count", lambda: 1)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of processes that validated, as seen in this process."""
    seen: list[int] = []
    real = parallel._validate_pair

    def proof(pair: TemplateWithLayout) -> Any:
        seen.append(os.getpid())
        return real(pair)

    monkeypatch.setattr(parallel, "_validate_pair", proof)
    return seen


@pytest.mark.usefixtures("two_processes")
def test_several_processes_give_the_same_results_in_the_same_order() -> None:
    found = list(parallel.validate_in_processes(PAIRS))
    assert found == [parallel._validate_pair(pair) for pair in PAIRS]
    assert [proof.passed for proof in found] == [bool(number % 3) for number in range(8)]


def test_few_templates_stay_in_this_process(in_this_process: list[int]) -> None:
    assert len(list(parallel.validate_in_processes(PAIRS))) == len(in_this_process) == len(PAIRS)


@pytest.mark.usefixtures("two_processes")
def test_a_process_with_threads_does_not_fork(
    in_this_process: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert len(list(parallel.validate_in_processes(PAIRS))) == len(in_this_process)


@pytest.mark.usefixtures("two_processes")
@pytest.mark.parametrize("error", [OSError("no semaphores"), ImportError(), NotImplementedError()])
def test_without_further_processes_this_process_validates(
    error: Exception, in_this_process: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(parallel, "ProcessPoolExecutor", refuse)
    assert len(list(parallel.validate_in_processes(PAIRS))) == len(in_this_process)


class Pool:
    """A pool that fails."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.ended: list[str] = []

    def __call__(self, *_: Any, **__: Any) -> "Pool":
        return self

    def map(self, *_: Any, **__: Any) -> None:
        raise self.error

    def terminate(self) -> None:
        self.ended.append("process")

    def shutdown(self, **_: Any) -> None:
        self.ended.append("pool")


@pytest.mark.usefixtures("two_processes")
def test_after_the_loss_of_a_process_this_process_validates(
    in_this_process: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(BrokenProcessPool())
    monkeypatch.setattr(parallel, "ProcessPoolExecutor", pool)
    assert len(list(parallel.validate_in_processes(PAIRS))) == len(in_this_process)
    assert pool.ended == ["pool"]


@pytest.mark.usefixtures("two_processes")
def test_an_interrupt_ends_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(KeyboardInterrupt())
    monkeypatch.setattr(parallel, "ProcessPoolExecutor", pool)
    monkeypatch.setattr(multiprocessing, "active_children", lambda: [pool])
    with pytest.raises(KeyboardInterrupt):
        parallel.validate_in_processes(PAIRS)
    assert pool.ended == ["process", "pool"]


def test_a_folder_has_the_same_results_with_several_processes(tmp_path: Path, two_processes: None) -> None:
    files = {
        f"t{number}": TEMPLATE.replace("welcome", f"t{number}").replace("user.", f"user{number}.")
        for number in range(6)
    }
    write_manifests(tmp_path, profile=PROFILE, **files)
    both = [
        read_manifest_folder(tmp_path),
        read_input(tmp_path, validate_each=parallel.validate_in_processes),
    ]
    assert both[0].validation == both[1].validation
    assert both[0].findings == both[1].findings


STUCK = """
import os, signal
from postroom.local import parallel
from tests.local.test_parallel import PAIRS

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts without this handler

def stuck(pair):
    os.write(1, b"x")
    signal.pause()

parallel.MIN_TEMPLATES, parallel.available_processors, parallel._validate_pair = 2, lambda: 2, stuck
parallel.validate_in_processes(PAIRS)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_ctrl_c_ends_all_processes_and_only_the_parent_prints() -> None:
    command = [sys.executable, "-c", STUCK]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as check:
        assert check.stdout is not None
        assert check.stdout.read(2) == b"xx"
        os.killpg(check.pid, signal.SIGINT)
        _, errors = check.communicate(timeout=60)  # the pipes close when all processes have exited
    assert errors.count(b"Traceback") == 1
    assert errors.rstrip().endswith(b"KeyboardInterrupt")
