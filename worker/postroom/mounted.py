"""A mounted Secret, read: a folder with a file for each key, as the kubelet writes it.

In: the folder. Out: text by key; nothing where the folder or all keys are missing, for a Secret that is
optional may come later. The kubelet writes all files anew in a folder beside and switches the link `..data`
to it, so all are read from one such folder, or the old password could go with the new user name.
"""

from pathlib import Path

SWITCH = "..data"
TRIES = 3
"""A folder may be switched away while it is read; twice in a row is not its way."""


def read_folder(folder: Path) -> dict[str, str]:
    """Text by key; raises OSError where a file is there and cannot be read."""
    for _ in range(TRIES - 1):
        try:
            return _read(_generation(folder))
        except FileNotFoundError:
            continue
    return _read(_generation(folder))


def _generation(folder: Path) -> Path:
    """The folder that holds the files now."""
    switch = folder / SWITCH
    return switch.resolve() if switch.exists() else folder


def _read(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        return {}
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith("..") and path.is_file()]
    return {path.name: path.read_text("utf-8", "replace") for path in files}
