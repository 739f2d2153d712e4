"""A field of a manifest may be in a file beside it, inside the named folder and nowhere else."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from watchfiles import Change

from postroom.letter.manifest import read_manifests
from postroom.letter.template import HTML_CHARACTERS
from postroom.local import watch
from postroom.local.manifests import read_input, read_manifest_folder
from tests.local.manifest_texts import PROFILE, TEMPLATE, write_manifests

BESIDE = TEMPLATE.replace("  html: |\n    <p>Hello {{ name }}</p>\n", "  htmlFile: order.html\n")
LINE = BESIDE[: BESIDE.index("htmlFile")].count("\n") + 1
PAGE = "<html lang='en'><head><title>x</title></head>\n<body>\n<p>Hello {{ name }}</p>\n</body></html>\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "letters"
    made.mkdir()
    write_manifests(made, profile=PROFILE, welcome=BESIDE)
    (made / "order.html").write_text(PAGE)
    return made


def reported(folder: Path, name: str = "") -> list[str]:
    manifest_set = read_manifest_folder(folder) if not name else read_input(folder / name, [folder])
    return [f"{Path(each.file).name}:{each.line}: {each.message}" for each in manifest_set.errors]


def test_the_files_text_is_the_field(folder: Path) -> None:
    manifest_set = read_manifest_folder(folder)
    assert manifest_set.errors == ()
    (template,) = [each for each in manifest_set.objects if each.kind == "EmailTemplate"]
    assert template.spec.html == PAGE


def test_text_css_locales_layouts_and_partials_have_files_too(folder: Path) -> None:
    (folder / "welcome.yaml").write_text(
        BESIDE.replace(
            "  htmlFile: order.html\n",
            "  htmlFile: body.html\n  textFile: order.txt\n  cssFile: order.css\n  layoutRef: {name: page}\n"
            "  locales:\n    - {tag: de, htmlFile: de/body.html, textFile: de/order.txt}\n",
        )
    )
    layout = "apiVersion: postroom.dev/v1alpha1\nkind: EmailLayout\nmetadata: {name: page}\nspec:\n"
    layout += (
        "  htmlFile: page.html\n  cssFile: order.css\n  partials:\n    - {name: foot, htmlFile: foot.html}\n"
    )
    write_manifests(folder, page=layout)
    (folder / "de").mkdir()
    texts = {
        "body.html": "<p>Hello {{ name }}</p>{% include 'foot' %}",
        "order.txt": "Hello {{ name }}",
        "order.css": "p { color: #111 }",
        "de/body.html": "<p>Hallo {{ name }}</p>",
        "de/order.txt": "Hallo {{ name }}",
        "page.html": "<html><body>{% block content %}{% endblock %}</body></html>",
        "foot.html": "<p>Shop</p>",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    manifest_set = read_manifest_folder(folder)
    assert [str(each) for each in manifest_set.errors] == []
    proofs = {key.kind: proof for key, proof in manifest_set.validation.results.items()}
    compiled = proofs["EmailTemplate"].compiled
    assert compiled is not None
    assert [edition.text for edition in compiled.variants] == ["Hello {{ name }}", "Hallo {{ name }}"]
    assert "Shop" in compiled.variants[0].html
    assert "#111" in compiled.variants[0].html


def test_a_problem_is_located_in_the_named_file(folder: Path) -> None:
    (folder / "order.html").write_text(PAGE.replace("{{ name }}", "{{ nmae }}"))
    assert reported(folder) == [
        "order.html:3: spec.html `nmae` is not declared in `variables`; did you mean name?"
    ]


def test_a_problem_of_a_whole_file_is_at_its_first_line(folder: Path) -> None:
    (folder / "order.html").write_text("")
    assert reported(folder) == ["order.html:1: spec.html must be at least 1 characters long"]


def test_a_layouts_problem_is_located_in_its_file(folder: Path) -> None:
    layout = "apiVersion: postroom.dev/v1alpha1\nkind: EmailLayout\nmetadata: {name: page}\nspec:\n"
    write_manifests(folder, page=layout + "  htmlFile: page.html\n")
    (folder / "page.html").write_text(
        "<html>\n<body>{{ x }}\n{% block content %}{% endblock %}</body></html>"
    )
    (folder / "order.html").write_text("<p>Hello {{ name }}</p>")
    (folder / "welcome.yaml").write_text(BESIDE.replace("htmlFile:", "layoutRef: {name: page}\n  htmlFile:"))
    assert [line.partition(" `")[0] for line in reported(folder)] == ["page.html:2: spec.html"]


def test_a_byte_order_mark_is_dropped_and_line_ends_are_normalized(folder: Path) -> None:
    (folder / "order.html").write_bytes(b"\xef\xbb\xbf" + PAGE.replace("\n", "\r\n").encode())
    (template,) = [each for each in read_manifest_folder(folder).objects if each.kind == "EmailTemplate"]
    assert template.spec.html == PAGE


def test_a_missing_file_is_reported_with_a_similar_name(folder: Path) -> None:
    (folder / "order.html").rename(folder / "orders.html")
    shown = folder / "welcome.yaml"
    rule = f"spec.htmlFile there is no file order.html beside {shown}; did you mean orders.html?"
    assert reported(folder) == [f"welcome.yaml:{LINE}: {rule}"]


def test_a_field_with_text_and_file_is_rejected(folder: Path) -> None:
    (folder / "welcome.yaml").write_text(TEMPLATE.replace("  html: |", "  htmlFile: order.html\n  html: |"))
    assert reported(folder) == [f"welcome.yaml:{LINE}: spec.htmlFile and html are both set; keep one of them"]


@pytest.mark.parametrize(
    ("wanted", "rule"),
    [
        ("../secret.html", "is outside of"),
        ("sub/../../secret.html", "is outside of"),
        ("link.html", "is outside of"),
        ("linked/secret.html", "is outside of"),
        ("/etc/hostname", "must be a path relative to the manifest"),
        ("file:///etc/hostname", "must be a path relative to the manifest"),
        ("https://shop.example/page.html", "must be a path relative to the manifest"),
        ("'a\\0b'", "there is no file"),
        ('"a\\0b"', "must be the name of a file"),
        ("[order.html]", "must be the name of a file"),
        ("''", "must be the name of a file"),
        (".", "there is no file"),
        ("welcome.yaml/x", "there is no file"),
    ],
)
def test_a_path_stays_inside_the_folder(folder: Path, wanted: str, rule: str) -> None:
    secret = folder.parent / "secret.html"
    secret.write_text("<p>secret</p>")
    (folder / "link.html").symlink_to(secret)
    (folder / "linked").symlink_to(folder.parent)
    (folder / "welcome.yaml").write_text(BESIDE.replace("order.html", wanted))
    (line,) = reported(folder)
    assert line.startswith(f"welcome.yaml:{LINE}: spec.htmlFile")
    assert rule in line


def test_a_link_inside_the_folder_is_followed(folder: Path) -> None:
    (folder / "order.html").rename(folder / "..data.html")
    (folder / "order.html").symlink_to("..data.html")
    assert reported(folder) == []


def test_for_a_single_file_the_folder_is_its_parent(folder: Path) -> None:
    assert reported(folder, "welcome.yaml") == []
    (folder / "welcome.yaml").write_text(BESIDE.replace("order.html", "../letters/order.html"))
    assert reported(folder, "welcome.yaml") == []


def test_a_file_that_is_not_text_or_too_large_is_rejected(folder: Path) -> None:
    (folder / "order.html").write_bytes(b"<p>\xff</p>")
    assert "order.html is not UTF-8 (byte 3)" in reported(folder)[0]
    for size in (HTML_CHARACTERS * 4 + 1, HTML_CHARACTERS):
        (folder / "order.html").write_text("<p>" + "x" * size)
        assert reported(folder) == [
            f"order.html:1: spec.html must be at most {HTML_CHARACTERS} characters long"
        ]


def test_other_problems_of_the_manifest_are_reported_too(folder: Path) -> None:
    (folder / "order.html").unlink()
    (folder / "welcome.yaml").write_text(BESIDE.replace("subject: Welcome", "subjekt: Welcome"))
    assert [line.partition(" ")[2].split()[0] for line in reported(folder)] == [
        "spec.subjekt",
        "spec.htmlFile",
    ]


def test_without_a_folder_the_remedy_is_postroom_build() -> None:
    (located,) = read_manifests(BESIDE, "<stdin>")
    rules = {problem.field: problem.message for problem in located.problems}
    assert "postroom build DIR" in rules["spec.htmlFile"]
    assert rules["spec.html"] == "is required"


def test_an_edit_of_a_named_file_is_watched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = folder / "note.txt"
    filters: list[Any] = []

    async def edits(*_: object, watch_filter: Any, **__: object) -> Any:
        filters.append(watch_filter)
        no_edits: list[set[tuple[Change, str]]] = []
        for each in no_edits:
            yield each

    monkeypatch.setattr(watch, "awatch", edits)
    run: Any = SimpleNamespace(
        options=SimpleNamespace(manifests=folder), manifest_set=read_manifest_folder(folder)
    )
    asyncio.run(watch.watch_manifests(run, watch.EditListener(print, print), asyncio.Event()))
    (concerns,) = filters
    assert concerns(Change.modified, str(folder / "order.html"))
    assert concerns(Change.modified, str(folder / "welcome.yaml"))
    assert not concerns(Change.modified, str(other))
    (folder / "order.html").unlink()
    run.manifest_set = read_manifest_folder(folder)
    assert concerns(Change.added, str(folder / "order.html")), "the file may come back"
