"""The data folder of `postroom up`: paths, addresses of the running programs, exclusive ownership.

    broker/                        topics and offsets of the embedded broker
    bundles/<profile>/             profile.yaml and templates.json, read by workers and the gateway
    ledgers/<profile>.sqlite       the ledger: state and attempts of each letter
    sandbox.sqlite                 the inbox
    logs/<program>.log             log of each program
    up.json                        addresses and process id of the run that owns the folder
    up.lock, programs.lock         locks of the run, and of every program that it started

One run owns a folder at a time. The folder is readable by its owner alone (mode 0700), because it holds
one-time codes and addresses. The locks are flocks: the kernel releases them when the processes exit, so
nothing has to be cleaned up after a kill.

Failure: `UserError` when another run owns the folder, or when it cannot be created or written.
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
"""Time limit for the programs of a killed run to exit; after that a new run fails."""


@dataclass(frozen=True, slots=True)
class RunAddresses:
    """The addresses of a run, as up.json has them."""

    pid: int
    bootstrap_servers: str
    gateway: str
    inbox: str
    smtp: str
    manifests: str
    workers: dict[str, str] = field(default_factory=dict)
    """Profile → the worker's HTTP address."""
    studio: str = ""
    """The template studio; empty when it is not served."""


class DataFolder:
    """Paths inside a data folder, and its locks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._locks: list[int] = []

    @property
    def broker(self) -> Path:
        """The embedded broker's data."""
        return self.path / "broker"

    @property
    def bundles(self) -> Path:
        """The folder with a subfolder for each profile."""
        return self.path / "bundles"

    @property
    def sandbox(self) -> Path:
        """The inbox's database."""
        return self.path / "sandbox.sqlite"

    def ledger(self, profile: str) -> Path:
        """A profile's ledger."""
        return self.path / "ledgers" / f"{profile}.sqlite"

    def ledgers(self) -> list[Path]:
        """The paths of all ledgers."""
        return sorted((self.path / "ledgers").glob("*.sqlite"))

    def log(self, program: str) -> Path:
        """The log of a program."""
        return self.path / "logs" / f"{program}.log"

    @property
    def inherited_fds(self) -> tuple[int, ...]:
        """File descriptors of the lock that every program of this run holds as well."""
        return tuple(self._locks[1:])

    def acquire(self, notify: Callable[[str], None]) -> None:
        """Create the folder and take its locks; raises UserError when another run owns it."""
        if not self._claim():
            other = self.addresses()
            by = f" by process {other.pid}" if other else ""
            raise UserError(
                f"{self.path} is in use{by}: another `postroom up` owns it.",
                "Stop that run, or choose another folder: postroom up --data DIR",
            )
        deadline, announced = monotonic() + EXIT_SECONDS, False
        while not self._take("programs.lock", inherit=True):
            if not announced:
                notify("waiting for the programs of the previous run to exit")
                announced = True
            if monotonic() > deadline:
                self.release()
                raise UserError(
                    f"Programs of an earlier run still use {self.path} after {EXIT_SECONDS:.0f} s.",
                    "End the processes named `postroom.local.child_program` and `broker-`.",
                )
            sleep(0.1)

    def release(self) -> None:
        """Release the locks."""
        while self._locks:
            os.close(self._locks.pop())

    def write_addresses(self, addresses: RunAddresses) -> None:
        """Write up.json, which `postroom send` and other commands read."""
        write_atomically(self.path / "up.json", json.dumps(asdict(addresses), indent=2) + "\n")

    def remove_addresses(self) -> None:
        """Remove up.json when the run ends."""
        (self.path / "up.json").unlink(missing_ok=True)

    def addresses(self) -> RunAddresses | None:
        """Read up.json; returns None when no run has written it."""
        try:
            return RunAddresses(**json.loads((self.path / "up.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _claim(self) -> bool:
        """Create the folder when it is missing, and take its first lock; raises UserError."""
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
                "Choose a folder that you may write to: --data DIR",
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
    """Replace a file atomically: a reader sees the whole old text or the whole new text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
