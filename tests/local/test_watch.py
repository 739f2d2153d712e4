"""What stops because its file went away is told, with the file; what comes back at once never stops."""

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


def test_a_profile_whose_file_is_gone_stops_and_says_so(manifests: Path) -> None:
    before, stood = serve(manifests)
    (manifests / "profile.yaml").unlink()
    (line,) = watch.withdrawn(before, stood, serve(manifests)[1])
    assert line.startswith("profile shop stopped with its 1 template: ")
    assert f"{manifests / 'profile.yaml'} is gone" in line


def test_a_template_that_is_gone_or_not_declared_any_more_says_so(manifests: Path) -> None:
    before, stood = serve(manifests)
    write_manifests(manifests, welcome=TEMPLATE.replace("name: welcome", "name: greeting"))
    (line,) = watch.withdrawn(before, stood, serve(manifests)[1])
    assert line == f"template welcome stopped: {manifests / 'welcome.yaml'} does not declare it any more"
    (manifests / "welcome.yaml").unlink()
    (line,) = watch.withdrawn(before, stood, serve(manifests)[1])
    assert line == f"template welcome stopped: {manifests / 'welcome.yaml'} is gone"


def test_nothing_is_told_while_everything_is_served(manifests: Path) -> None:
    before, stood = serve(manifests)
    assert list(watch.withdrawn(before, stood, stood)) == []


@pytest.mark.parametrize("away", [Path.unlink, lambda file: file.write_text("")])
def test_a_file_that_comes_back_in_a_moment_is_waited_for(
    manifests: Path, monkeypatch: pytest.MonkeyPatch, away: Callable[[Path], object]
) -> None:
    """The look that follows the wait finds the file there, or its text where it was truncated."""
    taken: list[bool] = []
    file = manifests / "welcome.yaml"

    async def edits(*_: object, **__: object) -> Any:
        away(file)
        asyncio.get_running_loop().call_soon(lambda: write_manifests(manifests, welcome=TEMPLATE))
        yield {(Change.deleted, str(file))}

    async def take(*_: object) -> None:
        taken.append(file.stat().st_size > 0)

    monkeypatch.setattr(watch, "awatch", edits)
    monkeypatch.setattr(watch, "apply_edit", take)
    monkeypatch.setattr(watch, "MISSING_SECONDS", 0.01)
    run: Any = SimpleNamespace(options=SimpleNamespace(manifests=manifests))
    asyncio.run(watch.watch_manifests(run, watch.EditListener(print, print), asyncio.Event()))
    assert taken == [True]
