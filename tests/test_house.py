"""Rules of the repository that no linter checks: names, docstrings, imports, the content of the wheel."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "core", "misc"}
# Paths of one machine, addresses of package registries: a clone must not depend on either. Written in
# pieces, so that this page passes its own test.
FORBIDDEN_WORDS = re.compile(
    "|".join(
        (
            r"(?<![\w.-])/work/",
            r"(?<![\w.-])/root/",
            r"/home/" + r"[a-z]+/",
            "files.python" + r"hosted\.org",
            "py" + r"pi\.org/simple",
            "registry" + r"\.npmjs",
            "proxy.go" + r"lang\.org",
            "repo[1]?.maven" + r"\.apache",
            r"(?<!\w)shared" + "/",
            "DESIGN" + " §",
            "(?i:co-authored" + "-by)",
        )
    )
)


def committed(*patterns: str) -> list[Path]:
    """The files that git knows or would take, or every file where there is no git."""
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return [path for name in names.splitlines() if (path := ROOT / name).is_file()]
    found = (path for pattern in patterns or ("*",) for path in ROOT.rglob(pattern))
    return [path for path in found if path.is_file() and ".venv" not in path.parts]


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


SOURCES = [path for path in committed("*.py") if path.relative_to(ROOT).parts[0] in {"worker", "operator"}]


def test_there_are_sources_to_judge() -> None:
    assert len(SOURCES) > 10


def test_operator_is_no_package_or_it_would_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_every_file_is_named_after_its_duty() -> None:
    named = {shown(path): {path.stem, *path.relative_to(ROOT).parts[:-1]} for path in SOURCES}
    assert {name for name, parts in named.items() if parts & FORBIDDEN_NAMES} == set()


def test_every_module_says_what_it_is_for() -> None:
    silent = {shown(path) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))}
    assert silent == set()


def test_no_committed_file_names_a_machine_or_a_registry() -> None:
    found: dict[str, str] = {}
    for path in committed():
        # .ci speaks of the machine it prepares
        if path.name in {"uv.lock", Path(__file__).name} or path.is_relative_to(ROOT / ".ci"):
            continue
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue  # a picture has no words
        found |= {
            f"{shown(path)}:{n}": line for n, line in enumerate(lines, 1) if FORBIDDEN_WORDS.search(line)
        }
    assert found == {}


def law(folder: Path) -> subprocess.CompletedProcess[str]:
    """The import law over the packages in `folder`, as `make check` runs it."""
    program = (
        f"import sys; sys.path[:0] = [{str(folder / 'worker')!r}, {str(folder / 'operator')!r}]\n"
        "from importlinter.cli import lint_imports_command\n"
        "lint_imports_command(['--no-logo', '--no-cache'])\n"
    )
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.processes
def test_the_import_law_holds() -> None:
    done = law(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.processes
@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("letter/clockwork.py", "import time", "Pure code has no clock"),
        ("letter/leak.py", "import postroom.ports", "Layers of the worker distribution"),
        ("sandbox/peek.py", "import postroom.cli", "Layers of the worker distribution"),
        ("letter/watcher.py", "import postroom_operator", "The workers do not import the operator"),
        ("../../operator/postroom_operator/status.py", "import postroom.ports", "The operator shares only"),
        (
            "../../operator/postroom_operator/desired/peek.py",
            "import postroom_operator.reconcile",
            "Layers of the operator",
        ),
        ("sandbox/reach.py", "import postroom.adapters", "Only the wiring imports adapters"),
        ("letter/pilot.py", "import kopf", "One module imports kopf"),
    ],
)
def test_the_import_law_catches_a_planted_violation(
    tmp_path: Path, module: str, line: str, broken: str
) -> None:
    for half in ("worker", "operator"):
        shutil.copytree(ROOT / half, tmp_path / half, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "worker" / "postroom" / module).write_text(f'"""Planted."""\n{line}\n')
    done = law(tmp_path)
    assert done.returncode != 0
    assert broken in done.stdout + done.stderr


@pytest.mark.processes
def test_the_wheel_carries_all_that_the_programs_read(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        carried = set(wheel.namelist())
    wanted = {
        path.relative_to(ROOT / half).as_posix()
        for half in ("worker", "operator")
        for path in committed(half)
        if path.is_relative_to(ROOT / half)
    }
    examples = ROOT / "manifests" / "examples"
    wanted |= {
        f"postroom/local/examples/{path.relative_to(examples).as_posix()}"
        for path in committed("manifests/examples")
        if not path.name.startswith(".")
    }
    assert wanted - carried == set()
