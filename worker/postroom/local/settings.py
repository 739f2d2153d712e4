"""The environment of local mode: where caches are kept, what child processes inherit."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache folder for Postroom: `$XDG_CACHE_HOME/postroom`, else `~/.cache/postroom`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "postroom"


def child_environment(**added: str) -> dict[str, str]:
    """This process's environment with `added` on top."""
    return {**os.environ, **added}
