"""A template's html and its layout → one flat source.

The layout names holes, `{% block NAME %}…{% endblock %}`, and the template fills them; a template without
blocks fills `content`. `{{ super() }}` in a filled block is the layout's own text. `{% include "NAME" %}`
is replaced by the layout's partial of that name. All of this happens on source at compile time, so that a
worker reads one flat template and a name in a template can never become a file. A template without a
layout that is not a whole page gets a plain one. The preview line stands first in the body.

What is wrong raises Rejected with the field and line.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from postroom.letter.html.document import body_starts, is_whole_page
from postroom.letter.language.pieces import Piece, Source, join, split
from postroom.letter.problems import Code, Problem, Rejected, advance_position, did_you_mean
from postroom.letter.references import layout_field
from postroom.letter.template import EmailLayout, EmailLayoutSpec, PartialSpec, TemplateMetadata

MAX_DEPTH = 8
MAX_PIECES = 50_000

PLAIN = """<!doctype html>
<html lang="{{ letter.locale }}" dir="{{ letter.direction }}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ letter.subject }}</title>
</head>
<body>
{% block content %}{% endblock %}
</body>
</html>
"""
PREHEADER = (
    '<div style="display:none;max-height:0;overflow:hidden;mso-hide:all">{{ letter.preheader }}'
    + "&#847;&#8199;" * 24
    + "</div>"
)
"""The preview line; the invisible tail keeps the body's first words out of the preview."""
OWN_PREHEADER = re.compile(r"""\bletter\s*(?:\.\s*preheader\b|\[\s*["']preheader["']\s*\])""")
SUPER = re.compile(r"\{\{[-+]?\s*super\s*\(\s*\)\s*[-+]?\}\}\s*")
SUPER_CALL = re.compile(r"\bsuper\s*\(")

Pieces = Sequence[Piece]


def flatten(
    html: str, field: str, layout: EmailLayout | None, *, preheader: bool = False, plain: bool = True
) -> Source:
    """Fill the layout with `html`. Raises Rejected with every broken rule.

    With `plain`, html that has no layout and is no whole page gets a plain page around it.
    """
    partials = layout_partials(layout)
    body = expand(split(html, field), partials)
    page = _page(html, layout) if plain or layout else None
    if page is None:
        if any(piece.opens("block") for piece in body):
            raise Rejected(
                Problem(Code.LAYOUT_NOT_FOUND, field, "html has blocks and no layoutRef to fill with them")
            )
        filled: Pieces = body
    else:
        filled = _fill(expand(page, partials), _blocks_of(body, field), field)
    return join(_with_preheader(filled) if preheader else filled)


def place_preheader(page: Source) -> Source:
    """A whole page with its preview line, each line where it was."""
    return Source(join(_with_preheader(split(page.text, "spec.html"))).text, page.origin)


def layout_alone(layout: EmailLayout) -> Source:
    """The layout with its partials and the blocks' own contents, to be read by itself."""
    page = split(layout.spec.html, f"{layout_field(layout.metadata.name)}.html")
    return join(_filled(expand(page, layout_partials(layout)), {}))


def stand_in(name: str, sources: Iterable[tuple[str, str]]) -> EmailLayout:
    """For a layout that is not here: every block and partial that a template asks for, and nothing in them.

    `sources` are (html, field). Raises Rejected (template_syntax).
    """
    pieces = [piece for html, field in sources for piece in split(html, field) if len(piece.words) > 1]
    names = (piece.words[1] for piece in pieces if piece.opens("block"))
    blocks = dict.fromkeys(["content", *(name for name in names if name.isidentifier())])
    partials = dict.fromkeys(piece.words[1] for piece in pieces if piece.opens("include"))
    spec = EmailLayoutSpec.model_construct(  # as large as the template asks, so not held to a layout's limits
        html="".join(f"{{% block {block} %}}{{% endblock %}}" for block in blocks),
        partials=[PartialSpec.model_construct(name=partial, html="") for partial in partials],
    )
    return EmailLayout.model_construct(metadata=TemplateMetadata(name=name), spec=spec)


def layout_partials(layout: EmailLayout | None) -> Mapping[str, Sequence[Piece]]:
    """The layout's partials, taken apart."""
    if layout is None:
        return {}
    place = f"{layout_field(layout.metadata.name)}.partials"
    partials = enumerate(layout.spec.partials)
    return {partial.name: split(partial.html, f"{place}[{index}].html") for index, partial in partials}


def _page(html: str, layout: EmailLayout | None) -> Sequence[Piece] | None:
    if layout is not None:
        return split(layout.spec.html, f"{layout_field(layout.metadata.name)}.html")
    return None if is_whole_page(split(html, "spec.html")) else split(PLAIN, "spec.html")


def expand(pieces: Iterable[Piece], partials: Mapping[str, Sequence[Piece]], depth: int = 0) -> list[Piece]:
    """Put partials in the place of their includes."""
    out: list[Piece] = []
    for piece in pieces:
        if not piece.opens("include"):
            out.append(piece)
        else:
            out += expand(_partial(piece, partials, depth), partials, depth + 1)
        if len(out) > MAX_PIECES:
            raise Rejected(Problem(Code.TOO_LARGE, piece.field, "the included text is too large", piece.line))
    return out


def _partial(piece: Piece, partials: Mapping[str, Sequence[Piece]], depth: int) -> Sequence[Piece]:
    name = piece.words[1] if len(piece.words) == 2 else ""
    if name not in partials:
        known = did_you_mean(name, partials) if partials else "; there are none without a layoutRef"
        message = f"`{name or piece.text}` is not among the layout's partials{known}"
        raise Rejected(Problem(Code.PARTIAL_NOT_FOUND, piece.field, message, piece.line))
    if depth >= MAX_DEPTH:
        message = f"partial `{name}` is included more than {MAX_DEPTH} levels deep, perhaps by itself"
        raise Rejected(Problem(Code.TEMPLATE_UNSAFE, piece.field, message, piece.line))
    return partials[name]


def block_end(pieces: Pieces, start: int) -> int:
    """The index of the `endblock` that closes the block at `start`."""
    depth = 0
    opened = pieces[start]
    if len(opened.words) < 2:
        raise _misplaced(opened, f"`{opened.text}` needs a name: `{{% block content %}}`")
    for index in range(start, len(pieces)):
        if pieces[index].opens("block"):
            depth += 1
        elif pieces[index].opens("endblock"):
            depth -= 1
            if depth == 0:
                _check_end(opened, pieces[index])
                return index
    raise _misplaced(opened, f"{opened.text} has no endblock")


def _check_end(opened: Piece, end: Piece) -> None:
    if len(end.words) > 1 and end.words[1] != opened.words[1]:
        raise _misplaced(
            end, f"`{end.text}` ends the block `{opened.words[1]}`; name it, or leave the name out"
        )


def _misplaced(piece: Piece, message: str) -> Rejected:
    return Rejected(Problem(Code.TEMPLATE_SYNTAX, piece.field, message, piece.line))


@dataclass(frozen=True, slots=True)
class _Block:
    """What a template fills a block with."""

    pieces: Pieces
    line: int | None = None


def _blocks_of(body: Pieces, field: str) -> dict[str, _Block]:
    if not any(piece.opens("block") for piece in body):
        return {"content": _Block(body)}
    blocks: dict[str, _Block] = {}
    index = 0
    while index < len(body):
        piece = body[index]
        if piece.opens("block"):
            end = block_end(body, index)
            name = piece.words[1]
            if name in blocks:
                raise _misplaced(piece, f"block `{name}` is filled twice; only one of them could be sent")
            blocks[name] = _Block(body[index + 1 : end], piece.line)
            index = end
        elif piece.text.strip():
            message = "this stands outside the blocks and would be lost; move it into a block"
            raise Rejected(Problem(Code.TEMPLATE_SYNTAX, field, message, _words_of(piece)))
        index += 1
    return blocks


def _words_of(piece: Piece) -> int:
    """Where the first word of a piece stands."""
    words = piece.text.lstrip()
    return advance_position(piece.line, piece.text[: len(piece.text) - len(words)])


def _fill(page: Pieces, blocks: Mapping[str, _Block], field: str) -> list[Piece]:
    holes = {piece.words[1] for piece in page if piece.opens("block") and len(piece.words) > 1}
    strangers = [name for name in blocks if name not in holes]
    if strangers:
        raise Rejected(
            *(
                Problem(
                    Code.BLOCK_NOT_FOUND,
                    field,
                    f"the layout has no block `{name}`{did_you_mean(name, holes)}",
                    blocks[name].line,
                )
                for name in strangers
            )
        )
    return _filled(page, blocks)


def _filled(page: Pieces, blocks: Mapping[str, _Block]) -> list[Piece]:
    out: list[Piece] = []
    index = 0
    while index < len(page):
        piece = page[index]
        if piece.opens("block"):
            end = block_end(page, index)
            default = _filled(page[index + 1 : end], blocks)
            name = piece.words[1]
            out += _with_default(blocks[name].pieces, default) if name in blocks else default
            index = end
        else:
            out.append(piece)
        index += 1
    return out


def _with_default(block: Pieces, default: list[Piece]) -> list[Piece]:
    out: list[Piece] = []
    for piece in block:
        if piece.kind == "variable" and SUPER.fullmatch(piece.text):
            out += default
        elif piece.kind in ("block", "variable") and SUPER_CALL.search(piece.text):
            message = f"`{piece.text}`: write `{{{{ super() }}}}` alone; it stands for the layout's source"
            raise _misplaced(piece, message)
        else:
            out.append(piece)
    return out


def _with_preheader(pieces: Pieces) -> list[Piece]:
    """The page with the preview line first in its body, unless the page has it somewhere already."""
    if any(piece.kind != "data" and OWN_PREHEADER.search(piece.text) for piece in pieces):
        return list(pieces)
    out = list(pieces)
    for index, offset in reversed(body_starts(pieces)):
        piece = pieces[index] if index < len(pieces) else pieces[-1]
        added = split(PREHEADER, piece.field)
        if not offset:
            out[index:index] = added
            continue
        before, after = piece.text[:offset], piece.text[offset:]
        out[index : index + 1] = [
            Piece("data", before, piece.field, piece.line),
            *added,
            Piece("data", after, piece.field, advance_position(piece.line, before)),
        ]
    return out
