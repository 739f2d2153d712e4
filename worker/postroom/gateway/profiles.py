"""Which profile owns an event type: the live templates of every profile, as the gateway sees them.

Input: the rooms (one per profile). Output: the one room an event goes to. Failure: `Rejected` with the
rule, and the nearest event types when nobody owns the one that was named. Pure.

Read the live templates of all profiles from a folder, again whenever a file in it has changed.

Input: a folder that holds one folder per profile with `profile.yaml` and `*.json` bundles; in a cluster a
projected volume, locally what `postroom up` writes. Output: a `Directory`. Failure: a profile that cannot
be read keeps its last good state; what is wrong is in `faults`.
"""

import difflib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from postroom.letter.catalog import RenderableTemplate, TemplateCatalog
from postroom.letter.language.bounds import Clocks
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.profile import topic_of
from postroom.letter.profile_format import parse_profiles
from postroom.letter.renderer import load_catalog


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """A profile's place: its name, its topic, its live templates."""

    profile: str
    topic: str
    catalog: TemplateCatalog


@dataclass(frozen=True, slots=True)
class TemplateRoute:
    """Where an event of a type goes and the template that will make its letter."""

    entry: ProfileEntry
    template: RenderableTemplate


class ProfileRouter:
    """All rooms, by event type."""

    def __init__(self, entries: Iterable[ProfileEntry] = ()) -> None:
        self._entries = tuple(entries)

    @property
    def entries(self) -> tuple[ProfileEntry, ...]:
        """Every profile that is served."""
        return self._entries

    def event_types(self) -> list[str]:
        """Every event type that has a live template, sorted."""
        return sorted({name for entry in self._entries for name in entry.catalog.templates})

    def find(self, event_type: str, profile: str | None = None) -> TemplateRoute:
        """The owner of an event type, narrowed to one profile if it is given; raises Rejected."""
        entries = [entry for entry in self._entries if profile in (None, entry.profile)]
        if not self._entries:
            message = (
                f"no template is live for {event_type}: there is no profile yet. Add an SmtpProfile and an "
                "EmailTemplate to the manifests"
            )
            raise Rejected(Problem(Code.TEMPLATE_MISSING, "event_type", message))
        if not entries:
            raise _template_missing(
                "profile", f"no profile is called {profile}", _profile_names(self._entries)
            )
        owners = [
            TemplateRoute(entry, template)
            for entry in entries
            if (template := entry.catalog.find(event_type)) is not None
        ]
        if not owners:
            raise _template_missing(
                "event_type", f"no live template is for {event_type}", self._nearest_event_types(event_type)
            )
        if len(owners) > 1:
            served = _profile_names(owner.entry for owner in owners)
            raise _template_missing(
                "event_type", f"several profiles serve {event_type}; add ?profile=", served
            )
        if owners[0].template.suspended:
            problem = f"template {owners[0].template.name} is suspended (spec.suspend); no letters leave"
            raise Rejected(Problem(Code.TEMPLATE_SUSPENDED, "event_type", problem))
        return owners[0]

    def _nearest_event_types(self, event_type: str) -> str:
        known = self.event_types()
        near = difflib.get_close_matches(event_type, known, n=3, cutoff=0.6)
        return ", ".join(near or known[:5])


def _profile_names(entries: Iterable[ProfileEntry]) -> str:
    return ", ".join(sorted(entry.profile for entry in entries))


def _template_missing(field: str, what: str, choices: str) -> Rejected:
    message = f"{what} (there are: {choices})" if choices else f"{what} (there are none yet)"
    return Rejected(Problem(Code.TEMPLATE_MISSING, field, message))


FolderSignature = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of every file of a profile's folder."""


class TemplateStore:
    """The folder as it is now; `directory()` is cheap when nothing has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signatures: dict[Path, FolderSignature] = {}
        self._entries: dict[Path, ProfileEntry] = {}
        self._router = ProfileRouter()
        self.errors: dict[str, str] = {}
        """Profile folder → why its newest state is not served."""

    def router(self) -> ProfileRouter:
        """The rooms, read again where files have changed."""
        signatures = {folder: _folder_signature(folder) for folder in self._profile_folders()}
        if signatures != self._signatures:
            for folder, signature in signatures.items():
                if self._signatures.get(folder) != signature:
                    self._reload(folder)
            self._entries = {folder: entry for folder, entry in self._entries.items() if folder in signatures}
            self._signatures = signatures
            self._router = ProfileRouter(self._entries.values())
        return self._router

    def _profile_folders(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(child for child in self._folder.iterdir() if (child / "profile.yaml").is_file())

    def _reload(self, folder: Path) -> None:
        try:
            self._entries[folder] = _load_profile(folder)
        except (OSError, ValueError, Rejected) as error:
            self.errors[folder.name] = str(error)
        else:
            self.errors.pop(folder.name, None)


def _load_profile(folder: Path) -> ProfileEntry:
    [parsed] = parse_profiles((folder / "profile.yaml").read_text("utf-8"), "profile.yaml")
    profile = parsed.profile
    texts = (file.read_text() for file in sorted(folder.glob("*.json")))
    catalog = load_catalog(texts, Clocks(time.monotonic, time.thread_time))
    return ProfileEntry(profile.metadata.name, topic_of(profile), catalog)


def _folder_signature(folder: Path) -> FolderSignature:
    found = []
    for file in sorted(folder.iterdir()):
        try:
            stat = file.stat()
        except FileNotFoundError:  # replaced at this very moment; the next look sees the new one
            continue
        found.append((file.name, stat.st_size, stat.st_mtime_ns))
    return tuple(found)
