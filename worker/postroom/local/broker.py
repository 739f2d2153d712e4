"""Build the embedded broker once, with the Go toolchain that this machine has.

Input: the Go source in `broker/`, which is part of the package. Output: the path of an executable in
the user's cache, `<cache>/postroom/broker-<hash of the source and the platform>`. It is built at first
use (about a minute, most of it downloading franz-go), taken from the cache ever after, also when the
toolchain has gone, and never by two builders at once. Failure: `Trouble`, with what to install.

The embedded broker as a child process: start, stop, kill, restart on the same port.

Input: where to keep data (None: in memory), a port (0: any free one), whether every batch is fsynced
before its ack. Output: `bootstrap`, the address for `bootstrap.servers`; it is on 127.0.0.1 and stays
the same over restarts. In memory a topic is created at first use; with a folder a client has to create
it (`topics.create_topics`), because the broker writes a topic of its own making to disk only when it
ends in order. The child ends when this process ends, however it ends: its standard input closes.
Failure: `Trouble`, with the broker's own words.

Create the topics that profiles ask for, and tell how far their readers are.

Input: a broker's address and the topics wanted. Output: the names that were created; existing topics are
left as they are (a topic is never deleted or shrunk). Failure: `Trouble` when the broker does not answer
or refuses.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import select
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from postroom.local.errors import UserError
from postroom.local.machine import cache_folder, child_environment

BROKER_SOURCE = Path(__file__).with_name("broker")
GO_NEEDED = (1, 26)
"""What kfake's go.mod asks for."""

REMEDY = (
    "Any of these helps:\n"
    "  pip install 'postroom[local]'         brings a Go toolchain into this environment\n"
    "  install Go ≥ 1.26                     https://go.dev/dl/, so that `go` is on PATH\n"
    "  --bootstrap-servers HOST:PORT         use a Kafka broker that already runs"
)

Notify = Callable[[str], None]
"""Where a line of progress goes."""


def broker_executable(notify: Notify) -> Path:
    """The broker's executable, built first when the cache does not hold it."""
    target = cached_executable()
    if target.exists():
        return target
    go = find_go()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _build_lock(target.with_suffix(".lock"), notify):
        if not target.exists():
            _build(go, target, notify)
    return target


def cached_executable() -> Path:
    """Where the executable is, or will be."""
    return cache_folder() / f"broker-{_fingerprint()}"


def find_go() -> str:
    """The `go` on PATH or the one that the `local` extra put beside this interpreter."""
    beside = Path(sysconfig.get_path("scripts")) / "go"
    found = [go for go in (shutil.which("go"), str(beside) if beside.exists() else None) if go]
    if not found:
        raise UserError("The embedded broker has to be built once, and no Go toolchain was found.", REMEDY)
    versions = {go: _version(go) for go in found}
    for go, version in versions.items():
        if version >= GO_NEEDED:
            return go
    told = ", ".join(f"{go} is {'.'.join(map(str, version))}" for go, version in versions.items())
    raise UserError(f"The embedded broker needs Go ≥ 1.26 to be built; {told}.", REMEDY)


def _version(go: str) -> tuple[int, ...]:
    said = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\bgo(\d+)\.(\d+)", said)
    return tuple(map(int, match.groups())) if match else (0, 0)


def _fingerprint() -> str:
    digest = hashlib.blake2b(f"{platform.system()}/{platform.machine()}".encode(), digest_size=8)
    for file in sorted(BROKER_SOURCE.iterdir()):
        if file.suffix in {".go", ".mod", ".sum"}:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@contextmanager
def _build_lock(lock: Path, notify: Notify) -> Iterator[None]:
    """Hold the build lock; a second builder waits for the first and then finds its work done."""
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notify("another program is building the embedded broker; waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _build(go: str, target: Path, notify: Notify) -> None:
    notify("building the embedded broker, once; it takes a minute and is kept in " + str(target.parent))
    unfinished = target.with_suffix(f".{os.getpid()}")
    flags = ["-v", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags=-s -w"]
    command = [go, "build", "-C", str(BROKER_SOURCE), *flags, "-o", str(unfinished), "."]
    environment = child_environment(GOWORK="off", CGO_ENABLED="0")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        last = _show_progress(process.stderr, notify)
    if process.returncode:
        unfinished.unlink(missing_ok=True)
        raise UserError("The embedded broker could not be built:\n  " + "\n  ".join(last), _remedy(last))
    unfinished.replace(target)
    notify("the embedded broker is built")


def _show_progress(lines: Iterable[str], notify: Notify) -> list[str]:
    """Tell what `go build -v` does; return its last lines, which name the error if there is one."""
    last: deque[str] = deque(maxlen=8)
    for compiled, raw in enumerate(lines, 1):
        line = raw.rstrip()
        last.append(line)
        notify(line.removeprefix("go: ") if line.startswith("go: ") else f"compiling {line} ({compiled})")
    return list(last)


def _remedy(last: list[str]) -> str:
    if any("dial tcp" in line or "proxy" in line for line in last):
        return "The Go module proxy was not reached: set GOPROXY to one that is, or use --bootstrap-servers."
    return REMEDY


START_SECONDS = 60.0
"""Replaying a gigabyte takes about a second; past this the broker hangs."""
STOP_SECONDS = 15.0


def _silent(_: str) -> None:
    """Progress that nobody asked for."""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """How the process is started: where its words go (None: kept for the error), what it inherits."""

    log: Path | None = None
    inherited_fds: tuple[int, ...] = ()
    notify: Notify = _silent


class LocalBroker:
    """One embedded broker. Only `wait` may be called from another thread than the one that started it."""

    def __init__(
        self,
        data_dir: Path | None = None,
        port: int = 0,
        *,
        fsync: bool = False,
        config: BrokerConfig = BrokerConfig(),
    ) -> None:
        self.port = port
        self._data_dir = data_dir
        self._fsync = fsync
        self._config = config
        self._process: subprocess.Popen[str] | None = None
        self._stderr: IO[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:<port>`, valid once started."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> Self:
        """Start and return when the broker listens; raises Trouble when it does not."""
        command = [str(broker_executable(self._config.notify)), *self._flags()]
        log = self._config.log
        self._stderr = log.open("a+b") if log else tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            pass_fds=self._config.inherited_fds,
            start_new_session=True,  # Ctrl-C is for the program that started it, which ends it in order
        )
        hello = self._read_line()
        if not hello:
            raise self._start_error()
        self.port = int(json.loads(hello)["bootstrap"].rpartition(":")[2])
        return self

    def stop(self) -> None:
        """End it in order: everything is on disk. A broker that has ended already is fine."""
        self._terminate(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._terminate(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop and start again on the same port with the same data."""
        self.stop()
        return self.start()

    def wait(self) -> int | None:
        """Block until the broker ends; its exit code, negative for a signal, None if it never started."""
        return self._process.wait() if self._process else None

    def control(self, op: str, **fields: Any) -> dict[str, Any]:
        """Have the broker show a fault; the ops and fields are in `broker/control.go`.

        For example `control("fault", keys=["Produce"], topic="t", code=6, count=3)`, `control("clear")`.
        """
        if self._process is None or self._process.stdin is None:
            raise UserError("The embedded broker does not run.")
        self._process.stdin.write(json.dumps({"op": op, **fields}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._read_line() or '{"ok": false, "error": "the broker ended"}')
        if not answer["ok"]:
            raise ValueError(f"control {op}: {answer['error']}")
        return answer

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _flags(self) -> list[str]:
        flags = ["-port", str(self.port)]
        if self._data_dir is not None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            flags += ["-data-dir", str(self._data_dir)]
        return [*flags, "-sync"] if self._fsync else flags

    def _read_line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        return self._process.stdout.readline() if ready else ""

    def _start_error(self) -> UserError:
        """Why it did not start, in its own words."""
        assert self._process is not None
        assert self._stderr is not None
        self._process.kill()
        self._process.wait()
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
        said = said.removeprefix("postroom-broker: ")
        self.kill()
        taken = "address already in use" in said
        return UserError(
            f"The embedded broker did not start: {said or 'it said nothing'}",
            f"Port {self.port} is taken: choose another one, or 0 for any free one." if taken else "",
        )

    def _terminate(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, self._stderr):
            if pipe is not None:
                pipe.close()
        self._process = self._stderr = None


REQUEST_SECONDS = 15.0
CONNECT_SECONDS = 8.0
"""A broker that is there answers at once; one that starts beside us takes a few seconds."""

MAX_MESSAGE_BYTES = 9 * 1024 * 1024
"""An event may have 8 MiB (attachments ride in it); Kafka's default of 1 MiB would refuse it."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as a profile wants it; retention in milliseconds."""

    name: str
    partitions: int
    retention_ms: int


def create_topics(bootstrap: str, wanted: Iterable[TopicSpec]) -> list[str]:
    """Create what is not there yet; returns the names created, raises Trouble."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    topics = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=-1,
            config={"retention.ms": str(topic.retention_ms), "max.message.bytes": str(MAX_MESSAGE_BYTES)},
        )
        for topic in wanted
    ]
    if not topics:
        return []
    wait_for_broker(bootstrap)
    answers: dict[str, Future[None]] = admin.create_topics(topics, operation_timeout=REQUEST_SECONDS)
    return [name for name, answer in answers.items() if _was_created(name, answer)]


def wait_for_broker(bootstrap: str) -> None:
    """Return once a broker answers; raises Trouble when none does for a while."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        admin.list_topics(timeout=CONNECT_SECONDS)
    except KafkaException:
        raise UserError(
            f"No Kafka broker answers at {bootstrap} (tried for {CONNECT_SECONDS:.0f} s).",
            "Check --bootstrap-servers; without it `postroom up` runs a broker of its own.",
        ) from None


def _was_created(name: str, answer: "Future[None]") -> bool:
    try:
        answer.result(REQUEST_SECONDS)
    except KafkaException as failure:
        error: KafkaError = failure.args[0]
        if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise UserError(f"Topic {name} could not be created: {error.str()}.") from None
    return True
