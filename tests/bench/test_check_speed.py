"""Time of `postroom check` for 200 designer-size templates: wall, and processor time of all its processes."""

import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

from tests.bench.designer_folder import TEMPLATES, write_folder

pytestmark = pytest.mark.bench

ROUNDS = 5


def test_check_of_a_folder_of_designer_size_templates(tmp_path: Path) -> None:
    write_folder(tmp_path)
    walls, spent = [], []
    for _ in range(ROUNDS):
        before, begun = children_seconds(), time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "postroom", "check", str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
        )
        walls.append(time.monotonic() - begun)
        spent.append(children_seconds() - before)
        assert f"{TEMPLATES} of {TEMPLATES} templates pass" in " ".join(done.stdout.split())
    print(f"\nmedian of {ROUNDS}: {median(walls):.1f} s, {median(spent):.1f} s of processor time")


def children_seconds() -> float:
    """User and system time of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
