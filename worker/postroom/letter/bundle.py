"""A template as workers get it: flat source with CSS inlined, schema, headers. JSON in, JSON out.

Nothing of it is code: a worker compiles the source in the same sandbox as the proof did. `revision` is a
hash of all the rest, so that the same manifest gives the same revision on every machine.

The bundle: a profile's compiled templates as JSON text, written by the control plane, read by workers.

Never pickle, never generated code. One bundle may be spread over several shards. A text that is not
a bundle is refused whole. `loaded` makes live templates of it.

Which revision of each template serves: the newest that passed, else the last good one.

One rule for both halves: the operator asks it about the templates of a cluster, `postroom up` about those of
a folder. A bad edit never takes down what was good; but of two templates with one event type only one can
serve it, and the first that asked has it.
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
"""How a part comes about: written by hand, derived once from source, or derived after each rendering.

Bundles of older releases say `reduced` of a text that is the html's source, reduced to what the text part is
read from; and `source` of one in another form, which is no longer read.
"""


@dataclass(frozen=True, slots=True)
class WeightedSubject:
    """One subject and its share of the recipients."""

    source: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class LocaleVariant:
    """The template in one language, complete."""

    tag: str
    subjects: tuple[WeightedSubject, ...]
    preheader: str | None
    html: str
    text: str | None
    inline: PartOrigin
    """`source`: the CSS is in `html` already. `render`: `css` is inlined after rendering."""
    text_way: PartOrigin
    css: str = ""
    attributes: tuple[str, ...] = ()
    """HTML attributes to be written from CSS where it is inlined after rendering."""
    keep_styles: bool = False
    """Whether `<style>` elements keep the rules that are inlined after rendering."""
    messages: Mapping[str, str] = field(default_factory=dict)
    """The texts that `t(…)` gives, by key."""
    foreign_messages: Mapping[str, str] = field(default_factory=dict)
    """The language of each text that another language lends."""


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """An attachment of the template; `content` is base64."""

    filename: str
    content_type: str
    content: str
    content_id: str | None = None


@dataclass(frozen=True, slots=True, weakref_slot=True)
class CompiledTemplate:
    """One template that passed its proof. The first edition is the default one."""

    name: str
    namespace: str
    profile: str
    event_types: tuple[str, ...]
    category: str
    editions: tuple[LocaleVariant, ...]
    variables: Mapping[str, Any]
    sender: tuple[str, str] | None = None
    """Name and address."""
    reply_to: str | None = None
    """The first address of the template's Reply-To when it is known; all that an earlier release reads."""
    reply_to_list: tuple[tuple[str, str], ...] = ()
    """All mailboxes of the Reply-To, name and address, each a template source; empty: `reply_to` alone."""
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
        """The same with its revision: the first 12 hex digits of the content's SHA-256."""
        content = _without_unset_later_fields(self.to_json())
        del content["revision"], content["suspend"]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return replace(self, revision=sha256(canonical.encode()).hexdigest()[:REVISION_LENGTH])


LATER_FIELDS = ("attributes", "content_id", "foreign_messages", "keep_styles", "messages", "reply_to_list")
"""Fields that came later. Unset they are no part of a revision, so that a release changes none by itself."""


def _without_unset_later_fields(value: Any) -> Any:
    """JSON values without the fields of ADDED that are not set."""
    if isinstance(value, dict):
        return {
            name: value[name] if name == "variables" else _without_unset_later_fields(value[name])
            for name in value
            if value[name] or name not in LATER_FIELDS
        }
    return [_without_unset_later_fields(each) for each in value] if isinstance(value, list | tuple) else value


def compiled_from_json(value: Mapping[str, Any]) -> CompiledTemplate:
    """Read what `to_json` wrote, of this release or a later one; raises KeyError or TypeError otherwise."""
    sender = value["sender"]
    for each in (value["name"], value["namespace"], value["revision"], *value["event_types"]):
        if not isinstance(each, str):  # what templates are found by, whoever edited the text
            raise TypeError(f"a name is no text: {each!r}")
    return CompiledTemplate(
        **{
            **_known_fields(CompiledTemplate, value),
            "event_types": tuple(value["event_types"]),
            "editions": tuple(_variant(edition) for edition in value["editions"]),
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
    """What `from_json` leaves out, as `editions.amp`: fields of a later release."""
    yield from _unknown_fields("", CompiledTemplate, [value])
    yield from _unknown_fields("editions.", LocaleVariant, value["editions"])
    for edition in value["editions"]:
        yield from _unknown_fields("editions.subjects.", WeightedSubject, edition["subjects"])
    yield from _unknown_fields("attachments.", TemplateFile, value["attachments"])


def _unknown_fields(path: str, part: type[Any], values: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for value in values:
        yield from (path + name for name in value if name not in part.__dataclass_fields__)


BUNDLE_FORMAT = "postroom.bundle/1"
BUNDLE_FORMAT_WITH_MESSAGES = "postroom.bundle/2"
"""The format of a bundle with messages: a worker without them could render none of its letters (0032)."""
BUNDLE_FORMATS = (BUNDLE_FORMAT, BUNDLE_FORMAT_WITH_MESSAGES)
_SEPARATOR, _TAIL = ",\n", "]}\n"
_HAS_MESSAGES = '"messages": {"'
"""In no text of a template's, where JSON puts a backslash before the quotes."""


def pack_bundle(compiled: Iterable[CompiledTemplate]) -> str:
    """The templates as one JSON text, in order of their names."""
    return join_bundle(bundle_line(template) for template in sorted(compiled, key=lambda each: each.name))


def bundle_line(template: CompiledTemplate) -> str:
    """One template as it stands in a bundle, on a line of its own."""
    return json.dumps(template, ensure_ascii=False, default=_part_fields)


def _part_fields(part: Any) -> dict[str, Any]:
    """As `asdict`, without its deep copies, which would cost more than all the rest of packing."""
    return {each.name: getattr(part, each.name) for each in fields(part)}


def join_bundle(lines: Iterable[str]) -> str:
    """A bundle of what `line` wrote."""
    body = _SEPARATOR.join(lines)
    return _head(BUNDLE_FORMAT_WITH_MESSAGES if _HAS_MESSAGES in body else BUNDLE_FORMAT) + body + _TAIL


def _head(form: str) -> str:
    return f'{{"format": "{form}", "templates": ['


def line_bytes(text: str) -> int:
    """The bytes that a line takes in a bundle, with what parts it from its neighbours."""
    return len(text.encode()) + len(_SEPARATOR)


FRAME_BYTES = len(_head(BUNDLE_FORMAT)) + len(_TAIL)
"""The bytes of a bundle without its lines."""


def unpack_bundle(text: str) -> list[CompiledTemplate]:
    """Read what `pack` wrote, of this release or a later one. Raises Rejected (manifest_invalid)."""
    try:
        # refuses half a surrogate pair as well: nobody could write what was read with one in it
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
    """Whether it is a bundle, and `unpack` refuses it for its format: another release wrote it."""
    try:
        written: Any = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return isinstance(written, str) and written not in BUNDLE_FORMATS


def unknown_bundle_fields(text: str) -> frozenset[str]:
    """What `unpack` leaves out of a bundle that it reads, as `editions.amp`: fields of a later release."""
    return frozenset(
        name for template in json.loads(text)["templates"] for name in unknown_template_fields(template)
    )


class RevisionChoice:
    """The templates of one profile, asked about one after the other."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def choose(
        self, name: str, fresh: CompiledTemplate | None, before: CompiledTemplate | None
    ) -> CompiledTemplate | None:
        """What serves of this template: `fresh` where there is one, else `before`; None where another has one
        of its event types.
        """
        chosen = fresh or before
        if chosen is None or any(True for _ in self.conflicts(name, chosen)):
            return None
        self._owners.update(dict.fromkeys(chosen.event_types, name))
        return chosen

    def conflicts(self, name: str, compiled: CompiledTemplate) -> Iterator[tuple[int, str, str]]:
        """The event types that another template has: place in the list, name, and who has it."""
        for index, event_type in enumerate(compiled.event_types):
            owner = self._owners.get(event_type, name)
            if owner != name:
                yield index, event_type, owner
