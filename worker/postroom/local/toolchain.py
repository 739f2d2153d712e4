"""Build the embedded broker once, with the Go toolchain that this machine has.

Input: the Go source in `broker/`, which is part of the package. Output: the path of an executable in
the user's cache, `<cache>/postroom/broker-<hash of the source and the platform>`. It is built at first
use (about a minute, most of it downloading franz-go), taken from the cache ever after, also when the
toolchain has gone, and never by two builders at once. Failure: `Trouble`, with what to install.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sysconfig
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from postroom.local.settings import cache_folder, child_environment
from postroom.local.trouble import Trouble

SOURCE = Path(__file__).with_name("broker")
GO_NEEDED = (1, 26)
"""What kfake's go.mod asks for."""

REMEDY = (
    "Any of these helps:\n"
    "  pip install 'postroom[local]'         brings a Go toolchain into this environment\n"
    "  install Go ≥ 1.26                     https://go.dev/dl/, so that `go` is on PATH\n"
    "  --bootstrap-servers HOST:PORT         use a Kafka broker that already runs"
)

Tell = Callable[[str], None]
"""Where a line of progress goes."""


def broker_executable(tell: Tell) -> Path:
    """The broker's executable, built first when the cache does not hold it."""
    target = cached()
    if target.exists():
        return target
    go = find_go()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _only_builder(target.with_suffix(".lock"), tell):
        if not target.exists():
            _build(go, target, tell)
    return target


def cached() -> Path:
    """Where the executable is, or will be."""
    return cache_folder() / f"broker-{_fingerprint()}"


def find_go() -> str:
    """The `go` on PATH or the one that the `local` extra put beside this interpreter."""
    beside = Path(sysconfig.get_path("scripts")) / "go"
    found = [go for go in (shutil.which("go"), str(beside) if beside.exists() else None) if go]
    if not found:
        raise Trouble("The embedded broker has to be built once, and no Go toolchain was found.", REMEDY)
    versions = {go: _version(go) for go in found}
    for go, version in versions.items():
        if version >= GO_NEEDED:
            return go
    told = ", ".join(f"{go} is {'.'.join(map(str, version))}" for go, version in versions.items())
    raise Trouble(f"The embedded broker needs Go ≥ 1.26 to be built; {told}.", REMEDY)


def _version(go: str) -> tuple[int, ...]:
    said = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\bgo(\d+)\.(\d+)", said)
    return tuple(map(int, match.groups())) if match else (0, 0)


def _fingerprint() -> str:
    digest = hashlib.blake2b(f"{platform.system()}/{platform.machine()}".encode(), digest_size=8)
    for file in sorted(SOURCE.iterdir()):
        if file.suffix in {".go", ".mod", ".sum"}:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@contextmanager
def _only_builder(lock: Path, tell: Tell) -> Iterator[None]:
    """Hold the build lock; a second builder waits for the first and then finds its work done."""
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("another program is building the embedded broker; waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _build(go: str, target: Path, tell: Tell) -> None:
    tell("building the embedded broker, once; it takes a minute and is kept in " + str(target.parent))
    unfinished = target.with_suffix(f".{os.getpid()}")
    flags = ["-v", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags=-s -w"]
    command = [go, "build", "-C", str(SOURCE), *flags, "-o", str(unfinished), "."]
    environment = child_environment(GOWORK="off", CGO_ENABLED="0")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        last = _show_progress(process.stderr, tell)
    if process.returncode:
        unfinished.unlink(missing_ok=True)
        raise Trouble("The embedded broker could not be built:\n  " + "\n  ".join(last), _remedy(last))
    unfinished.replace(target)
    tell("the embedded broker is built")


def _show_progress(lines: Iterable[str], tell: Tell) -> list[str]:
    """Tell what `go build -v` does; return its last lines, which name the error if there is one."""
    last: deque[str] = deque(maxlen=8)
    for compiled, raw in enumerate(lines, 1):
        line = raw.rstrip()
        last.append(line)
        tell(line.removeprefix("go: ") if line.startswith("go: ") else f"compiling {line} ({compiled})")
    return list(last)


def _remedy(last: list[str]) -> str:
    if any("dial tcp" in line or "proxy" in line for line in last):
        return "The Go module proxy was not reached: set GOPROXY to one that is, or use --bootstrap-servers."
    return REMEDY
