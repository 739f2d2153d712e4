"""etcd, kube-apiserver, kube-controller-manager and kubectl: found on this machine, or built from Go modules.

Each is looked for in `KUBEBUILDER_ASSETS` (a folder as envtest's `setup-envtest` makes it; that brings no
controller manager, which is then looked for further on), and in the user's cache, which
`python -m tests.cluster.binaries` fills: some six minutes on two cores, once, with the Go toolchain that
builds the broker, too. Output: the path of each. Failure: `UserError`, with what to do.
"""

import fcntl
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from postroom.local.broker import find_go
from postroom.local.errors import UserError
from postroom.local.machine import cache_folder

KUBERNETES = "v1.36.3"
ETCD = "v3.6.8"
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
REMEDY = (
    "Either of these helps:\n"
    "  python -m tests.cluster.binaries    builds them from Go modules, once, in some six minutes\n"
    "  KUBEBUILDER_ASSETS=FOLDER           where they are already"
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of a control plane."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kubectl: Path


def cached() -> Path:
    """The cache of built programs, by version and platform."""
    system = f"{platform.system()}-{platform.machine()}".lower()
    return cache_folder() / "kubernetes" / f"{KUBERNETES}-{system}"


def find() -> Binaries:
    """All four programs; raises an error that names the missing ones."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    folders = [*([Path(assets)] if assets else []), cached()]
    found = {
        name: next((folder / name for folder in folders if (folder / name).is_file()), None) for name in NAMES
    }
    absent = [name for name, path in found.items() if path is None]
    if absent:
        raise UserError(f"No Kubernetes API server here: {', '.join(absent)} not found.", REMEDY)
    return Binaries(*(path for path in found.values() if path is not None))


def missing() -> str | None:
    """What to install for the tests marked `apiserver`, or None."""
    try:
        find()
    except UserError:
        return (
            "no kube-apiserver: `python -m tests.cluster.binaries` builds it with Go, once, in six minutes; "
            "or set KUBEBUILDER_ASSETS"
        )
    return None


def build() -> None:
    """Build what the cache does not have. A second process waits for the first and uses its results."""
    target = cached()
    target.mkdir(parents=True, exist_ok=True)
    with Path(target, ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not Path(target, "etcd").exists():
            _build_etcd(target)
        if not all(Path(target, name).exists() for name in NAMES):
            _build_kubernetes(target)


def _build_etcd(target: Path) -> None:
    module = "go.etcd.io/etcd/server/v3"
    with tempfile.TemporaryDirectory(dir=target) as text:
        folder = Path(text)
        _go(folder, "mod", "init", "postroom.dev/etcd")
        _go(folder, "get", f"{module}@{ETCD}")
        _go(folder, "build", "-mod=mod", "-ldflags=-s -w", "-o", "etcd", module)
        Path(folder, "etcd").rename(target / "etcd")


def _build_kubernetes(target: Path) -> None:
    """A module around k8s.io/kubernetes: its own go.mod replaces the staging modules by folders that the
    published module does not have, so that this one replaces them by their published versions."""
    with tempfile.TemporaryDirectory(dir=target) as text:
        folder = Path(text)
        _go(folder, "mod", "init", "postroom.dev/kubernetes")
        output = _go(folder, "mod", "download", "-json", f"k8s.io/kubernetes@{KUBERNETES}")
        staged = re.findall(
            r"^\t(k8s\.io/\S+) => \./staging/", Path(json.loads(output)["GoMod"]).read_text(), re.MULTILINE
        )
        published = KUBERNETES.replace("v1.", "v0.", 1)
        replaced = [f"-replace={module}={module}@{published}" for module in staged]
        _go(folder, "mod", "edit", f"-require=k8s.io/kubernetes@{KUBERNETES}", *replaced)
        minor = KUBERNETES.split(".")[1]
        facts = {"gitVersion": KUBERNETES, "gitMajor": "1", "gitMinor": minor, "gitTreeState": "clean"}
        stamped = [
            f"-X {package}.{name}={value}"
            for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
            for name, value in facts.items()
        ]
        commands = [f"k8s.io/kubernetes/cmd/{name}" for name in NAMES if name != "etcd"]
        _go(
            folder,
            "build",
            "-mod=mod",
            f"-ldflags=-s -w {' '.join(stamped)}",
            "-o",
            f"{folder}/out/",
            *commands,
        )
        for name in Path(folder, "out").iterdir():
            name.rename(target / name.name)


def _go(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    done = subprocess.run(
        [find_go(), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        output = "\n  ".join(done.stderr.strip().splitlines()[-12:])
        raise UserError(f"`go {arguments[0]}` failed:\n  {output}", REMEDY)
    return done.stdout


def main() -> int:
    """Build the missing programs and print their paths."""
    if missing() is not None:
        began = time.monotonic()
        print(f"building etcd {ETCD} and Kubernetes {KUBERNETES}, once; it takes minutes", flush=True)
        try:
            build()
        except UserError as trouble:
            print(f"{trouble.problem}\n{trouble.remedy}", file=sys.stderr)
            return 1
        print(f"built in {time.monotonic() - began:.0f} s")
    print(f"the API server is {find().kube_apiserver}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
