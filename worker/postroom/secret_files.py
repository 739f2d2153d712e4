"""A mounted Secret or ConfigMap, read: a folder with a file for each key, as the kubelet writes it.

In: the folder. Out: what is in its files, by key; nothing where the folder or all keys are missing, for a
source that is optional may come later. The kubelet writes all files anew in a folder beside and switches the
link `..data` to it, so all are read from one such folder, or the old password could go with the new user
name.
"""

from contextlib import suppress
from pathlib import Path

SWITCH = "..data"
TRIES = 3
"""A folder may be switched away while it is read; twice in a row is not its way."""


def read_folder(folder: Path) -> dict[str, str]:
    """Text by key; raises OSError where a file is there and cannot be read."""
    return {key: content.decode("utf-8", "replace") for key, content in read_files(folder).items()}


def read_files(folder: Path) -> dict[str, bytes]:
    """Bytes by key, all of one moment where the kubelet writes them; raises OSError as `read_folder` does."""
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

    None where somebody else writes them.
    """
    switch = folder / SWITCH
    return switch.resolve() if switch.exists() else None


def _read(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith("..")]
    return {path.name: path.read_bytes() for path in files if not path.is_dir()}
