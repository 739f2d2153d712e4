"""The bundle: a profile's compiled templates as JSON text, written by the control plane, read by workers.

Never pickle, never generated code. One bundle may be spread over several shards, whose texts `load`
takes together. A text that is not a bundle is refused whole; the reader keeps what it had.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from postroom.letter.compiled import CompiledTemplate, Edition, File, Subject, from_json
from postroom.letter.language.bounds import CpuTime
from postroom.letter.live import Live
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.render import Catalog

__all__ = [
    "FRAME",
    "CompiledTemplate",
    "Edition",
    "File",
    "Loaded",
    "Subject",
    "join",
    "line",
    "load",
    "pack",
    "size_of",
    "unpack",
]

FORMAT = "postroom.bundle/1"
_HEAD, _BETWEEN, _TAIL = f'{{"format": "{FORMAT}", "templates": [', ",\n", "]}\n"


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
    return _HEAD + _BETWEEN.join(lines) + _TAIL


def size_of(text: str) -> int:
    """The bytes that a line takes in a bundle, with what parts it from its neighbours."""
    return len(text.encode()) + len(_BETWEEN)


FRAME = len(_HEAD) + len(_TAIL)
"""The bytes of a bundle without its lines."""


def unpack(text: str) -> list[CompiledTemplate]:
    """Read what `pack` wrote. Raises Rejected (manifest_invalid)."""
    try:
        value: Any = json.loads(text)
        if value["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return [from_json(template) for template in value["templates"]]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        message = f"not a bundle of compiled templates: {type(error).__name__}"
        raise Rejected(Problem(Code.MANIFEST_INVALID, "bundle", message)) from None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The live templates of one profile, by the text of the shard that they came in."""

    shards: Mapping[str, tuple[Live, ...]] = field(default_factory=dict)

    @property
    def catalog(self) -> Catalog:
        """By event type; the first to claim one has it."""
        live: dict[str, Live] = {}
        for templates in self.shards.values():
            for template in templates:
                for event_type in template.compiled.event_types:
                    live.setdefault(event_type, template)
        return Catalog(live)

    def read(self, texts: Iterable[str], cpu_time: CpuTime | None = None) -> "Loaded":
        """These shards, with the templates that are in them as before kept, and so kept compiled.

        Raises Rejected.
        """
        known = {template.name: template for shard in self.shards.values() for template in shard}

        def live(compiled: CompiledTemplate) -> Live:
            before = known.get(compiled.name)
            # a revision says nothing of `suspend`
            return before if before and before.compiled == compiled else Live(compiled, cpu_time)

        shards: dict[str, tuple[Live, ...]] = {}
        for text in texts:
            shards[text] = self.shards.get(text) or tuple(map(live, unpack(text)))
        return Loaded(shards)


def load(texts: Iterable[str], cpu_time: CpuTime | None = None) -> Catalog:
    """The live templates of one profile. Raises Rejected; the first to claim an event type has it."""
    return Loaded().read(texts, cpu_time).catalog
