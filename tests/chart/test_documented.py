"""The commands in the documentation: each `helm` command renders the chart as it is printed.

A page gives values as a block whose first line is a comment with a file's name. Every version of such a file
is rendered, and each command with the version that stands before it.
"""

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.fixtures.helm import CHART, Helm
from tests.test_house import ROOT, shown

pytestmark = pytest.mark.chart
PAGES = [ROOT / "README.md", CHART / "README.md", *sorted((ROOT / "docs").glob("[hte]*/*.md"))]
VALUES = re.compile(r"```yaml\n# ([\w-]+\.yaml)\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^ {4}helm ((?:.*\\\n)*.*)$", re.MULTILINE)
FLAG = re.compile(r"--[a-z][a-z-]+")
OF_UPGRADE = {"--reset-then-reuse-values"}
"""Options that `helm template` does not have, because there is no release."""


class Command(NamedTuple):
    """A command of a page, with the last values file above it."""

    page: str
    words: list[str]
    file: str
    values: str


def commands(page: Path) -> Iterator[Command]:
    """The commands of a page, in order."""
    text = page.read_text()
    shown_so_far = [(0, "", ""), *((each.start(), each[1], each[2]) for each in VALUES.finditer(text))]
    for found in COMMAND.finditer(text):
        _, file, values = [each for each in shown_so_far if each[0] <= found.start()][-1]
        words = shlex.split(found[1].replace("\\\n", " "))
        of_helm = takewhile(lambda word: word not in {"|", ">"}, words)
        yield Command(shown(page), list(of_helm), file, values)


REMOVAL = re.compile(r"kubectl delete (\S+) --namespace \S+ \\\n +--selector (\S+component=test)")
"""The commands that remove the objects of a failed `helm test`."""

ALL = [each for page in PAGES for each in commands(page)]
RENDERED = [each for each in ALL if each.words[0] in {"install", "upgrade"}]
FILES = [(shown(page), found[2]) for page in PAGES for found in VALUES.finditer(page.read_text())]


def test_the_documentation_pages_about_installation_are_found() -> None:
    kinds = [(each.page, each.words[0]) for each in RENDERED]
    assert ("docs/how-to/install-with-helm.md", "install") in kinds
    assert kinds.count(("docs/how-to/install-with-helm.md", "upgrade")) == 2
    assert "docs/how-to/install-with-helm.md" in dict(FILES)


@pytest.mark.parametrize("command", RENDERED, ids=lambda command: f"{command.page}: {command.words[0]}")
def test_a_command_of_the_documentation_renders_the_chart(
    command: Command, helm: Helm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "charts").symlink_to(CHART.parent)
    if command.file:
        (tmp_path / command.file).write_text(command.values)
    monkeypatch.chdir(tmp_path)
    done = helm("template", *(each for each in command.words[1:] if each not in OF_UPGRADE))
    assert done.returncode == 0, done.stderr
    assert "kind: Deployment" in done.stdout


@pytest.mark.parametrize("command", ALL, ids=lambda command: f"{command.page}: {command.words[0]}")
def test_helm_knows_every_flag_of_a_command_of_the_documentation(command: Command, helm: Helm) -> None:
    known = set(FLAG.findall(helm(command.words[0], "--help").stdout))
    assert {each.partition("=")[0] for each in command.words if each.startswith("--")} <= known


@pytest.mark.parametrize(("page", "values"), FILES, ids=[page for page, _ in FILES])
def test_a_values_file_of_the_documentation_renders_the_chart(
    page: str, values: str, helm: Helm, tmp_path: Path
) -> None:
    (tmp_path / "values.yaml").write_text(values)
    assert "kind: Deployment" in helm.render("--values", tmp_path / "values.yaml"), page


def test_the_documentation_removes_what_a_test_may_leave(helm: Helm) -> None:
    removal = REMOVAL.search((ROOT / "docs" / "how-to" / "install-with-helm.md").read_text())
    assert removal
    rendered = [each for each in yaml.safe_load_all(helm.render()) if each]
    hooks = [each for each in rendered if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    assert {each["kind"].lower() for each in hooks} == set(removal[1].split(","))
    wanted = dict(label.split("=") for label in removal[2].split(","))
    for each in rendered:
        assert (wanted.items() <= each["metadata"]["labels"].items()) == (each in hooks)
