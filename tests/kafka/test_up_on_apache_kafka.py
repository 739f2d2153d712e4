"""`postroom up` on a real Apache Kafka: every sample of the examples arrives in the inbox."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kafka

ANY_PORTS = ("--port-inbox", "0", "--port-gateway", "0", "--port-smtp", "0")


def test_every_example_arrives_over_apache_kafka(apache_kafka: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "postroom",
        "up",
        "--once",
        "--bootstrap-servers",
        apache_kafka,
        *ANY_PORTS,
    ]
    done = subprocess.run(
        [*command, "--data", str(tmp_path / "data")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "letters arrived" in done.stdout
    assert "captured" in done.stdout
