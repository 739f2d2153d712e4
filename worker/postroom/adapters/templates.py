"""Load templates from a folder of compiled bundles (`*.json`), and reload it when its files change.

All shards of a catalog are read together, and unchanged templates stay compiled. If a shard cannot be read,
the previous catalog stays in use and `problem` has the reason.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from postroom.letter.bundle import unknown_bundle_fields
from postroom.letter.catalog import TemplateCatalog
from postroom.letter.language.bounds import Timers
from postroom.letter.problems import Rejected
from postroom.letter.renderer import LoadedBundles
from postroom.secret_files import generation, read_files

POLL_SECONDS = 1.0
"""A projected volume changes by switching a symbolic link, which file watchers miss: so it is read."""

log = structlog.get_logger("postroom.templates")


class FolderTemplates:
    """Implements ports.world.Templates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded = LoadedBundles()
        self._catalog = self._loaded.catalog
        self._seen: list[str] = []
        self._generation: Path | None = None
        """The kubelet's folder that was read last; None where it must be read again in any case."""
        self._read = False
        self.problem = ""
        self._unknown_fields: dict[str, frozenset[str]] = {}
        self.ready = asyncio.Event()
        """Set when the first catalog was read; until then a missing template means nothing."""

    @property
    def unknown_fields(self) -> list[str]:
        """The fields of the bundles that this release does not know, as `bundle: variants.amp`."""
        return sorted({f"bundle: {name}" for names in self._unknown_fields.values() for name in names})

    def current(self) -> TemplateCatalog:
        return self._catalog

    async def watch(self, changed: Callable[[TemplateCatalog], None]) -> None:
        """Reload until cancelled; `changed` gets each catalog, also one that was read before."""
        reported: TemplateCatalog | None = None
        while True:
            await asyncio.to_thread(self.refresh)
            if self._read and self._catalog is not reported:
                reported = self._catalog
                changed(reported)
            if self._read:
                self.ready.set()
            await asyncio.sleep(POLL_SECONDS)

    def refresh(self) -> bool:
        """Read the folder if it changed; True when there is a new catalog."""
        now = generation(self._folder)
        if now and now == self._generation:
            return False
        self._generation = None
        try:
            texts = self._shards()
        except (OSError, UnicodeDecodeError) as error:
            self._seen = []
            return self._keep(str(error))
        self._generation = now  # where the kubelet switched meanwhile, the next look reads once more
        if texts == self._seen:
            return False
        self._seen = texts
        return self._take(texts)

    def _shards(self) -> list[str]:
        files = sorted(read_files(self._folder).items())
        texts = [content.decode("utf-8") for name, content in files if name.endswith(".json")]
        if not texts:  # every template would be gone with a folder that is not there for a moment
            raise FileNotFoundError(f"{self._folder} holds no *.json")
        return texts

    def _take(self, texts: list[str]) -> bool:
        try:
            self._loaded = self._loaded.reload(texts, Timers(time.monotonic, time.thread_time))
        except Rejected as rejected:
            return self._keep(str(rejected))
        self._catalog = self._loaded.catalog
        self.problem, self._read = "", True
        self._log_unknown_fields(texts)
        return True

    def _log_unknown_fields(self, texts: list[str]) -> None:
        logged = self.unknown_fields
        known = self._unknown_fields
        self._unknown_fields = {
            text: known[text] if text in known else unknown_bundle_fields(text) for text in texts
        }
        if self.unknown_fields and self.unknown_fields != logged:
            log.warning(
                "unknown fields are ignored; a later release may define them", fields=self.unknown_fields
            )

    def _keep(self, reason: str) -> bool:
        if reason != self.problem:
            log.error(
                "bundle not read; the templates of before stay", folder=str(self._folder), reason=reason
            )
        self.problem = reason
        return False
