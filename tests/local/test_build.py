"""`postroom build` writes manifests for kubectl: the same objects, with the texts of files inlined."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from postroom.cli.app import app
from postroom.letter.yaml_positions import yaml_documents
from postroom.local.build import to_yaml
from postroom.local.manifests import read_manifest_folder
from tests.local.manifest_texts import PROFILE, TEMPLATE, write_manifests

WITH_FILE = TEMPLATE.replace("  html: |\n    <p>Hello {{ name }}</p>\n", "  htmlFile: order.html\n")
PAGE = "<html>\n<body>  \n\n\t<p>Hello {{ name }}</p>\n</body></html>\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "letters"
    folder.mkdir()
    write_manifests(folder, profile=PROFILE, welcome=WITH_FILE)
    (folder / "order.html").write_text(PAGE)
    return folder


def built(folder: Path, *options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["build", str(folder), *options])
    return result.exit_code, result.stdout, result.stderr


def test_built_manifests_validate_to_the_same_results(folder: Path, tmp_path: Path) -> None:
    code, stream, _ = built(folder)
    assert code == 0
    assert "htmlFile" not in stream
    assert "  html: |\n    <html>\n    <body>  \n\n    \t<p>Hello {{ name }}</p>\n" in stream
    again = tmp_path / "again"
    again.mkdir()
    (again / "all.yaml").write_text(stream)
    assert read_manifest_folder(again).validation.results == read_manifest_folder(folder).validation.results


def test_the_same_folder_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.yaml"
    assert built(folder, "-o", str(out))[:2] == (0, "")
    assert out.read_text() == built(folder)[1]
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_with_an_error_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    (folder / "order.html").write_text("<p>{{ nmae }}</p>")
    out = tmp_path / "all.yaml"
    code, stream, errors = built(folder, "-o", str(out))
    assert (code, stream, out.exists()) == (1, "", False)
    assert "order.html:1:7: variable_undeclared" in errors
    assert "nothing was written" in errors


def test_a_missing_reference_is_an_error_unless_it_is_ignored(folder: Path) -> None:
    (folder / "profile.yaml").unlink()
    assert built(folder)[0] == 1
    assert built(folder, "--ignore-missing-references")[0] == 0


def test_context_objects_may_be_referenced_and_are_not_built(folder: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (folder / "profile.yaml").rename(context / "profile.yaml")
    code, stream, _ = built(folder, "--context", str(context))
    assert code == 0
    assert [each["kind"] for each in yaml.safe_load_all(stream)] == ["EmailTemplate"]


def test_other_objects_are_built_and_a_kustomization_is_not(folder: Path) -> None:
    service = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"a": "yes"}}}
    write_manifests(folder, a=yaml.safe_dump(service))
    kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n"
    write_manifests(folder, kustomization=kustomization)
    local = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  annotations:\n"
    write_manifests(folder, local=local + "    config.kubernetes.io/local-config: 'true'\n")
    code, stream, errors = built(folder)
    found = list(yaml.safe_load_all(stream))
    assert code == 0
    assert [each["kind"] for each in found] == ["Namespace", "SmtpProfile", "EmailTemplate"]
    assert found[0] == service
    assert "kustomization.yaml: Kustomization" in errors
    assert "local.yaml: ConfigMap" in errors


def test_each_item_of_a_list_is_built(folder: Path) -> None:
    items = [yaml.safe_load(PROFILE), yaml.safe_load(WITH_FILE)]
    for name in ("profile.yaml", "welcome.yaml"):
        (folder / name).unlink()
    write_manifests(folder, all=yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}))
    code, stream, _ = built(folder)
    assert code == 0
    assert [each["kind"] for each in yaml.safe_load_all(stream)] == ["SmtpProfile", "EmailTemplate"]


def test_a_file_that_cannot_be_written_is_an_error(folder: Path) -> None:
    result = CliRunner().invoke(app, ["build", str(folder), "-o", str(folder / "no" / "x.yaml")])
    assert "cannot be written" in str(result.exception)


SCALARS = st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=40)
WORDS = st.sampled_from(
    [
        "yes",
        "n",
        "NO",
        "on",
        "~",
        "null",
        "012",
        "1_0",
        "0x1F",
        "1e3",
        ".inf",
        "a: b",
        "- a",
        "a #b",
        " x ",
        "x\n",
        "\n",
        "\n\na\n\n",
        " \n a",
        "\ta\n",
        "a\n b\n\n",
        "{{ x }}",
        "%a",
        "@a",
        "`a",
        "'",
        '"',
        "\\",
        "é\n",
        "\x85\n",
        "=",
        "<<",
        "2026-01-02",
        "12:30:45",
        "key:",
        "\u2028",
        "a  b",
        "a\t\n",
        "#\n",
        "---\n",
        "...\n",
        "\ufeffa\nb",
    ]
)
VALUES = st.recursive(
    SCALARS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | WORDS, inner, max_size=3)
    ),
)


@given(st.dictionaries(WORDS.filter(lambda word: word != "<<"), VALUES, min_size=1, max_size=3))
def test_written_yaml_parses_to_the_same_value(value: dict[str, Any]) -> None:
    written = to_yaml(value)
    assert yaml.safe_load(written) == value
    (document,) = yaml_documents(written)
    assert document.value == value
