"""Live templates from a folder: what is there is served, and nothing bad takes it down."""

from pathlib import Path

import pytest

from postroom.adapters.templates import FolderTemplates
from postroom.letter.bundle import pack
from postroom.letter.compiled import CompiledTemplate, Edition, Subject


def bundle(name: str, subject: str = "Hello") -> str:
    edition = Edition("en", (Subject(subject),), None, "<p>Hello</p>", "Hello", "source", "given")
    made = CompiledTemplate(
        name, "shop", "orders", (f"shop.{name}",), "Transactional", (edition,), {"type": "object"}
    )
    return pack([made.sealed()])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0.json").write_text(bundle("order"))
    return tmp_path


@pytest.fixture
def templates(folder: Path) -> FolderTemplates:
    opened = FolderTemplates(folder)
    assert opened.refresh()
    return opened


def names(templates: FolderTemplates) -> set[str]:
    return {one.name for one in templates.current().templates.values()}


def test_every_shard_is_served_and_a_change_is_a_new_catalog(
    templates: FolderTemplates, folder: Path
) -> None:
    assert not templates.refresh()
    (folder / "1.json").write_text(bundle("welcome"))
    assert templates.refresh()
    assert names(templates) == {"order", "welcome"}
    (folder / "1.json").unlink()
    assert templates.refresh()
    assert names(templates) == {"order"}


def test_other_files_are_passed_over(templates: FolderTemplates, folder: Path) -> None:
    (folder / "notes.txt").write_text("no bundle")
    assert not templates.refresh()


@pytest.mark.parametrize(
    "bad", [b"{", b"[]", b"\xff\xfe", b'{"format": "postroom.bundle/9", "templates": []}']
)
def test_a_bad_shard_keeps_the_templates_of_before_until_it_is_mended(
    templates: FolderTemplates, folder: Path, bad: bytes
) -> None:
    before = templates.current()
    (folder / "0.json").write_bytes(bad)
    assert not templates.refresh()
    assert templates.current() is before
    assert templates.problem
    assert not templates.refresh()
    (folder / "0.json").write_text(bundle("order"))
    assert templates.refresh()
    assert templates.problem == ""
    assert names(templates) == {"order"}


def test_a_folder_that_is_gone_keeps_the_templates_of_before(
    templates: FolderTemplates, folder: Path
) -> None:
    away = folder.rename(folder.with_name("away"))
    assert not templates.refresh()
    assert names(templates) == {"order"}
    assert str(folder) in templates.problem
    away.rename(folder)
    templates.refresh()
    assert templates.problem == ""


def test_a_folder_that_never_was_is_named(tmp_path: Path) -> None:
    templates = FolderTemplates(tmp_path / "bundles")
    assert not templates.refresh()
    assert "bundles" in templates.problem
