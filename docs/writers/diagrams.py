"""Diagrams as SVG from their text sources in docs/diagrams/*.toml.

A source has `title`, `description`, `size` and lists of `group`, `box`, `arrow` and `note`. Positions are
pixels; `at` is the upper left corner. An arrow goes from a side of a box to a side of another
("claim:right", "send:left"; "claim:right+20" is 20 pixels below or right of the middle) and bends at its
`via` points. Colours follow the reader's light or dark setting. Errors: a text that is wider than its box,
boxes that overlap or leave the picture, and an arrow to an unknown box.
"""

import tomllib
from html import escape
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

CHARACTER = {"label": 7.4, "small": 6.1}
"""The width of a character in pixels, an upper bound of the average for the font sizes below."""
STYLE = """
.d{--paper:#ffffff;--ink:#1f2328;--soft:#59636e;--line:#8c959f;--group:#f6f8fa;--box:#ffffff;--store:#ddf4ff;
--storeline:#54aeff;--good:#dafbe1;--goodline:#4ac26b;--bad:#ffebe9;--badline:#ff8182;
--warn:#fff8c5;--warnline:#d4a72c;
font-family:system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}
@media (prefers-color-scheme:dark){.d{--paper:#0d1117;--ink:#e6edf3;--soft:#9198a1;--line:#6e7681;
--group:#151b23;--box:#1c2330;--store:#0c2d4d;--storeline:#388bfd;--good:#12301d;--goodline:#2ea043;
--bad:#3c1618;--badline:#da3633;--warn:#332a0b;--warnline:#9e6a03}}
.p{fill:var(--paper)}.g{fill:var(--group);stroke:var(--line);stroke-dasharray:4 3}
.b{fill:var(--box);stroke:var(--line)}.store{fill:var(--store);stroke:var(--storeline)}.good{fill:var(--good);stroke:var(--goodline)}
.bad{fill:var(--bad);stroke:var(--badline)}.warn{fill:var(--warn);stroke:var(--warnline)}
.l{font-size:13px;font-weight:600;fill:var(--ink)}.s{font-size:11px;fill:var(--soft)}
.a{fill:none;stroke:var(--line);stroke-width:1.4}.h{fill:var(--line)}.dash{stroke-dasharray:5 4}
.e{font-size:11px;fill:var(--soft);stroke:var(--paper);stroke-width:5px;paint-order:stroke;stroke-linejoin:round}
"""


def diagram(source: Path) -> str:
    """The SVG of one text source."""
    spec = tomllib.loads(source.read_text())
    width, height = spec["size"]
    boxes = {box["id"]: box for box in [*spec.get("box", []), *spec.get("group", [])]}
    _check_places(spec.get("box", []), width, height)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="d" viewBox="0 0 {width} {height}"',
        f'width="{width}" height="{height}" role="img" aria-labelledby="t d">',
        f'<title id="t">{escape(spec["title"])}</title><desc id="d">{escape(spec["description"])}</desc>',
        f"<style>{STYLE}</style>",
        '<defs><marker id="m" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"',
        'orient="auto-start-reverse"><path class="h" d="M0 0L8 4L0 8z"/></marker></defs>',
        f'<rect class="p" width="{width}" height="{height}" rx="8"/>',
        *(_group(group) for group in spec.get("group", [])),
        *(_arrow(arrow, boxes) for arrow in spec.get("arrow", [])),
        *(_box(box) for box in spec.get("box", [])),
        *(_arrow_label(arrow, boxes) for arrow in spec.get("arrow", []) if arrow.get("label")),
        *(_text("s", note["at"][0], note["at"][1], note["text"], "start") for note in spec.get("note", [])),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _check_places(boxes: list[dict[str, Any]], width: int, height: int) -> None:
    """Raise ValueError where a box leaves the picture or two boxes overlap."""
    for box in boxes:
        (x, y), (w, h) = box["at"], box["size"]
        if x < 0 or y < 0 or x + w > width or y + h > height:
            raise ValueError(f"box {box['id']} leaves the picture")
    for first, second in combinations(boxes, 2):
        (x1, y1), (w1, h1) = first["at"], first["size"]
        (x2, y2), (w2, h2) = second["at"], second["size"]
        if x1 < x2 + w2 and x2 < x1 + w1 and y1 < y2 + h2 and y2 < y1 + h1:
            raise ValueError(f"boxes {first['id']} and {second['id']} overlap")


def _group(group: dict[str, Any]) -> str:
    (x, y), (width, height) = group["at"], group["size"]
    return f'<rect class="g" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>' + _text(
        "s", x + 10, y + 17, group["text"], "start"
    )


def _box(box: dict[str, Any]) -> str:
    """A box with its label and the lines of its note in the middle."""
    (x, y), (width, height) = box["at"], box["size"]
    lines = [("l", box["text"])] + [("s", line) for line in box.get("note", "").splitlines()]
    for font, line in lines:
        needed = len(line) * CHARACTER["label" if font == "l" else "small"]
        if needed > width - 8:
            raise ValueError(f'box {box["id"]}: "{line}" needs {needed:.0f} pixels of {width - 8}')
    top = y + height / 2 - 15 * (len(lines) - 1) / 2 + 4.5
    kind = box.get("kind", "b")
    shapes = [f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>']
    shapes += [
        _text(font, x + width / 2, top + 15 * row, line, "middle") for row, (font, line) in enumerate(lines)
    ]
    return "".join(shapes)


def _points(arrow: dict[str, Any], boxes: dict[str, dict[str, Any]]) -> list[tuple[float, float]]:
    via = [(float(x), float(y)) for x, y in arrow.get("via", [])]
    return [_anchor(arrow["from"], boxes), *via, _anchor(arrow["to"], boxes)]


def _anchor(place: str, boxes: dict[str, dict[str, Any]]) -> tuple[float, float]:
    """The point on a box's side; "+20" and "-20" move it along that side."""
    name, _, side = place.partition(":")
    side, sign, offset = side.partition("+") if "+" in side else side.partition("-")
    shift = float(sign + offset) if offset else 0.0
    if name not in boxes:
        raise ValueError(f"an arrow leads to the unknown box {name}")
    (x, y), (width, height) = boxes[name]["at"], boxes[name]["size"]
    return {
        "left": (x, y + height / 2 + shift),
        "right": (x + width, y + height / 2 + shift),
        "top": (x + width / 2 + shift, y),
        "bottom": (x + width / 2 + shift, y + height),
    }[side]


def _arrow(arrow: dict[str, Any], boxes: dict[str, dict[str, Any]]) -> str:
    path = "L".join(f"{x:g} {y:g}" for x, y in _points(arrow, boxes))
    style = "a dash" if arrow.get("dashed") else "a"
    both = ' marker-start="url(#m)"' if arrow.get("both") else ""
    return f'<path class="{style}" d="M{path}"{both} marker-end="url(#m)"/>'


def _arrow_label(arrow: dict[str, Any], boxes: dict[str, dict[str, Any]]) -> str:
    """The label at `label_at`, or in the middle of the arrow's longest part."""
    if "label_at" in arrow:
        x, y = arrow["label_at"]
        return _text("e", x, y, arrow["label"], "middle")
    points = _points(arrow, boxes)
    (x1, y1), (x2, y2) = max(pairwise(points), key=_length)
    return _text("e", (x1 + x2) / 2, (y1 + y2) / 2 - 6, arrow["label"], "middle")


def _length(part: tuple[tuple[float, float], tuple[float, float]]) -> float:
    (x1, y1), (x2, y2) = part
    return abs(x1 - x2) + abs(y1 - y2)


def _text(kind: str, x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
