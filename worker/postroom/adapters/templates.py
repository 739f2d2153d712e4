"""Live templates from a folder of bundles, read again when its files change.

In: `*.json` shards of one profile, as a projected volume or `postroom up` writes them. Out: a Catalog. A
shard that cannot be read keeps the catalog of before, with the reason in `problem`: a bad file never
takes down good templates.
"""

import asyncio
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import structlog

from postroom.letter.bundle import load
from postroom.letter.problems import Rejected
from postroom.letter.render import Catalog

LOOK_SECONDS = 1.0
"""A projected volume changes by switching a symbolic link, which file watchers miss: so it is read."""

log = structlog.get_logger("postroom.templates")


class FolderTemplates:
    """Implements ports.world.Templates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._catalog = Catalog({})
        self._seen = b""
        self._read = False
        self.problem = ""
        self.ready = asyncio.Event()
        """Set once a first catalog was read: until then nobody knows which templates there are."""

    def current(self) -> Catalog:
        """See the port."""
        return self._catalog

    async def watch(self, changed: Callable[[Catalog], None]) -> None:
        """Look at the folder until cancelled; `changed` hears of every new catalog."""
        while True:
            if await asyncio.to_thread(self.refresh):
                changed(self._catalog)
            if self._read:
                self.ready.set()
            await asyncio.sleep(LOOK_SECONDS)

    def refresh(self) -> bool:
        """Read the folder if it changed; True when there is a new catalog."""
        try:
            texts = [path.read_text("utf-8") for path in self._shards()]
        except (OSError, UnicodeDecodeError) as error:
            self._seen = b""
            return self._keep(str(error))
        if not texts:
            self._seen = b""
            return self._keep("it holds no *.json")
        seen = blake2b("\0".join(texts).encode()).digest()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self._catalog = load(texts, time.monotonic)
        except Rejected as rejected:
            return self._keep(str(rejected))
        self.problem, self._read = "", True
        return True

    def _shards(self) -> list[Path]:
        # glob would pass over a folder that is not there, and every template would be gone with it
        return sorted(path for path in self._folder.iterdir() if path.suffix == ".json")

    def _keep(self, reason: str) -> bool:
        if reason != self.problem:
            log.error(
                "bundle not read; the templates of before stay", folder=str(self._folder), reason=reason
            )
        self.problem = reason
        return False
