"""A letter's HTML as a frame of the studio shows it.

Input: the HTML that is sent, how it is to be seen (light, dark as its author wrote it, dark as clients
make it), with or without images. Output: HTML for an `<iframe sandbox>` under `POLICY`. Nothing is fetched:
an image of another server becomes a drawn placeholder of the same size, or its alt text.

The inversion is a simulation of what the Gmail apps and Outlook.com do to letters without a dark design:
light backgrounds become dark, dark text becomes light, hues and images stay. Each client does it its own
way, and so no simulation is exact.
"""

import colorsys
import re
from base64 import b64encode
from collections.abc import Iterable
from html import escape, unescape
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from postroom.letter.event import Attachment
from postroom.letter.mime.compose import placed_content_id
from postroom.sandbox.untrusted_content import IMAGE_TYPES, with_color_scheme

Scheme = Literal["light", "dark", "inverted"]

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
SCROLLBAR = "<style>html { scrollbar-width: thin; scrollbar-color: #8a929b transparent }</style>"
"""In the page's frame: a browser's own bar would be a white strip beside a dark letter."""
NIGHT = "<style>html { background: #1b1b1b; color: #e6e6e6 } a { color: #8ab4f8 }</style>"
"""What a client in dark mode puts under a letter; its own rules come later and win."""
INBOX_CHARACTERS = 160
WIDEST = 2000
UNSIZED = (240, 120)

_TAG = r"(?:[^>\"']|\"[^\"]*\"|'[^']*')*>"
_MARKUP = re.compile(rf"(?is)<!--.*?-->|<(style|script|title)\b.*?</\1\s*>|</?[a-zA-Z!]{_TAG}")
_FILLERS = dict.fromkeys(map(ord, "\u00ad\u034f\u200b\u200c\u200d\u2007\ufeff"), " ")
"""Characters that fill an inbox's line so that no other text shows in it."""
_IMAGE = re.compile(rf"<img\b{_TAG}", re.IGNORECASE)
_START = re.compile(rf"<[a-zA-Z]{_TAG}")
_VALUE = r"""\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))"""
_SOURCE = re.compile(rf"(?<=[\s\"'/])(src|srcset){_VALUE}", re.IGNORECASE)
_STYLE = re.compile(rf"(?<=[\s\"'/])style{_VALUE}", re.IGNORECASE)
_PAINT = re.compile(rf"(?<=[\s\"'/])(bgcolor|color|text){_VALUE}", re.IGNORECASE)
_SHEET = re.compile(r"(<style\b[^>]*>)(.*?)(</style)", re.IGNORECASE | re.DOTALL)
_BEHIND = re.compile(r"(<(?:!doctype[^>]*|html\b[^>]*|head\b[^>]*)>)", re.IGNORECASE)
_DECLARATION = re.compile(
    r"(?<![\w-])(color|background(?:-color)?|border(?:-[a-z]+)*|fill)(\s*:\s*)([^;{}]+)", re.IGNORECASE
)
_COLOUR = re.compile(
    r"#[0-9a-f]{3,8}\b|rgba?\([^()]*\)|hsla?\([^()]*\)|(?<![\w#.-])(?:[a-z]+)(?![\w(.-])", re.IGNORECASE
)
_ADDRESS = re.compile(r"url\([^)]*\)", re.IGNORECASE)

NAMED = {
    "white": "#ffffff", "black": "#000000", "gray": "#808080", "grey": "#808080", "silver": "#c0c0c0",
    "red": "#ff0000", "maroon": "#800000", "green": "#008000", "lime": "#00ff00", "blue": "#0000ff",
    "navy": "#000080", "teal": "#008080", "aqua": "#00ffff", "purple": "#800080", "fuchsia": "#ff00ff",
    "yellow": "#ffff00", "olive": "#808000", "orange": "#ffa500", "whitesmoke": "#f5f5f5",
    "gainsboro": "#dcdcdc", "lightgray": "#d3d3d3", "lightgrey": "#d3d3d3", "darkgray": "#a9a9a9",
    "darkgrey": "#a9a9a9", "dimgray": "#696969", "dimgrey": "#696969", "ivory": "#fffff0",
    "beige": "#f5f5dc", "linen": "#faf0e6", "snow": "#fffafa", "ghostwhite": "#f8f8ff",
    "aliceblue": "#f0f8ff", "midnightblue": "#191970", "darkblue": "#00008b", "darkgreen": "#006400",
    "darkred": "#8b0000", "crimson": "#dc143c", "tomato": "#ff6347", "gold": "#ffd700",
    "indigo": "#4b0082", "steelblue": "#4682b4", "slategray": "#708090", "slategrey": "#708090",
}  # fmt: skip
"""The names of colours that letters use; a name that is not here is left as it is."""


def frame_html(html: str, scheme: Scheme, attachments: Iterable[Attachment] = (), *, images: bool) -> str:
    """The HTML for a frame."""
    shown = _with_images(html, list(attachments)) if images else _IMAGE.sub(_without_source, html)
    shown = with_color_scheme(shown, dark=scheme == "dark")
    if scheme == "inverted":
        shown = _first_in_head(invert(shown), NIGHT)
    return shown + SCROLLBAR


def remote_images(html: str) -> int:
    """How many images a client would fetch."""
    found = (_attribute(_SOURCE, tag) for tag in _IMAGE.findall(html))
    return sum(urlsplit(address).scheme in ("http", "https") for address in found if address)


def inbox_line(html: str) -> str:
    """What an inbox shows after the subject: the first words of the page, hidden ones too."""
    words = unescape(_MARKUP.sub(" ", html)).translate(_FILLERS)
    return " ".join(words.split())[:INBOX_CHARACTERS]


# ---------- images


def _with_images(html: str, attachments: list[Attachment]) -> str:
    def shown(match: re.Match[str]) -> str:
        tag = match.group(0)
        return _SOURCE.sub(lambda found: _shown_source(found, tag, attachments), tag)

    return _IMAGE.sub(shown, html)


def _shown_source(found: re.Match[str], tag: str, attachments: list[Attachment]) -> str:
    name, address = found.group(1), unescape(_matched(found, 2)).strip()
    if name.lower() == "srcset":
        return f'data-{name}=""'
    if address.lower().startswith("data:"):
        return found.group(0)
    own = _attached(address, attachments)
    return f'{name}="{escape(own or _placeholder(address, tag))}"'


def _attached(address: str, attachments: list[Attachment]) -> str:
    if not address.lower().startswith("cid:"):
        return ""
    wanted = frozenset((unquote(address[4:]),))
    for each in attachments:
        kind = each.content_type.partition(";")[0].strip().lower()
        if placed_content_id(each, wanted) in wanted and kind in IMAGE_TYPES:
            return f"data:{kind};base64,{b64encode(each.content).decode()}"
    return ""


def _placeholder(address: str, tag: str) -> str:
    """A drawing of the image's size with its name on it."""
    width, height = _size("width", tag) or UNSIZED[0], _size("height", tag) or 0
    height = height or min(UNSIZED[1], width)
    name = urlsplit(address).path.rpartition("/")[2][:40] or address[:40]
    words = ""
    if width >= 60 and height >= 24:
        words = (
            f'<text x="50%" y="50%" dy="4" text-anchor="middle" font-family="sans-serif" font-size="11" '
            f'fill="#5c636e">{escape(name)}</text>'
        )
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
        f'<rect width="100%" height="100%" fill="#e8e5dd"/>'
        f'<path d="M0 0L{width} {height}M{width} 0L0 {height}" stroke="#d3cebf"/>{words}</svg>'
    )
    return f"data:image/svg+xml,{quote(drawing)}"


def _size(name: str, tag: str) -> int:
    found = re.search(rf"\s{name}\s*=\s*[\"']?\s*(\d{{1,4}})(?!\d*%)", tag, re.IGNORECASE)
    return min(int(found[1]), WIDEST) if found else 0


def _without_source(match: re.Match[str]) -> str:
    return _SOURCE.sub(lambda found: f'data-off-{found.group(1)}=""', match.group(0))


def _attribute(pattern: re.Pattern[str], tag: str) -> str:
    found = pattern.search(tag)
    return unescape(_matched(found, 2)).strip() if found else ""


def _matched(found: re.Match[str], first: int) -> str:
    return next((found.group(n) for n in range(first, first + 3) if found.group(n) is not None), "")


# ---------- dark as clients make it


def invert(html: str) -> str:
    """Light backgrounds made dark and dark text made light, in style blocks and in attributes."""
    html = _SHEET.sub(lambda sheet: sheet[1] + invert_css(sheet[2]) + sheet[3], html)
    return _START.sub(lambda tag: _inverted_tag(tag.group(0)), html)


def invert_css(css: str) -> str:
    """The same for a style sheet or the value of a style attribute."""
    return _DECLARATION.sub(lambda each: each[1] + each[2] + _inverted_value(each[1].lower(), each[3]), css)


def _inverted_tag(tag: str) -> str:
    def style(found: re.Match[str]) -> str:
        return f'style="{escape(invert_css(unescape(_matched(found, 1))))}"'

    def paint(found: re.Match[str]) -> str:
        name = found.group(1).lower()
        value = _matched(found, 2)
        return f'{name}="{escape(_inverted(value, behind=name == "bgcolor") or value)}"'

    return _PAINT.sub(paint, _STYLE.sub(style, tag))


def _inverted_value(name: str, value: str) -> str:
    behind = name.startswith("background")
    line = name.startswith("border")
    parts = _ADDRESS.split(value)
    kept = _ADDRESS.findall(value)
    done = [
        _COLOUR.sub(lambda colour: _inverted(colour[0], behind=behind or line) or colour[0], part)
        for part in parts
    ]
    return "".join(part + address for part, address in zip(done, [*kept, ""], strict=True))


def _inverted(text: str, *, behind: bool) -> str:
    """The colour with its lightness turned where a dark client would turn it; empty for what is no colour."""
    found = _channels(text)
    if found is None:
        return ""
    red, green, blue, alpha = found
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    if behind and light > 0.55:
        light = 0.10 + (1 - light) * 0.6
    elif not behind and light < 0.6:
        light = 0.92 - light * 0.5
    red, green, blue = (round(each * 255) for each in colorsys.hls_to_rgb(hue, light, saturation))
    solid = f"#{red:02x}{green:02x}{blue:02x}"
    return solid if alpha is None else f"rgba({red}, {green}, {blue}, {alpha})"


def _channels(text: str) -> tuple[float, float, float, str | None] | None:
    """Red, green and blue from 0 to 1, and the alpha as it is written."""
    word = NAMED.get(text.lower(), text.lower())
    if word.startswith("#"):
        digits = word[1:]
        if len(digits) in (3, 4):
            digits = "".join(each * 2 for each in digits)
        if len(digits) not in (6, 8) or not re.fullmatch(r"[0-9a-f]+", digits):
            return None
        red, green, blue = (int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))
        return red, green, blue, f"{int(digits[6:], 16) / 255:.2f}" if len(digits) == 8 else None
    numbers = re.findall(r"[\d.]+%?", word)
    if not word.startswith(("rgb", "hsl")) or len(numbers) < 3:
        return None
    alpha = numbers[3] if len(numbers) > 3 else None
    try:
        if word.startswith("rgb"):
            red, green, blue = (min(_part(each, 255), 1.0) for each in numbers[:3])
        else:
            hue, saturation, light = (
                float(numbers[0].rstrip("%")) / 360,
                _part(numbers[1], 100),
                _part(numbers[2], 100),
            )
            red, green, blue = colorsys.hls_to_rgb(hue % 1, min(light, 1.0), min(saturation, 1.0))
    except ValueError:
        return None
    return red, green, blue, alpha


def _part(text: str, whole: float) -> float:
    return float(text[:-1]) / 100 if text.endswith("%") else float(text) / whole


def _first_in_head(html: str, addition: str) -> str:
    """Put a style block before those of the letter, behind its doctype, html and head tags."""
    last = None
    for last in _BEHIND.finditer(html):  # noqa: B007 - the last one is used below
        pass
    place = last.end() if last else 0
    return html[:place] + addition + html[place:]
