"""Which attachments a letter shows in place: what `cid:` in its HTML refers to (RFC 2392).

A rendered page and the letter's attachments in; out, the parts that travel beside the HTML with a Content-ID,
the files, and the references that lead nowhere. A part with a content ID of its own is always shown in place.
An image without one is, when the page names it by its file name: `cid:logo.png`. Everything else is a
file. Docs: docs/decisions/0040.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import unescape
from urllib.parse import unquote

from postroom.letter.event import Attachment
from postroom.letter.reading.attachment import content_id_rule, read_content_type

_REFERENCE = re.compile(r"""(?i)["'=(,]\s*cid:([^\s"'<>()\\,;]{1,300})""")
"""In an attribute, quoted or not, in `url(…)`, and behind the comma of a srcset."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A letter's attachments by where they travel."""

    inline: tuple[tuple[str, Attachment], ...]
    """Content ID and part."""
    files: tuple[Attachment, ...]


def references(html: str) -> tuple[str, ...]:
    """The content IDs that a page refers to, each once, in order, as Content-ID would spell them."""
    if "cid:" not in html.lower():
        return ()
    found = _REFERENCE.findall(unescape(html))
    return tuple(dict.fromkeys(unquote(each) for each in found))


def arrange(html: str, attachments: Iterable[Attachment]) -> Arrangement:
    """Where each attachment of a letter travels."""
    files = tuple(attachments)
    wanted = frozenset(references(html)) if files else frozenset[str]()
    named = {id(file): name for file in files if (name := content_id_of(file, wanted))}
    return Arrangement(
        tuple((named[id(file)], file) for file in files if id(file) in named),
        tuple(file for file in files if id(file) not in named),
    )


def content_id_of(file: Attachment, wanted: frozenset[str]) -> str | None:
    """The Content-ID that an attachment travels under when the page refers to `wanted`; None: as a file."""
    if file.content_id:
        return file.content_id
    return file.filename if file.filename in wanted and can_be_named(file) else None


def can_be_named(file: Attachment) -> bool:
    """Whether `cid:` may name it by its file name: it is an image, and the name needs no escape."""
    is_image = read_content_type(file.content_type).media_type.startswith("image/")
    return is_image and content_id_rule(file.filename) is None
