"""A worker as a pod has it, with what its pages say."""

import json
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.exc import ProgrammingError

from postroom.local.machine import free_port
from tests.delivery import kubelet
from tests.fixtures.pipeline import WorkerUnderTest
from tests.ledger.postgres_ledgers import execute
from tests.worker.test_worker_process import page

PATIENCE_SECONDS = 240.0
"""A lease has to run out at times, and the machine may be slow."""


@dataclass(slots=True)
class WorkerPod(WorkerUnderTest):
    """A worker as a pod has it, on a ledger that it shares."""

    database: str = ""
    name: str = "plant-a"
    address: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    prepared: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    """What else it finds in its environment, whenever it is started."""

    def run(self, **environment: str) -> "WorkerPod":
        """Start it with its connections Secret."""
        connections = self.folder / "connections"
        connections.mkdir(exist_ok=True)
        kubelet.write(connections, {"kafka-bootstrap-servers": self.bootstrap, "ledger-url": self.database})
        self.start(
            POSTROOM_BOOTSTRAP_SERVERS=None,
            POSTROOM_LEDGER=None,
            POSTROOM_CONNECTIONS=str(connections),
            POSTROOM_NAMESPACE="default",
            POSTROOM_POD=self.name,
            POSTROOM_HTTP=self.address,
            **(self.environment | environment),
        )
        return self

    def runs(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.poll() is None

    def stand_still(self, still: bool = True) -> None:
        """Stop the process where it is, or let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP if still else signal.SIGCONT)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            return execute(self.database, sql, "postroom_default")
        except ProgrammingError as error:
            if "does not exist" in str(error.orig):
                return []
            raise

    def sending(self) -> int:
        """Rows in `sending` that are this worker's."""
        mine = f"SELECT worker_epoch FROM worker WHERE process LIKE '% {self.name}'"
        rows = self.query(f"SELECT count(*) FROM letter WHERE state = 'sending' AND worker_epoch IN ({mine})")
        return int(rows[0][0]) if rows else 0

    def says(self) -> dict[str, Any]:
        """Its /statusz; empty while it does not answer."""
        code, body = page(self.address, "/statusz")
        return dict(json.loads(body)) if code == 200 else {}

    def condition(self, name: str) -> tuple[bool | None, str]:
        """One of its conditions: how it is, and the reason."""
        found = self.says().get("conditions", {}).get(name, {})
        return found.get("ok"), found.get("reason", "")

    def ready(self) -> bool:
        """What its readiness probe says."""
        return page(self.address, "/readyz")[0] == 200

    def figure(self, name: str) -> float:
        """One of its metrics that has no labels."""
        found = re.search(rf"^{name} (\S+)$", page(self.address, "/metrics")[1], re.MULTILINE)
        assert found, name
        return float(found[1])

    def ask_to_end(self) -> None:
        """SIGTERM; it ends when it has drained."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def count_logged(self, words: bytes) -> int:
        """How often its log has these words, over all its starts."""
        return (self.folder / "worker.log").read_bytes().count(words)

    def memory(self) -> int:
        """The most memory that its process had so far, in MiB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) // 1024
