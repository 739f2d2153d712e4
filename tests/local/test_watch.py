"""A profile or template whose file was removed is reported; a file that is missing briefly is not."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from watchfiles import Change

from postroom.local import watch
from postroom.local.bundles import ServedProfile, write_bundles
from postroom.local.manifests import ManifestSet, read_manifest_folder
from tests.local.manifest_texts import PROFILE, TEMPLATE, write_manifests


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    write_manifests(folder, profile=PROFILE, welcome=TEMPLATE)
    return folder


def serve(manifests: Path) -> tuple[ManifestSet, list[ServedProfile]]:
    manifest_set = read_manifest_folder(manifests)
    return manifest_set, write_bundles(
        manifests.parent / "bundles", manifest_set.validation, complete=manifest_set.complete
    )


def test_a_profile_whose_file_was_removed_stops_and_is_reported(manifests: Path) -> None:
    before, served_before = serve(manifests)
    (manifests / "profile.yaml").unlink()
    (line,) = watch.withdrawn(before, served_before, serve(manifests)[1])
    assert line.startswith("profile shop stopped with its 1 template: ")
    assert f"{manifests / 'profile.yaml'} was removed" in line


def test_a_template_that_was_removed_is_reported_with_the_reason(manifests: Path) -> None:
    before, served_before = serve(manifests)
    write_manifests(manifests, welcome=TEMPLATE.replace("name: welcome", "name: greeting"))
    (line,) = watch.withdrawn(before, served_before, serve(manifests)[1])
    assert line == f"template welcome stopped: {manifests / 'welcome.yaml'} no longer declares it"
    (manifests / "welcome.yaml").unlink()
    (line,) = watch.withdrawn(before, served_before, serve(manifests)[1])
    assert line == f"template welcome stopped: {manifests / 'welcome.yaml'} was removed"


def test_nothing_is_reported_while_everything_is_served(manifests: Path) -> None:
    before, served_before = serve(manifests)
    assert list(watch.withdrawn(before, served_before, served_before)) == []


@pytest.mark.parametrize("remove", [Path.unlink, lambda file: file.write_text("")])
def test_a_file_that_is_missing_briefly_is_waited_for(
    manifests: Path, monkeypatch: pytest.MonkeyPatch, remove: Callable[[Path], object]
) -> None:
    """After the wait the file is read again, with its text."""
    applied: list[bool] = []
    file = manifests / "welcome.yaml"

    async def edits(*_: object, **__: object) -> Any:
        remove(file)
        asyncio.get_running_loop().call_soon(lambda: write_manifests(manifests, welcome=TEMPLATE))
        yield {(Change.deleted, str(file))}

    async def apply_edit(*_: object) -> None:
        applied.append(file.stat().st_size > 0)

    monkeypatch.setattr(watch, "awatch", edits)
    monkeypatch.setattr(watch, "apply_edit", apply_edit)
    monkeypatch.setattr(watch, "MISSING_SECONDS", 0.01)
    run: Any = SimpleNamespace(options=SimpleNamespace(manifests=manifests))
    asyncio.run(watch.watch_manifests(run, watch.EditListener(print, print), asyncio.Event()))
    assert applied == [True]
