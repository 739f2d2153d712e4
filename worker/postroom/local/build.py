"""`postroom build`: a folder of manifests as one YAML stream for `kubectl apply`.

Input: a `ManifestSet` without errors. Output: each Kubernetes object of the folder in the order of the files,
with the texts of `htmlFile` and similar fields inlined; the same input gives the same bytes. Documents that
are not cluster objects (a Kustomization) are excluded and reported. Failure: `UserError` when the file cannot
be written.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from postroom.letter.yaml_positions import reads_as_text
from postroom.local.errors import UserError
from postroom.local.manifests import ManifestSet

INDENT = "  "
_BREAKS = frozenset("\x85\u2028\u2029\r")
"""Line ends in YAML 1.1; a literal block would change them."""


def build_stream(manifest_set: ManifestSet) -> str:
    """Return the YAML stream."""
    values = (located.value for located in manifest_set.located)
    return "".join(
        f"---\n{to_yaml(dict(value))}" for value in values if value is not None and _in_cluster(value)
    )


def write_stream(stream: str, output: Path | None) -> None:
    """Write the stream to standard output, or atomically to a file; raises UserError."""
    if output is None:
        sys.stdout.buffer.write(stream.encode())
        sys.stdout.flush()
        return
    part = output.with_name(f".{output.name}.part")
    try:
        part.write_bytes(stream.encode())
        part.replace(output)
    except OSError as error:
        raise UserError(
            f"{output} cannot be written: {error.strerror}.", "Name another file with -o."
        ) from None


def excluded_objects(manifest_set: ManifestSet) -> Iterator[str]:
    """Yield a line like `letters/kustomization.yaml: Kustomization` for each object that is excluded."""
    for located in manifest_set.located:
        if located.value is not None and not _in_cluster(located.value):
            yield f"{located.file}: {located.kind or 'an object without kind'}"


def _in_cluster(value: Mapping[str, Any]) -> bool:
    """Whether kubectl can apply an object: it has a name and is not marked as local configuration."""
    metadata = value.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return False
    return "config.kubernetes.io/local-config" not in (metadata.get("annotations") or {})


def to_yaml(value: dict[str, Any]) -> str:
    """Return a mapping as a YAML document, with multi-line strings as literal blocks."""
    return "".join(f"{line}\n" for line in _mapping(value, ""))


def _mapping(value: dict[str, Any], indent: str) -> Iterator[str]:
    for key, member in value.items():
        yield from _entry(f"{indent}{_scalar(key)}:", member, indent + INDENT)


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    """Yield the lines of a value after `key:` or `-`."""
    if isinstance(value, dict) and value:
        yield from _collection(head, list(_mapping(value, indent)), indent)
    elif isinstance(value, list) and value:
        lines = [line for item in value for line in _entry(f"{indent}-", item, indent + INDENT)]
        yield from _collection(head, lines, indent)
    elif isinstance(value, str) and "\n" in value and not _BREAKS.intersection(value) and _printable(value):
        yield from _literal(head, value, indent)
    else:
        yield f"{head} {_scalar(value)}"


def _collection(head: str, lines: list[str], indent: str) -> Iterator[str]:
    """Yield a collection below its key, or beginning beside the dash of its list item."""
    if head.endswith("-"):
        yield f"{head} {lines[0][len(indent) :]}"
        yield from lines[1:]
    else:
        yield head
        yield from lines


def _literal(head: str, text: str, indent: str) -> Iterator[str]:
    body = text.rstrip("\n")
    if not body:
        yield f"{head} {_quoted(text)}"
        return
    ends = len(text) - len(body)
    explicit = str(len(INDENT)) if body[0] in " \n\t" else ""
    yield f"{head} |{explicit}{'-' if ends == 0 else '+' if ends > 1 else ''}"
    for line in text[:-1].split("\n") if ends else text.split("\n"):
        yield f"{indent}{line}" if line else ""


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return value if reads_as_text(value) else _quoted(value)
        case dict():
            return "{}"
        case list():
            return "[]"
        case _:
            return repr(value)


def _quoted(text: str) -> str:
    if "\n" not in text and not _BREAKS.intersection(text) and _printable(text):
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character == "\n":
        return "\\n"
    number = ord(character)
    if character.isprintable() and character not in _BREAKS:
        return character
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


_PRINTABLE = re.compile(r"[\t\n -~\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]*")
"""What may profile in YAML as it is; a byte order mark may not."""


def _printable(text: str) -> bool:
    return _PRINTABLE.fullmatch(text) is not None
