"""The machine that local mode runs on: cache folder, environment of child processes, free ports.

`free_port` returns the preferred port when it is free, otherwise another free port. Nothing here raises for
a port that is taken.
"""

import os
import socket
from pathlib import Path


def cache_folder() -> Path:
    """Return the user's cache folder for Postroom: `$XDG_CACHE_HOME/postroom`, else `~/.cache/postroom`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "postroom"


def child_environment(**added: str) -> dict[str, str]:
    """Return this process's environment, overridden by `added`."""
    return {**os.environ, **added}


LOOPBACK = "127.0.0.1"


def free_port(preferred: int = 0, taken: frozenset[int] = frozenset()) -> int:
    """Return `preferred` when it is free and not in `taken`, otherwise a port that is free now."""
    if preferred not in taken and _port_is_free(preferred):
        return preferred or _any_port()
    return _any_port()


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # as servers do: a port with connections in TIME_WAIT is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
