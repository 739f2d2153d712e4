"""The data folder of `postroom up`: everything of a run on this machine is in it, and one run owns it.

    broker/                        the embedded broker's topics and offsets
    bundles/<profile>/             profile.yaml and templates.json, what workers and the gateway read
    ledgers/<profile>.sqlite       what became of each letter
    sandbox.sqlite                 the inbox
    logs/<program>.log             what each program said
    up.json                        addresses and process ids of the run that owns the folder
    up.lock, programs.lock         who owns it: the run itself, and every program it started

Failure: `Trouble` when another run owns the folder, or it cannot be made or written. Nobody but its owner
may look into it: one-time codes and addresses lie there. The locks are flocks: they end with their processes,
so that nothing has to be cleaned up after a kill.
"""

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic, sleep

from postroom.local.errors import UserError

DEFAULT_DATA_FOLDER = Path(".postroom")
EXIT_SECONDS = 40.0
"""How long the programs of a killed run may take to end before a new run gives up."""


@dataclass(frozen=True, slots=True)
class RunAddresses:
    """Where a run can be reached, as it stands in up.json."""

    pid: int
    bootstrap_servers: str
    gateway: str
    inbox: str
    smtp: str
    manifests: str
    workers: dict[str, str] = field(default_factory=dict)
    """Profile → the worker's HTTP address."""
    studio: str = ""
    """The template studio; empty where it is not served."""


class DataFolder:
    """Paths inside one data folder, and the right to use it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._locks: list[int] = []

    @property
    def broker(self) -> Path:
        """The embedded broker's data."""
        return self.path / "broker"

    @property
    def bundles(self) -> Path:
        """One folder per profile."""
        return self.path / "bundles"

    @property
    def sandbox(self) -> Path:
        """The inbox's database."""
        return self.path / "sandbox.sqlite"

    def ledger(self, profile: str) -> Path:
        """A profile's ledger."""
        return self.path / "ledgers" / f"{profile}.sqlite"

    def ledgers(self) -> list[Path]:
        """Every ledger there is."""
        return sorted((self.path / "ledgers").glob("*.sqlite"))

    def log(self, program: str) -> Path:
        """Where a program's words go."""
        return self.path / "logs" / f"{program}.log"

    @property
    def inherited_fds(self) -> tuple[int, ...]:
        """The lock that every program of this run holds as well."""
        return tuple(self._locks[1:])

    def acquire(self, notify: Callable[[str], None]) -> None:
        """Make the folder this run's own; raises Trouble when another run has it."""
        if not self._claim():
            other = self.addresses()
            by = f" by process {other.pid}" if other else ""
            raise UserError(
                f"{self.path} is in use{by}: another `postroom up` runs on it.",
                "Stop that one, or give this one a folder of its own: postroom up --data DIR",
            )
        deadline, told = monotonic() + EXIT_SECONDS, False
        while not self._take("programs.lock", inherit=True):
            if not told:
                notify("waiting for the programs of the previous run to end")
                told = True
            if monotonic() > deadline:
                self.release()
                raise UserError(
                    f"Programs of an earlier run still use {self.path} after {EXIT_SECONDS:.0f} s.",
                    "End the processes named `postroom.local.child_program` and `broker-`.",
                )
            sleep(0.1)

    def release(self) -> None:
        """Let go of the folder."""
        while self._locks:
            os.close(self._locks.pop())

    def write_addresses(self, addresses: RunAddresses) -> None:
        """Say where this run can be reached, for `postroom send` and for people."""
        write_atomically(self.path / "up.json", json.dumps(asdict(addresses), indent=2) + "\n")

    def remove_addresses(self) -> None:
        """Nothing can be reached any more."""
        (self.path / "up.json").unlink(missing_ok=True)

    def addresses(self) -> RunAddresses | None:
        """Where the run that owns the folder can be reached; None when nothing was written."""
        try:
            return RunAddresses(**json.loads((self.path / "up.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _claim(self) -> bool:
        """Make the folder where it is not there yet and take its first lock; raises Trouble."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.is_dir():
                self.path.mkdir(mode=0o700)
            for folder in (self.bundles, self.path / "ledgers", self.path / "logs"):
                folder.mkdir(exist_ok=True)
            return self._take("up.lock")
        except OSError as error:
            raise UserError(
                f"The data folder {self.path} cannot be used: {error.strerror} ({error.filename}).",
                "Name a folder that you may write to: --data DIR",
            ) from None

    def _take(self, name: str, *, inherit: bool = False) -> bool:
        lock = os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        os.set_inheritable(lock, inherit)
        self._locks.append(lock)
        return True


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old text or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
