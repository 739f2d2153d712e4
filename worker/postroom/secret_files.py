"""Read a mounted Secret or ConfigMap: folder → content by key, empty if the folder or all keys are missing.

The kubelet writes all files into a new folder and then switches the link `..data` to it. All keys are read
from the same such folder, so that an old password is never combined with a new user name.
"""

from contextlib import suppress
from pathlib import Path

SWITCH = "..data"
TRIES = 3
"""The folder may be switched while it is read; repeated switches are unlikely."""


def read_folder(folder: Path) -> dict[str, str]:
    """Return the text by key; raises OSError if an existing file cannot be read."""
    return {key: content.decode("utf-8", "replace") for key, content in read_files(folder).items()}


def read_readable(folder: Path) -> dict[str, str]:
    """Return the text of each key; a folder that cannot be read counts as missing."""
    try:
        return read_folder(folder)
    except OSError:
        return {}


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the bytes by key, all of one version if the kubelet writes them; raises OSError."""
    for _ in range(TRIES):
        if not folder.is_dir():
            return {}
        now = generation(folder)
        with suppress(FileNotFoundError):
            files = _read(now or folder)
            if generation(folder) == now:  # else some of it may have been gone already
                return files
    raise OSError(f"{folder} changed each of {TRIES} times that it was read")


def generation(folder: Path) -> Path | None:
    """The folder that holds the kubelet's files now; it never changes, another takes its place.

    None if the kubelet does not write them.
    """
    switch = folder / SWITCH
    return switch.resolve() if switch.exists() else None


def _read(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith("..")]
    return {path.name: path.read_bytes() for path in files if not path.is_dir()}
