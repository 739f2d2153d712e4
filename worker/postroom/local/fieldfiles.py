"""Files beside a manifest: `htmlFile: order.html` becomes `html` with the file's text.

Input: an object of a manifest as it was written, the manifest's path and the folder that was named. Output:
the object whole, the file of each such field, and a problem for each name that leads to no readable text. A
path is relative to the manifest and stays inside the folder, also behind symbolic links, so that a manifest
reads nothing else of the machine. Nothing raises for what is wrong with a name or a file.
"""

from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from postroom.letter.manifest import FILE_FIELDS, ResolvedObject
from postroom.letter.problems import Code, Problem, did_you_mean
from postroom.letter.template import HTML_CHARACTERS, TEXT_CHARACTERS

LIMITS = {"html": HTML_CHARACTERS, "text": TEXT_CHARACTERS, "css": TEXT_CHARACTERS}
BYTES_PER_CHARACTER = 4
BYTE_ORDER_MARK = 3
STAND_IN = "-"
"""The text of a field whose file cannot be read, so that the field is not said to be missing as well."""


@dataclass(slots=True)
class FieldFiles:
    """Resolves the file fields of one manifest file's objects."""

    manifest: Path
    folder: Path
    """The folder that no path leads out of."""
    shown: str
    """The manifest as messages name it."""
    wanted: set[Path] = field(default_factory=set)
    """Every file that was named, whether it is there or not."""

    def __call__(self, value: dict[str, Any]) -> ResolvedObject:
        """The object with the texts in it; `value` is left as it is."""
        spec = value.get("spec")
        if not isinstance(spec, dict):
            return ResolvedObject(value)
        files: dict[str, str] = {}
        problems: list[Problem] = []
        kind = str(value.get("kind"))
        whole = self._part(spec, "spec", _OWN.get(kind, ()), (files, problems))
        for member, inner in _MEMBERS.get(kind, {}).items():
            if isinstance(whole.get(member), list):
                whole[member] = [
                    self._part(each, f"spec.{member}[{index}]", inner, (files, problems))
                    if isinstance(each, dict)
                    else each
                    for index, each in enumerate(whole[member])
                ]
        return ResolvedObject({**value, "spec": whole}, files, tuple(problems))

    def _part(
        self,
        part: dict[str, Any],
        path: str,
        names: tuple[str, ...],
        found: tuple[dict[str, str], list[Problem]],
    ) -> dict[str, Any]:
        files, problems = found
        whole = dict(part)
        for name in names:
            if whole.get(name) is None:
                continue
            inline = FILE_FIELDS[name]
            place = f"{path}.{name}"
            wanted = whole.pop(name)
            if whole.get(inline) is not None:
                problems.append(_wrong(place, f"and {inline} are both there; keep one of them"))
                continue
            text = self._text(wanted, place, LIMITS[inline])
            if isinstance(text, Problem):
                problems.append(text)
                whole[inline] = STAND_IN
            else:
                whole[inline] = text
                files[f"{path}.{inline}"] = self._shown(wanted)
        return whole

    def _text(self, wanted: Any, place: str, limit: int) -> str | Problem:
        path = self._path(wanted, place)
        if isinstance(path, Problem):
            return path
        most = limit * BYTES_PER_CHARACTER + BYTE_ORDER_MARK
        try:
            with path.open("rb") as stream:
                data = stream.read(most + 1)
        except OSError as error:
            return _wrong(place, f"{wanted} cannot be read: {error.strerror}")
        if len(data) > most:  # one character too many is enough for the model to refuse it
            return " " * (limit + 1)
        try:
            return StringIO(data.decode("utf-8-sig"), newline=None).read(limit + 1)
        except UnicodeDecodeError as error:
            return _wrong(place, f"{wanted} is not UTF-8 (byte {error.start}); save it as UTF-8")

    def _path(self, wanted: Any, place: str) -> Path | Problem:
        if not isinstance(wanted, str) or not wanted.strip() or "\0" in wanted:
            return _wrong(place, "must be the name of a file beside the manifest, like order.html")
        if PurePosixPath(wanted).is_absolute() or Path(wanted).is_absolute() or "://" in wanted:
            return _wrong(place, f"{wanted} must be a path relative to the manifest, like order.html")
        path = self.manifest.parent / wanted
        try:
            real = path.resolve()
            if not real.is_relative_to(self.folder.resolve()):
                rule = f"{wanted} leads out of {self.folder}; move the file into that folder"
                return _wrong(place, rule)
            self.wanted |= {real, path.absolute()}
            if real.is_file():
                return path
            there = sorted(
                str(Path(wanted).parent / each.name) for each in real.parent.glob("*") if each.is_file()
            )
        except (OSError, RuntimeError, ValueError) as error:
            return _wrong(place, f"{wanted} cannot be read: {error}")
        return _wrong(place, f"there is no file {wanted} beside {self.shown}{did_you_mean(wanted, there)}")

    def _shown(self, wanted: str) -> str:
        """The file as a person would type it: beside the manifest."""
        return str(Path(self.shown).parent / wanted)


_MEMBERS: dict[str, dict[str, tuple[str, ...]]] = {
    "EmailTemplate": {"locales": ("htmlFile", "textFile")},
    "EmailLayout": {"partials": ("htmlFile",)},
}
_OWN: dict[str, tuple[str, ...]] = {
    "EmailTemplate": ("htmlFile", "textFile", "cssFile"),
    "EmailLayout": ("htmlFile", "cssFile"),
}


def _wrong(place: str, rule: str) -> Problem:
    return Problem(Code.MANIFEST_INVALID, place, rule)
