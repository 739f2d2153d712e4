"""Read the live templates of all profiles from a folder, again whenever a file in it has changed.

Input: a folder that holds one folder per profile with `profile.yaml` and `*.json` bundles; in a cluster a
projected volume, locally what `postroom up` writes. Output: a `Directory`. Failure: a profile that cannot
be read keeps its last good state; what is wrong is in `faults`.
"""

import time
from pathlib import Path

from postroom.gateway.directory import Directory, Room
from postroom.letter.language.bounds import Clocks
from postroom.letter.problems import Rejected
from postroom.letter.profile import topic_of
from postroom.letter.profile_format import parse_profiles
from postroom.letter.renderer import load_catalog

Signature = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of every file of a profile's folder."""


class Shelf:
    """The folder as it is now; `directory()` is cheap when nothing has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signatures: dict[Path, Signature] = {}
        self._rooms: dict[Path, Room] = {}
        self._directory = Directory()
        self.faults: dict[str, str] = {}
        """Profile folder → why its newest state is not served."""

    def directory(self) -> Directory:
        """The rooms, read again where files have changed."""
        signatures = {folder: _signature(folder) for folder in self._profile_folders()}
        if signatures != self._signatures:
            for folder, signature in signatures.items():
                if self._signatures.get(folder) != signature:
                    self._read(folder)
            self._rooms = {folder: room for folder, room in self._rooms.items() if folder in signatures}
            self._signatures = signatures
            self._directory = Directory(self._rooms.values())
        return self._directory

    def _profile_folders(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(child for child in self._folder.iterdir() if (child / "profile.yaml").is_file())

    def _read(self, folder: Path) -> None:
        try:
            self._rooms[folder] = _room(folder)
        except (OSError, ValueError, Rejected) as error:
            self.faults[folder.name] = str(error)
        else:
            self.faults.pop(folder.name, None)


def _room(folder: Path) -> Room:
    [handed] = parse_profiles((folder / "profile.yaml").read_text("utf-8"), "profile.yaml")
    profile = handed.profile
    texts = (file.read_text() for file in sorted(folder.glob("*.json")))
    catalog = load_catalog(texts, Clocks(time.monotonic, time.thread_time))
    return Room(profile.metadata.name, topic_of(profile), catalog)


def _signature(folder: Path) -> Signature:
    found = []
    for file in sorted(folder.iterdir()):
        try:
            stat = file.stat()
        except FileNotFoundError:  # replaced at this very moment; the next look sees the new one
            continue
        found.append((file.name, stat.st_size, stat.st_mtime_ns))
    return tuple(found)
