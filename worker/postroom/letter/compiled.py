"""A template as workers get it: flat source with CSS inlined, schema, headers. JSON in, JSON out.

Nothing of it is code: a worker compiles the source in the same sandbox as the proof did. `revision` is a
hash of all the rest, so that the same manifest gives the same revision on every machine.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal

REVISION_LENGTH = 12

Way = Literal["given", "source", "render"]
"""How a part comes about: written by hand, derived once from source, or derived after each rendering.

Bundles of older releases say `reduced` of a text that is the html's source, reduced to what the text part is
read from; and `source` of one in another form, which is no longer read.
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject and its share of the recipients."""

    source: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Edition:
    """The template in one language, complete."""

    tag: str
    subjects: tuple[Subject, ...]
    preheader: str | None
    html: str
    text: str | None
    inline: Way
    """`source`: the CSS is in `html` already. `render`: `css` is inlined after rendering."""
    text_way: Way
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
class File:
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
    editions: tuple[Edition, ...]
    variables: Mapping[str, Any]
    sender: tuple[str, str] | None = None
    """Name and address."""
    reply_to: str | None = None
    """The first address of the template's Reply-To when it is known; all that an earlier release reads."""
    reply_to_list: tuple[tuple[str, str], ...] = ()
    """All mailboxes of the Reply-To, name and address, each a template source; empty: `reply_to` alone."""
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[File, ...] = ()
    expires_after: float | None = None
    """Seconds."""
    unsubscribe_url: str | None = None
    suspend: bool = False
    revision: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def sealed(self) -> "CompiledTemplate":
        """The same with its revision: the first 12 hex digits of the content's SHA-256."""
        content = _as_first_released(self.to_json())
        del content["revision"], content["suspend"]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return replace(self, revision=sha256(canonical.encode()).hexdigest()[:REVISION_LENGTH])


ADDED = ("attributes", "content_id", "foreign_messages", "keep_styles", "messages", "reply_to_list")
"""Fields that came later. Unset they are no part of a revision, so that a release changes none by itself."""


def _as_first_released(value: Any) -> Any:
    """JSON values without the fields of ADDED that are not set."""
    if isinstance(value, dict):
        return {
            name: value[name] if name == "variables" else _as_first_released(value[name])
            for name in value
            if value[name] or name not in ADDED
        }
    return [_as_first_released(each) for each in value] if isinstance(value, list | tuple) else value


def from_json(value: Mapping[str, Any]) -> CompiledTemplate:
    """Read what `to_json` wrote, of this release or a later one; raises KeyError or TypeError otherwise."""
    sender = value["sender"]
    for each in (value["name"], value["namespace"], value["revision"], *value["event_types"]):
        if not isinstance(each, str):  # what templates are found by, whoever edited the text
            raise TypeError(f"a name is no text: {each!r}")
    return CompiledTemplate(
        **{
            **_known(CompiledTemplate, value),
            "event_types": tuple(value["event_types"]),
            "editions": tuple(_edition(edition) for edition in value["editions"]),
            "sender": (sender[0], sender[1]) if sender else None,
            "reply_to_list": tuple((name, source) for name, source in value.get("reply_to_list", ())),
            "headers": tuple((name, source) for name, source in value["headers"]),
            "attachments": tuple(File(**_known(File, file)) for file in value["attachments"]),
        }
    )


def _edition(value: Mapping[str, Any]) -> Edition:
    subjects = tuple(Subject(**_known(Subject, subject)) for subject in value["subjects"])
    attributes = tuple(value.get("attributes", ()))
    return Edition(**{**_known(Edition, value), "subjects": subjects, "attributes": attributes})


def _known(part: type[Any], value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in value.items() if name in part.__dataclass_fields__}


def unknown_in(value: Mapping[str, Any]) -> Iterator[str]:
    """What `from_json` leaves out, as `editions.amp`: fields of a later release."""
    yield from _unknown("", CompiledTemplate, [value])
    yield from _unknown("editions.", Edition, value["editions"])
    for edition in value["editions"]:
        yield from _unknown("editions.subjects.", Subject, edition["subjects"])
    yield from _unknown("attachments.", File, value["attachments"])


def _unknown(path: str, part: type[Any], values: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for value in values:
        yield from (path + name for name in value if name not in part.__dataclass_fields__)
