"""The program of `helm test` where it cannot send its letter: it exits at once with what is missing."""

import os
import subprocess
import sys

import pytest

from tests.fixtures.helm import CHART

pytestmark = pytest.mark.processes
PROGRAM = CHART / "files" / "letter_test.py"


def end_of(**settings: str) -> str:
    """The last output of the program, on a machine without the mounted Secret."""
    environment = {"TEST_NAMESPACE": "mail", "TEST_SECRET": "postroom-connections", "TEST_TIMEOUT": "240"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env={**os.environ, **environment, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


def test_a_missing_secret_is_named_with_the_way_out() -> None:
    output = end_of()
    assert "Secret mail/postroom-connections" in output
    assert "kafka-bootstrap-servers, ledger-url" in output
    assert "tests.connectionsSecret" in output
    assert "Traceback" not in output


def test_a_namespace_that_the_operator_does_not_watch_is_named() -> None:
    output = end_of(TEST_WATCHED="shop,billing")
    assert "shop, billing only" in output
    assert "mail: add it" in output
