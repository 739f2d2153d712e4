"""Extract text, links and one-time codes from a captured letter, for end-to-end tests and for the search.

All regular expressions have bounded reach, so that the time for a hostile letter grows with its length only.
"""

import re
from bisect import bisect
from dataclasses import dataclass
from html import unescape

from postroom.sandbox.mime import ParsedLetter

MAX_LINKS = 200
MAX_CODES = 10
MAX_TEXT = 400_000
MAX_PLAIN_TEXT = 200_000

_TAG = re.compile(r"<!--|<(/?)([a-zA-Z][a-zA-Z0-9]{0,20})[^<>]{0,5000}>|<[!?][^<>]{0,5000}>")
_HIDDEN_TAGS = frozenset({"style", "script", "title"})
_BLOCK_TAGS = frozenset({"br", "p", "div", "tr", "td", "li", "table", "h1", "h2", "h3", "h4", "h5", "h6"})
_ANCHOR = re.compile(
    r"""(?is)<a\b[^<>]{0,2000}?\bhref\s*=\s*(?:"([^"]{0,4000})"|'([^']{0,4000})'|([^\s<>"']{1,4000}))[^<>]{0,2000}>(.{0,600}?)</a"""
)
_PLAIN_URL = re.compile(r"https?://[^\s<>\"'\u00a0]{1,2000}")
_CODE = re.compile(
    r"(?<![\w/.=&#-])(\d{4,8}|\d{3}[ \u00a0-]\d{3}|[A-Z0-9]{3,5}-[A-Z0-9]{3,5})(?![\w/=&-]|[.,]\d)"
)
_CODE_WORDS = re.compile(
    r"(?i)code|\bpin\b|\botp\b|one-time|einmal|verif|código|codice|kód|код|コード|验证码|驗證碼|인증|رمز"
)
_YEAR = re.compile(r"(?:19|20)\d\d")
_MAX_DISTANCE = 120
_ADJACENT = 15


def plain_text(letter: ParsedLetter) -> str:
    """The text that a reader sees: the text part, or the HTML without its markup."""
    text = letter.first("text/plain")
    if text is not None:
        return text.text()[:MAX_PLAIN_TEXT]
    html = letter.first("text/html")
    return strip_markup(html.text()[:MAX_PLAIN_TEXT]) if html is not None else ""


def strip_markup(html: str) -> str:
    """The approximate visible text of HTML, for searching and for finding codes; not safe to show as HTML.

    A single pass over the tags, so that an unclosed tag takes no longer than a closed tag.
    """
    visible, position, hidden_tag = list[str](), 0, ""
    while tag := _TAG.search(html, position):
        name = (tag.group(2) or "").lower()
        if not hidden_tag:
            visible.append(html[position : tag.start()])
        if tag.group() == "<!--":
            end = html.find("-->", tag.end())
            position = len(html) if end < 0 else end + 3
            continue
        if hidden_tag:
            hidden_tag = "" if tag.group(1) and name == hidden_tag else hidden_tag
        elif name in _HIDDEN_TAGS and not tag.group(1):
            hidden_tag = name
        elif name in _BLOCK_TAGS:
            visible.append("\n")
        position = tag.end()
    return unescape("".join(visible) + ("" if hidden_tag else html[position:]))


@dataclass(frozen=True, slots=True)
class Link:
    """A link of a letter: its URL and its text."""

    url: str
    text: str


def extract_links(letter: ParsedLetter) -> list[Link]:
    """The links of the HTML part, then those that only the text part has, in order and without repeats."""
    found: dict[str, str] = {}
    html, text = letter.first("text/html"), letter.first("text/plain")
    if html is not None:
        for double, single, bare, label in _ANCHOR.findall(html.text()[:MAX_TEXT]):
            url = unescape(double or single or bare).strip()
            if url and not url.startswith("#"):
                found.setdefault(url, " ".join(strip_markup(label).split()))
    if text is not None:
        for url in _PLAIN_URL.findall(text.text()[:MAX_TEXT]):
            found.setdefault(url.rstrip(".,;:!?)]"), "")
    return [Link(url, label) for url, label in list(found.items())[:MAX_LINKS]]


def one_time_codes(letter: ParsedLetter, subject: str) -> list[str]:
    """One-time codes, the most likely first: numbers near a word such as "code" or "PIN"."""
    text = f"{subject}\n{plain_text(letter)[:MAX_TEXT]}"
    keywords = [match.start() for match in _CODE_WORDS.finditer(text)]
    found: dict[str, int] = {}
    for match in _CODE.finditer(text):
        code = re.sub(r"[ \u00a0]", "", match.group(1))
        distance = _distance(keywords, match.start())
        if _YEAR.fullmatch(code) and distance > _ADJACENT:
            continue
        if distance <= _MAX_DISTANCE and any(c.isdigit() for c in code):
            found[code] = min(found.get(code, distance), distance)
    # If a number follows its keyword closely, a number farther away is an order number or a date.
    limit = max(3 * min(found.values(), default=0), 2 * _ADJACENT)
    return sorted((code for code in found if found[code] <= limit), key=lambda code: found[code])[:MAX_CODES]


def _distance(positions: list[int], position: int) -> int:
    """The distance to the nearest of the sorted positions."""
    right = bisect(positions, position)
    nearby = positions[max(right - 1, 0) : right + 1]
    return min((abs(position - other) for other in nearby), default=_MAX_DISTANCE + 1)
