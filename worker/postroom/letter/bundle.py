"""The bundle: a profile's compiled templates as JSON text, written by the control plane, read by workers.

Never pickle, never generated code. One bundle may be spread over several shards. A text that is not
a bundle is refused whole. `loaded` makes live templates of it.
"""

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from pydantic_core import from_json as read

from postroom.letter.compiled import CompiledTemplate, Edition, File, Subject, from_json, unknown_in
from postroom.letter.problems import Code, Problem, Rejected

__all__ = [
    "FRAME",
    "CompiledTemplate",
    "Edition",
    "File",
    "Subject",
    "is_of_another_format",
    "join",
    "left_out",
    "line",
    "pack",
    "size_of",
    "unpack",
]

FORMAT = "postroom.bundle/1"
WITH_MESSAGES = "postroom.bundle/2"
"""The format of a bundle with messages: a worker without them could render none of its letters (0032)."""
FORMATS = (FORMAT, WITH_MESSAGES)
_BETWEEN, _TAIL = ",\n", "]}\n"
_HAS_MESSAGES = '"messages": {"'
"""In no text of a template's, where JSON puts a backslash before the quotes."""


def pack(compiled: Iterable[CompiledTemplate]) -> str:
    """The templates as one JSON text, in order of their names."""
    return join(line(template) for template in sorted(compiled, key=lambda each: each.name))


def line(template: CompiledTemplate) -> str:
    """One template as it stands in a bundle, on a line of its own."""
    return json.dumps(template, ensure_ascii=False, default=_fields)


def _fields(part: Any) -> dict[str, Any]:
    """As `asdict`, without its deep copies, which would cost more than all the rest of packing."""
    return {each.name: getattr(part, each.name) for each in fields(part)}


def join(lines: Iterable[str]) -> str:
    """A bundle of what `line` wrote."""
    body = _BETWEEN.join(lines)
    return _head(WITH_MESSAGES if _HAS_MESSAGES in body else FORMAT) + body + _TAIL


def _head(form: str) -> str:
    return f'{{"format": "{form}", "templates": ['


def size_of(text: str) -> int:
    """The bytes that a line takes in a bundle, with what parts it from its neighbours."""
    return len(text.encode()) + len(_BETWEEN)


FRAME = len(_head(FORMAT)) + len(_TAIL)
"""The bytes of a bundle without its lines."""


def unpack(text: str) -> list[CompiledTemplate]:
    """Read what `pack` wrote, of this release or a later one. Raises Rejected (manifest_invalid)."""
    try:
        # refuses half a surrogate pair as well: nobody could write what was read with one in it
        value: Any = read(text)
        if value["format"] not in FORMATS:
            known = " and ".join(map(repr, FORMATS))
            message = f"its format is {str(value['format'])[:80]!r}, and this release reads {known}"
            raise Rejected(Problem(Code.MANIFEST_INVALID, "bundle", message))
        return [from_json(template) for template in value["templates"]]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        message = f"not a bundle of compiled templates: {type(error).__name__}"
        raise Rejected(Problem(Code.MANIFEST_INVALID, "bundle", message)) from None


def is_of_another_format(text: str) -> bool:
    """Whether it is a bundle, and `unpack` refuses it for its format: another release wrote it."""
    try:
        written: Any = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return isinstance(written, str) and written not in FORMATS


def left_out(text: str) -> frozenset[str]:
    """What `unpack` leaves out of a bundle that it reads, as `editions.amp`: fields of a later release."""
    return frozenset(name for template in json.loads(text)["templates"] for name in unknown_in(template))
