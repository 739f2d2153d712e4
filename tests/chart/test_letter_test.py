"""The program of `helm test`, where it cannot send its letter: it ends at once and says what is missing."""

import os
import subprocess
import sys

import pytest

from tests.fixtures.helm import CHART

pytestmark = pytest.mark.processes
PROGRAM = CHART / "files" / "letter_test.py"


def end_of(**settings: str) -> str:
    """What the program says at its end, on a machine without the mounted Secret."""
    told = {"TEST_NAMESPACE": "mail", "TEST_SECRET": "postroom-connections", "TEST_TIMEOUT": "240"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env={**os.environ, **told, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


def test_a_missing_secret_is_named_with_the_way_out() -> None:
    said = end_of()
    assert "Secret mail/postroom-connections" in said
    assert "kafka-bootstrap-servers, ledger-url" in said
    assert "tests.connectionsSecret" in said
    assert "Traceback" not in said


def test_a_namespace_that_the_operator_does_not_watch_is_named() -> None:
    said = end_of(TEST_WATCHED="shop,billing")
    assert "shop, billing only" in said
    assert "mail: add that one" in said
