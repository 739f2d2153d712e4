"""What stops because its file went away is told, with the file; what comes back at once never stops."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from watchfiles import Change

from postroom.local import watch
from postroom.local.bundles import Stand, publish
from postroom.local.manifests import Reading, read_folder
from tests.local.sources import PROFILE, TEMPLATE, write


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    write(folder, profile=PROFILE, welcome=TEMPLATE)
    return folder


def serve(manifests: Path) -> tuple[Reading, list[Stand]]:
    reading = read_folder(manifests)
    return reading, publish(manifests.parent / "bundles", reading.verdict, complete=reading.complete)


def test_a_profile_whose_file_is_gone_stops_and_says_so(manifests: Path) -> None:
    before, stood = serve(manifests)
    (manifests / "profile.yaml").unlink()
    (line,) = watch.stopped(before, stood, serve(manifests)[1])
    assert line.startswith("profile shop stopped with its 1 template: ")
    assert f"{manifests / 'profile.yaml'} is gone" in line


def test_a_template_that_is_gone_or_not_declared_any_more_says_so(manifests: Path) -> None:
    before, stood = serve(manifests)
    write(manifests, welcome=TEMPLATE.replace("name: welcome", "name: greeting"))
    (line,) = watch.stopped(before, stood, serve(manifests)[1])
    assert line == f"template welcome stopped: {manifests / 'welcome.yaml'} does not declare it any more"
    (manifests / "welcome.yaml").unlink()
    (line,) = watch.stopped(before, stood, serve(manifests)[1])
    assert line == f"template welcome stopped: {manifests / 'welcome.yaml'} is gone"


def test_nothing_is_told_while_everything_is_served(manifests: Path) -> None:
    before, stood = serve(manifests)
    assert list(watch.stopped(before, stood, stood)) == []


@pytest.mark.parametrize("away", [Path.unlink, lambda file: file.write_text("")])
def test_a_file_that_comes_back_in_a_moment_is_waited_for(
    manifests: Path, monkeypatch: pytest.MonkeyPatch, away: Callable[[Path], object]
) -> None:
    """The look that follows the wait finds the file there, or its text where it was truncated."""
    taken: list[bool] = []
    file = manifests / "welcome.yaml"

    async def edits(*_: object, **__: object) -> Any:
        away(file)
        asyncio.get_running_loop().call_soon(lambda: write(manifests, welcome=TEMPLATE))
        yield {(Change.deleted, str(file))}

    async def take(*_: object) -> None:
        taken.append(file.stat().st_size > 0)

    monkeypatch.setattr(watch, "awatch", edits)
    monkeypatch.setattr(watch, "take", take)
    monkeypatch.setattr(watch, "AWAY_SECONDS", 0.01)
    run: Any = SimpleNamespace(wishes=SimpleNamespace(manifests=manifests))
    asyncio.run(watch.follow(run, watch.Listener(print, print), asyncio.Event()))
    assert taken == [True]
