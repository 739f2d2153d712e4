"""The environment of local mode: where caches are kept, what child processes inherit.

Choose ports on the loopback interface: the wanted one when it is free, else any free one.
"""

import os
import socket
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache folder for Postroom: `$XDG_CACHE_HOME/postroom`, else `~/.cache/postroom`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "postroom"


def child_environment(**added: str) -> dict[str, str]:
    """This process's environment with `added` on top."""
    return {**os.environ, **added}


LOOPBACK = "127.0.0.1"


def free_port(wanted: int = 0, taken: frozenset[int] = frozenset()) -> int:
    """`wanted` when nothing listens there (and it is not among `taken`), else a port that is free now."""
    if wanted not in taken and _port_is_free(wanted):
        return wanted or _any_port()
    return _any_port()


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # what servers do: a port whose old connections are only fading away is free
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
