"""Compiled templates, the bundle that carries them to workers, and the choice of the revision in it.

A `CompiledTemplate` is one validated template: flat source with CSS inlined, schema, headers. It holds no
code: a worker compiles the source in the same sandbox as the validation did. Its `revision` is a hash of its
content, so that the same manifest gives the same revision on every machine.

A bundle is the JSON text of a profile's compiled templates, never pickle. The operator or `postroom up`
writes it, workers read it; it may be spread over several shards. A text that is not a bundle, or is of an
unknown format, raises Rejected. Fields that this release does not know are ignored and can be listed
(docs/decisions/0032).

`RevisionChoice` decides which revision of each template is in the bundle. The operator applies it to the
templates of a namespace, `postroom up` to those of a folder.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from typing import Any, Literal

from pydantic_core import from_json

from postroom.letter.problems import Code, Problem, Rejected

REVISION_LENGTH = 12

PartOrigin = Literal["given", "source", "render"]
"""The origin of a part: given by the author, derived once from the source, or derived after each rendering.
"""


@dataclass(frozen=True, slots=True)
class WeightedSubject:
    """One subject and its weight among the subject variants."""

    source: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class LocaleVariant:
    """The complete template in one language."""

    tag: str
    subjects: tuple[WeightedSubject, ...]
    preheader: str | None
    html: str
    text: str | None
    inline: PartOrigin
    """`source`: the CSS is inlined in `html`. `render`: `css` is inlined after each rendering."""
    text_origin: PartOrigin
    css: str = ""
    attributes: tuple[str, ...] = ()
    """HTML attributes that are written from CSS when it is inlined after rendering."""
    keep_styles: bool = False
    """Whether `<style>` elements keep the rules that are inlined after rendering."""
    messages: Mapping[str, str] = field(default_factory=dict)
    """The message texts for `t(…)` by key."""
    foreign_messages: Mapping[str, str] = field(default_factory=dict)
    """The language of each message text that comes from another language."""


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """An attachment of the template; `content` is base64."""

    filename: str
    content_type: str
    content: str
    content_id: str | None = None


@dataclass(frozen=True, slots=True, weakref_slot=True)
class CompiledTemplate:
    """One template that passed validation. The first variant is the default one."""

    name: str
    namespace: str
    profile: str
    event_types: tuple[str, ...]
    category: str
    variants: tuple[LocaleVariant, ...]
    variables: Mapping[str, Any]
    sender: tuple[str, str] | None = None
    """Name and address."""
    reply_to: str | None = None
    """The Reply-To when it is one bare address without an expression."""
    reply_to_list: tuple[tuple[str, str], ...] = ()
    """The mailboxes of every other Reply-To: name and address, each a template source."""
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[TemplateFile, ...] = ()
    expires_after: float | None = None
    """Seconds."""
    unsubscribe_url: str | None = None
    suspend: bool = False
    revision: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def with_revision(self) -> "CompiledTemplate":
        """The same template with its revision: the first 12 hex digits of the content's SHA-256."""
        content = _without_unset_later_fields(self.to_json())
        del content["revision"], content["suspend"]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return replace(self, revision=sha256(canonical.encode()).hexdigest()[:REVISION_LENGTH])


LATER_FIELDS: tuple[str, ...] = ()
"""Fields that were added after the first release. When unset they do not count for the revision, so that a
new release alone changes no revision.
"""


def _without_unset_later_fields(value: Any) -> Any:
    """JSON values without the unset fields of LATER_FIELDS."""
    if isinstance(value, dict):
        return {
            name: value[name] if name == "variables" else _without_unset_later_fields(value[name])
            for name in value
            if value[name] or name not in LATER_FIELDS
        }
    return [_without_unset_later_fields(each) for each in value] if isinstance(value, list | tuple) else value


def compiled_from_json(value: Mapping[str, Any]) -> CompiledTemplate:
    """Read what `to_json` of this or a later release wrote. Raises KeyError or TypeError for other values."""
    sender = value["sender"]
    for each in (value["name"], value["namespace"], value["revision"], *value["event_types"]):
        if not isinstance(each, str):  # templates are looked up by these; the text may have been edited
            raise TypeError(f"a name is not a text: {each!r}")
    return CompiledTemplate(
        **{
            **_known_fields(CompiledTemplate, value),
            "event_types": tuple(value["event_types"]),
            "variants": tuple(_variant(variant) for variant in value["variants"]),
            "sender": (sender[0], sender[1]) if sender else None,
            "reply_to_list": tuple((name, source) for name, source in value.get("reply_to_list", ())),
            "headers": tuple((name, source) for name, source in value["headers"]),
            "attachments": tuple(
                TemplateFile(**_known_fields(TemplateFile, file)) for file in value["attachments"]
            ),
        }
    )


def _variant(value: Mapping[str, Any]) -> LocaleVariant:
    subjects = tuple(
        WeightedSubject(**_known_fields(WeightedSubject, subject)) for subject in value["subjects"]
    )
    attributes = tuple(value.get("attributes", ()))
    return LocaleVariant(
        **{**_known_fields(LocaleVariant, value), "subjects": subjects, "attributes": attributes}
    )


def _known_fields(part: type[Any], value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in value.items() if name in part.__dataclass_fields__}


def unknown_template_fields(value: Mapping[str, Any]) -> Iterator[str]:
    """Fields of a later release that `compiled_from_json` ignores, such as `variants.amp`."""
    yield from _unknown_fields("", CompiledTemplate, [value])
    yield from _unknown_fields("variants.", LocaleVariant, value["variants"])
    for variant in value["variants"]:
        yield from _unknown_fields("variants.subjects.", WeightedSubject, variant["subjects"])
    yield from _unknown_fields("attachments.", TemplateFile, value["attachments"])


def _unknown_fields(path: str, part: type[Any], values: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for value in values:
        yield from (path + name for name in value if name not in part.__dataclass_fields__)


BUNDLE_FORMAT = "postroom.bundle/1"
BUNDLE_FORMATS = (BUNDLE_FORMAT,)
"""The formats that this release reads. A field that older workers must not ignore needs a new format (0032).
"""
_HEAD = f'{{"format": "{BUNDLE_FORMAT}", "templates": ['
_SEPARATOR = ",\n"
_TAIL = "]}\n"


def pack_bundle(compiled: Iterable[CompiledTemplate]) -> str:
    """Write templates as one JSON text, in order of their names."""
    return join_bundle(bundle_line(template) for template in sorted(compiled, key=lambda each: each.name))


def bundle_line(template: CompiledTemplate) -> str:
    """Write one template as a line of a bundle."""
    return json.dumps(template, ensure_ascii=False, default=_part_fields)


def _part_fields(part: Any) -> dict[str, Any]:
    """Like `asdict`, but without deep copies, which would cost more than the rest of packing."""
    return {each.name: getattr(part, each.name) for each in fields(part)}


def join_bundle(lines: Iterable[str]) -> str:
    """Write a bundle of lines that `bundle_line` wrote."""
    return _HEAD + _SEPARATOR.join(lines) + _TAIL


def line_bytes(text: str) -> int:
    """The bytes of a line in a bundle, with its separator."""
    return len(text.encode()) + len(_SEPARATOR)


FRAME_BYTES = len(_HEAD) + len(_TAIL)
"""The bytes of a bundle without lines."""


def unpack_bundle(text: str) -> list[CompiledTemplate]:
    """Read what `pack_bundle` of this or a later release wrote. Raises Rejected (manifest_invalid)."""
    try:
        # this parser also rejects half a surrogate pair, which could not be encoded again
        value: Any = from_json(text)
        if value["format"] not in BUNDLE_FORMATS:
            known = " and ".join(map(repr, BUNDLE_FORMATS))
            message = f"its format is {str(value['format'])[:80]!r}, and this release reads {known}"
            raise Rejected(Problem(Code.MANIFEST_INVALID, "bundle", message))
        return [compiled_from_json(template) for template in value["templates"]]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        message = f"not a bundle of compiled templates: {type(error).__name__}"
        raise Rejected(Problem(Code.MANIFEST_INVALID, "bundle", message)) from None


def has_unknown_format(text: str) -> bool:
    """Whether the text is a bundle in an unknown format, which another release wrote."""
    try:
        written: Any = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return isinstance(written, str) and written not in BUNDLE_FORMATS


def unknown_bundle_fields(text: str) -> frozenset[str]:
    """Fields of a later release that `unpack_bundle` ignores, such as `variants.amp`."""
    return frozenset(
        name for template in json.loads(text)["templates"] for name in unknown_template_fields(template)
    )


class RevisionChoice:
    """Chooses the revision of each template of one profile: the newest valid one, else the last valid one.

    An invalid edit never replaces a valid revision. Of two templates with the same event type only the first
    may use it, in the order of the calls.
    """

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def choose(
        self, name: str, fresh: CompiledTemplate | None, before: CompiledTemplate | None
    ) -> CompiledTemplate | None:
        """The revision to use: `fresh` if it is given, else `before`.

        None if there is neither, or if another template has one of its event types.
        """
        chosen = fresh or before
        if chosen is None or any(True for _ in self.conflicts(name, chosen)):
            return None
        self._owners.update(dict.fromkeys(chosen.event_types, name))
        return chosen

    def conflicts(self, name: str, compiled: CompiledTemplate) -> Iterator[tuple[int, str, str]]:
        """The event types that another template has: index in the list, event type, name of that template."""
        for index, event_type in enumerate(compiled.event_types):
            owner = self._owners.get(event_type, name)
            if owner != name:
                yield index, event_type, owner
