"""`postroom build` writes manifests that kubectl takes, the same objects with the files in them."""

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

BESIDE = TEMPLATE.replace("  html: |\n    <p>Hello {{ name }}</p>\n", "  htmlFile: order.html\n")
PAGE = "<html>\n<body>  \n\n\t<p>Hello {{ name }}</p>\n</body></html>\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "letters"
    made.mkdir()
    write_manifests(made, profile=PROFILE, welcome=BESIDE)
    (made / "order.html").write_text(PAGE)
    return made


def built(folder: Path, *options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["build", str(folder), *options])
    return result.exit_code, result.stdout, result.stderr


def test_the_manifests_are_whole_and_prove_the_same(folder: Path, tmp_path: Path) -> None:
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
    code, stream, said = built(folder, "-o", str(out))
    assert (code, stream, out.exists()) == (1, "", False)
    assert "order.html:1:7: variable_undeclared" in said
    assert "nothing was written" in said


def test_a_reference_that_leads_nowhere_is_an_error_unless_it_is_elsewhere(folder: Path) -> None:
    (folder / "profile.yaml").unlink()
    assert built(folder)[0] == 1
    assert built(folder, "--ignore-missing-references")[0] == 0


def test_context_is_referred_to_and_not_built(folder: Path, tmp_path: Path) -> None:
    around = tmp_path / "around"
    around.mkdir()
    (folder / "profile.yaml").rename(around / "profile.yaml")
    code, stream, _ = built(folder, "--context", str(around))
    assert code == 0
    assert [each["kind"] for each in yaml.safe_load_all(stream)] == ["EmailTemplate"]


def test_other_objects_come_along_and_a_kustomization_does_not(folder: Path) -> None:
    service = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"a": "yes"}}}
    write_manifests(folder, a=yaml.safe_dump(service))
    kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n"
    write_manifests(folder, kustomization=kustomization)
    local = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  annotations:\n"
    write_manifests(folder, local=local + "    config.kubernetes.io/local-config: 'true'\n")
    code, stream, said = built(folder)
    found = list(yaml.safe_load_all(stream))
    assert code == 0
    assert [each["kind"] for each in found] == ["Namespace", "SmtpProfile", "EmailTemplate"]
    assert found[0] == service
    assert "kustomization.yaml: Kustomization" in said
    assert "local.yaml: ConfigMap" in said


def test_the_items_of_a_list_are_built_each(folder: Path) -> None:
    items = [yaml.safe_load(PROFILE), yaml.safe_load(BESIDE)]
    for name in ("profile.yaml", "welcome.yaml"):
        (folder / name).unlink()
    write_manifests(folder, all=yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}))
    code, stream, _ = built(folder)
    assert code == 0
    assert [each["kind"] for each in yaml.safe_load_all(stream)] == ["SmtpProfile", "EmailTemplate"]


def test_a_file_that_cannot_be_written_is_said(folder: Path) -> None:
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
def test_what_is_written_reads_back_the_same(value: dict[str, Any]) -> None:
    written = to_yaml(value)
    assert yaml.safe_load(written) == value
    (document,) = yaml_documents(written)
    assert document.value == value
