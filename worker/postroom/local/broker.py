"""The embedded broker: built once with a Go toolchain, run as a child process, given its topics.

Input: where to keep data (None: in memory), a port (0: any free port), whether every batch is fsynced before
its acknowledgement. Output: `bootstrap`, the address for `bootstrap.servers`; it is on 127.0.0.1 and stays
the same over restarts. The child exits when this process exits, because its standard input closes.

The executable is built from the Go source in `broker/`, which is part of the package, and cached as
`<cache>/postroom/broker-<hash of the source and the platform>`. The first use takes about a minute, most of
it for the download of franz-go; after that no toolchain is needed. A file lock admits one build at a time.

In memory a topic is created at first use. With a folder, create topics with `create_topics`: the broker
writes a topic that it created itself to disk only when it shuts down in order. `create_topics` works against
any broker, and never deletes or shrinks a topic.

Failure: `UserError` with what to install, with the broker's error output, or with the broker's reply.
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
"""The version that the go.mod of kfake requires."""

REMEDY = (
    "Any of these helps:\n"
    "  pip install 'postroom[local]'         brings a Go toolchain into this environment\n"
    "  install Go ≥ 1.26                     https://go.dev/dl/, so that `go` is on PATH\n"
    "  --bootstrap-servers HOST:PORT         use a Kafka broker that already runs"
)

Notify = Callable[[str], None]
"""Takes a line of progress for a person."""


def broker_executable(notify: Notify) -> Path:
    """Return the path of the broker's executable; build it when it is not in the cache."""
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
    """Return the path of the executable in the cache; it may not exist yet."""
    return cache_folder() / f"broker-{_fingerprint()}"


def find_go() -> str:
    """Return the path of a Go toolchain on PATH or from the `local` extra; raises UserError."""
    beside = Path(sysconfig.get_path("scripts")) / "go"
    found = [go for go in (shutil.which("go"), str(beside) if beside.exists() else None) if go]
    if not found:
        raise UserError("The embedded broker must be built once, but no Go toolchain was found.", REMEDY)
    versions = {go: _version(go) for go in found}
    for go, version in versions.items():
        if version >= GO_NEEDED:
            return go
    found_versions = ", ".join(f"{go} is {'.'.join(map(str, version))}" for go, version in versions.items())
    raise UserError(f"Building the embedded broker needs Go ≥ 1.26; {found_versions}.", REMEDY)


def _version(go: str) -> tuple[int, ...]:
    output = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\bgo(\d+)\.(\d+)", output)
    return tuple(map(int, match.groups())) if match else (0, 0)


def _fingerprint() -> str:
    digest = hashlib.blake2b(f"{platform.system()}/{platform.machine()}".encode(), digest_size=8)
    for file in sorted(BROKER_SOURCE.iterdir()):
        if file.suffix in {".go", ".mod", ".sum"}:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@contextmanager
def _build_lock(lock: Path, notify: Notify) -> Iterator[None]:
    """Hold the build lock; a second process waits, and then finds the executable built."""
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notify("another process is building the embedded broker; waiting")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _build(go: str, target: Path, notify: Notify) -> None:
    notify(
        "building the embedded broker once; this takes a minute; the result is kept in " + str(target.parent)
    )
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
    """Report the progress of `go build -v`; return its last lines, which name an error."""
    last: deque[str] = deque(maxlen=8)
    for compiled, raw in enumerate(lines, 1):
        line = raw.rstrip()
        last.append(line)
        notify(line.removeprefix("go: ") if line.startswith("go: ") else f"compiling {line} ({compiled})")
    return list(last)


def _remedy(last: list[str]) -> str:
    if any("dial tcp" in line or "proxy" in line for line in last):
        return (
            "The Go module proxy cannot be reached: set GOPROXY to another proxy, or use --bootstrap-servers."
        )
    return REMEDY


START_SECONDS = 60.0
"""Reading a gigabyte of data takes about a second; a broker that takes longer than this hangs."""
STOP_SECONDS = 15.0


def _silent(_: str) -> None:
    """Drop a line of progress."""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """How the process is started: its log (None: kept for the error message), inherited file descriptors."""

    log: Path | None = None
    inherited_fds: tuple[int, ...] = ()
    notify: Notify = _silent


class LocalBroker:
    """An embedded broker. Other threads than the one that started it may call only `wait`."""

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
        """`127.0.0.1:<port>`, valid after `start`."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> Self:
        """Start the broker and return when it listens; raises UserError when it does not."""
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
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops the broker in order
        )
        hello = self._read_line()
        if not hello:
            raise self._start_error()
        self.port = int(json.loads(hello)["bootstrap"].rpartition(":")[2])
        return self

    def stop(self) -> None:
        """Shut down in order, with all data on disk. Does nothing when the broker has exited already."""
        self._terminate(signal.SIGTERM)

    def kill(self) -> None:
        """End the broker as a crash does (SIGKILL)."""
        self._terminate(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop and start again on the same port with the same data."""
        self.stop()
        return self.start()

    def wait(self) -> int | None:
        """Block until the broker exits; returns its status, negative for a signal, None if not started."""
        return self._process.wait() if self._process else None

    def control(self, op: str, **fields: Any) -> dict[str, Any]:
        """Inject a fault into the broker; `broker/control.go` lists the operations and fields.

        For example `control("fault", keys=["Produce"], topic="t", code=6, count=3)`, `control("clear")`.
        """
        if self._process is None or self._process.stdin is None:
            raise UserError("The embedded broker is not running.")
        self._process.stdin.write(json.dumps({"op": op, **fields}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(
            self._read_line() or '{"ok": false, "error": "the broker exited"}'
        )
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
        """Build the error for a failed start from the broker's error output."""
        assert self._process is not None
        assert self._stderr is not None
        self._process.kill()
        self._process.wait()
        self._stderr.seek(0)
        line = self._stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
        line = line.removeprefix("postroom-broker: ")
        self.kill()
        taken = "address already in use" in line
        return UserError(
            f"The embedded broker did not start: {line or 'it wrote no error'}",
            f"Port {self.port} is taken: choose another port, or 0 for any free port." if taken else "",
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
"""A running broker answers at once; a broker that is starting takes a few seconds."""

MAX_MESSAGE_BYTES = 9 * 1024 * 1024
"""An event, with its attachments, may have 8 MiB; Kafka rejects more than 1 MiB by default."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as a profile configures it; retention in milliseconds."""

    name: str
    partitions: int
    retention_ms: int


def create_topics(bootstrap: str, wanted: Iterable[TopicSpec]) -> list[str]:
    """Create the missing topics; returns the names created. Raises UserError when the broker refuses."""
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
    """Return when the broker answers; raises UserError after `CONNECT_SECONDS`."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        admin.list_topics(timeout=CONNECT_SECONDS)
    except KafkaException:
        raise UserError(
            f"No Kafka broker answers at {bootstrap} (tried for {CONNECT_SECONDS:.0f} s).",
            "Check --bootstrap-servers; without it `postroom up` runs an embedded broker.",
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
