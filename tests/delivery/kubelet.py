"""The kubelet's hand: writes a volume as its atomic writer does (pkg/volume/util/atomic_writer.go)."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path


def steps(volume: Path, files: Mapping[str, str]) -> Iterator[str]:
    """Make the volume hold exactly these files; pauses after every step that a reader can see.

    A source that is optional and absent is a file that is not among them.
    """
    switch, switching = volume / "..data", volume / "..data_tmp"
    before = switch.resolve() if switch.exists() else None
    folder = Path(tempfile.mkdtemp(prefix="..2026_11_25_17_00_00.", dir=volume))
    for name, text in files.items():
        (folder / name).write_text(text)
        yield f"{name} is written"
    switching.symlink_to(folder.name)
    yield "the new link is made"
    switching.replace(switch)
    yield "the link is switched"
    for name in files:
        if not (volume / name).is_symlink():
            (volume / name).symlink_to(f"..data/{name}")
            yield f"{name} is to be seen"
    for path in volume.iterdir():
        if not path.name.startswith("..") and path.name not in files:
            path.unlink()
            yield f"{path.name} is gone"
    if before is not None:
        shutil.rmtree(before)
        yield "the old folder is gone"


def write(volume: Path, files: Mapping[str, str]) -> None:
    """All steps at once."""
    for _ in steps(volume, files):
        pass
