"""The live templates of all profiles, read from a folder, and the choice of the profile for an event type.

Input: a folder with one folder per profile, which holds `profile.yaml` and `*.json` bundles (in a cluster a
projected volume, locally the output of `postroom up`). Output: a `ProfileRouter`, read again when a file has
changed. Failure: a profile that cannot be read keeps its last good state, and `TemplateStore.errors` has the
reason; `ProfileRouter.find` raises `Rejected` with the rule and the nearest event types.
"""

import difflib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from postroom.letter.catalog import RenderableTemplate, TemplateCatalog
from postroom.letter.language.bounds import Timers
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.profile import topic_of
from postroom.letter.profile_format import parse_profiles
from postroom.letter.renderer import load_catalog


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """A profile: its name, its topic, its live templates."""

    profile: str
    topic: str
    catalog: TemplateCatalog


@dataclass(frozen=True, slots=True)
class TemplateRoute:
    """The profile that an event goes to, and the template of its letter."""

    entry: ProfileEntry
    template: RenderableTemplate


class ProfileRouter:
    """Finds the profile and template of an event type. Immutable."""

    def __init__(self, entries: Iterable[ProfileEntry] = ()) -> None:
        self._entries = tuple(entries)

    @property
    def entries(self) -> tuple[ProfileEntry, ...]:
        """All profiles."""
        return self._entries

    def event_types(self) -> list[str]:
        """All event types that have a live template, sorted."""
        return sorted({name for entry in self._entries for name in entry.catalog.templates})

    def find(self, event_type: str, profile: str | None = None) -> TemplateRoute:
        """The route of an event type, within `profile` if it is given; raises Rejected."""
        entries = [entry for entry in self._entries if profile in (None, entry.profile)]
        if not self._entries:
            message = (
                f"no template is live for {event_type}, since there is no profile. Add an SmtpProfile and an "
                "EmailTemplate to the manifests"
            )
            raise Rejected(Problem(Code.TEMPLATE_MISSING, "event_type", message))
        if not entries:
            raise _template_missing(
                "profile", f"no profile is called {profile}", _profile_names(self._entries)
            )
        routes = [
            TemplateRoute(entry, template)
            for entry in entries
            if (template := entry.catalog.find(event_type)) is not None
        ]
        if not routes:
            raise _template_missing(
                "event_type", f"no live template lists {event_type}", self._nearest_event_types(event_type)
            )
        if len(routes) > 1:
            served = _profile_names(route.entry for route in routes)
            raise _template_missing(
                "event_type", f"several profiles serve {event_type}; add ?profile=", served
            )
        if routes[0].template.suspended:
            problem = f"template {routes[0].template.name} is suspended (spec.suspend); it sends no letters"
            raise Rejected(Problem(Code.TEMPLATE_SUSPENDED, "event_type", problem))
        return routes[0]

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
"""Name, size in bytes and modification time of every file in a profile's folder."""


class TemplateStore:
    """The profiles of a folder; `router()` only compares file times while nothing has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signatures: dict[Path, FolderSignature] = {}
        self._entries: dict[Path, ProfileEntry] = {}
        self._router = ProfileRouter()
        self.errors: dict[str, str] = {}
        """Folder of a profile → why its newest state cannot be read."""

    def router(self) -> ProfileRouter:
        """The router over the folder's current state; profiles whose files have changed are read again."""
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
    catalog = load_catalog(texts, Timers(time.monotonic, time.thread_time))
    return ProfileEntry(profile.metadata.name, topic_of(profile), catalog)


def _folder_signature(folder: Path) -> FolderSignature:
    found = []
    for file in sorted(folder.iterdir()):
        try:
            stat = file.stat()
        except FileNotFoundError:  # the file was just replaced; the next call finds the new file
            continue
        found.append((file.name, stat.st_size, stat.st_mtime_ns))
    return tuple(found)
