"""Live templates from a folder: what is there is served, and nothing bad takes it down."""

import asyncio
import json
import shutil
import time
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from postroom import secret_files
from postroom.adapters import templates as adapter
from postroom.adapters.templates import FolderTemplates
from postroom.letter.bundle import CompiledTemplate, LocaleVariant, WeightedSubject, pack_bundle
from postroom.letter.catalog import RenderableTemplate, TemplateCatalog
from postroom.worker.main import template_changes
from tests.delivery import kubelet
from tests.delivery.fakes import until
from tests.delivery.letters import letter


def template(name: str, subject: str = "Hello", suspend: bool = False) -> CompiledTemplate:
    edition = LocaleVariant(
        "en", (WeightedSubject(subject),), None, "<p>Hello</p>", "Hello", "source", "given"
    )
    made = CompiledTemplate(
        name,
        "shop",
        "orders",
        (f"shop.{name}",),
        "Transactional",
        (edition,),
        {"type": "object"},
        suspend=suspend,
    )
    return made.with_revision()


def bundle(*names: str, subject: str = "Hello") -> str:
    return pack_bundle([template(name, subject) for name in names])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0.json").write_text(bundle("order"))
    return tmp_path


@pytest.fixture
def templates(folder: Path) -> FolderTemplates:
    opened = FolderTemplates(folder)
    assert opened.refresh()
    return opened


def test_a_machine_that_stands_still_for_long_fails_no_rendering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = "{% for each in range(200) %}x{% endfor %}"
    (tmp_path / "0.json").write_text(pack_bundle([template("order", turns)]))
    hours = count(step=3600)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(hours)))
    opened = FolderTemplates(tmp_path)
    assert opened.refresh()
    [order] = opened.current().templates.values()
    assert order.render(letter(event_type="shop.order", data={}).event).subject == "x" * 200


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


# --- as the kubelet writes it ------------------------------------------------------------------

FEW = {"shard-00.json": bundle("order"), "shard-01.json": bundle("welcome", "code")}
MORE = {
    "shard-00.json": bundle("order", "code"),
    "shard-01.json": bundle("welcome"),
    "shard-07.json": bundle("goodbye"),
}


def find(templates: FolderTemplates, name: str) -> RenderableTemplate:
    found = templates.current().find(f"shop.{name}")
    assert found is not None
    return found


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    kubelet.write(tmp_path, FEW)
    return tmp_path


@pytest.mark.parametrize(
    ("before", "after"), [(FEW, MORE), (MORE, FEW)], ids=["a source appears", "a source goes"]
)
def test_a_volume_that_is_switched_is_the_old_one_or_the_new_one_at_every_step(
    tmp_path: Path, before: dict[str, str], after: dict[str, str]
) -> None:
    """A template that moves from shard to shard is never missing in between."""
    kubelet.write(tmp_path, before)
    templates = FolderTemplates(tmp_path)
    templates.refresh()
    old, seen = names(templates), []
    for _ in kubelet.steps(tmp_path, after):
        templates.refresh()
        assert not templates.problem
        seen.append(names(templates))
    new = {"order", "welcome", "code"} | ({"goodbye"} if after is MORE else set())
    assert seen[0] == old
    assert seen[-1] == new
    assert all(one in (old, new) for one in seen)


def test_a_volume_that_is_switched_while_it_is_read_is_read_anew(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates, real = FolderTemplates(volume), secret_files.generation

    def too_early(folder: Path) -> Path | None:
        found = real(folder)
        if find_shard(found):
            kubelet.write(folder, MORE)  # removes what was just found
        return found

    def find_shard(found: Path | None) -> bool:
        return found is not None and (found / "shard-00.json").read_text() == FEW["shard-00.json"]

    monkeypatch.setattr(secret_files, "generation", too_early)
    assert templates.refresh()
    assert names(templates) == {"order", "welcome", "code", "goodbye"}
    assert not templates.problem


def test_a_volume_whose_sources_are_all_missing_is_waited_for(tmp_path: Path) -> None:
    kubelet.write(tmp_path, {})
    templates = FolderTemplates(tmp_path)
    assert not templates.refresh()
    assert templates.problem == f"{tmp_path} holds no *.json"
    kubelet.write(tmp_path, FEW)
    assert templates.refresh()
    assert not templates.problem


def test_a_volume_that_was_not_switched_is_not_read_again(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = FolderTemplates(volume)
    assert templates.refresh()
    monkeypatch.setattr(secret_files, "_read", None)
    assert not templates.refresh()


def test_a_volume_that_could_not_be_read_is_read_again(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    templates = FolderTemplates(volume)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(OSError("input/output error")))
        assert not templates.refresh()
        assert "input/output error" in templates.problem
    assert templates.refresh()
    assert not templates.problem


def test_a_volume_that_is_taken_away_keeps_the_templates_of_before(volume: Path) -> None:
    templates = FolderTemplates(volume)
    templates.refresh()
    shutil.rmtree(volume)
    assert not templates.refresh()
    assert names(templates) == {"order", "welcome", "code"}
    assert templates.problem == f"{volume} holds no *.json"


def test_an_edit_leaves_every_other_template_compiled(volume: Path) -> None:
    templates = FolderTemplates(volume)
    templates.refresh()
    before = {name: find(templates, name) for name in ("order", "welcome", "code")}
    edited = pack_bundle([template("welcome", "Welcome!"), template("code")])
    kubelet.write(volume, FEW | {"shard-01.json": edited})
    assert templates.refresh()
    assert find(templates, "order") is before["order"]
    assert find(templates, "code") is before["code"]
    assert find(templates, "welcome").revision != before["welcome"].revision


def test_a_template_is_held_back_and_let_go_by_its_bundle(volume: Path) -> None:
    """`suspend` is no part of the revision, and takes effect all the same."""
    templates = FolderTemplates(volume)
    for suspend in (True, False):
        kubelet.write(volume, {"shard-00.json": pack_bundle([template("order", suspend=suspend)])})
        assert templates.refresh()
        assert find(templates, "order").suspended is suspend
        assert find(templates, "order").revision == template("order").revision


def test_a_log_line_names_a_few_of_the_templates_that_changed_however_many_there_are() -> None:
    live = {f"letter-{number:04}": "a1" for number in range(2000)}
    first = [f"letter-{number:04}@a1" for number in range(5)]
    assert template_changes({}, live) == {"templates": 2000, "changed": 2000, "gone": 0, "names": first}
    edited = {**live, "letter-0007": "b2"}
    del edited["letter-0001"]
    changes = {"templates": 1999, "changed": 1, "gone": 1, "names": ["letter-0007@b2", "letter-0001"]}
    assert template_changes(live, edited) == changes


def test_the_log_tells_what_serves_from_the_start_and_after_an_edit_what_was_edited(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "POLL_SECONDS", 0.001)
    templates = FolderTemplates(folder)
    revisions: list[dict[str, str]] = []

    def hear(catalog: TemplateCatalog) -> None:
        revisions.append({one.name: one.revision for one in catalog.templates.values()})

    async def scenario() -> None:
        assert templates.refresh(), "as a worker does before it watches"
        watching = asyncio.create_task(templates.watch(hear))
        await until(lambda: bool(revisions))
        (folder / "1.json").write_text(bundle("welcome"))
        await until(lambda: len(revisions) > 1)
        watching.cancel()

    asyncio.run(scenario())
    first, second = revisions
    assert template_changes({}, first)["names"] == [f"order@{first['order']}"]
    changes = {"templates": 2, "changed": 1, "gone": 0, "names": [f"welcome@{second['welcome']}"]}
    assert template_changes(first, second) == changes


def test_what_a_later_release_wrote_is_served_and_what_is_left_out_of_it_is_told_once(folder: Path) -> None:
    whole = json.loads(bundle("order", "welcome"))
    for each in whole["templates"]:
        each["later"], each["variants"][0]["amp"] = True, "<html>"
    newer = json.dumps(whole)
    (folder / "0.json").write_text(newer)
    opened = FolderTemplates(folder)
    with capture_logs() as lines:
        assert opened.refresh()
        (folder / "1.json").write_text(bundle("other"))
        assert opened.refresh()
    assert names(opened) == {"order", "welcome", "other"}
    assert opened.unknown_fields == ["bundle: later", "bundle: variants.amp"]
    assert [line["fields"] for line in lines] == [opened.unknown_fields]
    (folder / "0.json").write_text(bundle("order", "welcome"))
    assert opened.refresh()
    assert opened.unknown_fields == []
