"""What an end-to-end test wants out of a letter: its links and its one-time codes.

Both are read with expressions of bounded reach, so that a hostile letter costs no more than its length.
"""

import re
from bisect import bisect
from dataclasses import dataclass
from html import unescape

from postroom.sandbox.fts_index import plain_text, strip_markup
from postroom.sandbox.mime import ParsedLetter

MAX_LINKS = 200
MAX_CODES = 10
MAX_TEXT = 400_000

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


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the letter carries it: where it leads, and the words it is put on."""

    url: str
    text: str


def extract_links(letter: ParsedLetter) -> list[Link]:
    """The links of the HTML part, then those that only the text part has; each once, in order."""
    found: dict[str, str] = {}
    html, text = letter.first("text/html"), letter.first("text/plain")
    if html is not None:
        for double, single, bare, words in _ANCHOR.findall(html.text()[:MAX_TEXT]):
            url = unescape(double or single or bare).strip()
            if url and not url.startswith("#"):
                found.setdefault(url, " ".join(strip_markup(words).split()))
    if text is not None:
        for url in _PLAIN_URL.findall(text.text()[:MAX_TEXT]):
            found.setdefault(url.rstrip(".,;:!?)]"), "")
    return [Link(url, words) for url, words in list(found.items())[:MAX_LINKS]]


def one_time_codes(letter: ParsedLetter, subject: str) -> list[str]:
    """One-time codes, the likeliest first: they stand near a word such as "code" or "PIN"."""
    text = f"{subject}\n{plain_text(letter)[:MAX_TEXT]}"
    about = [match.start() for match in _CODE_WORDS.finditer(text)]
    found: dict[str, int] = {}
    for match in _CODE.finditer(text):
        code = re.sub(r"[ \u00a0]", "", match.group(1))
        near = _distance(about, match.start())
        if _YEAR.fullmatch(code) and near > _ADJACENT:
            continue
        if near <= _MAX_DISTANCE and any(c.isdigit() for c in code):
            found[code] = min(found.get(code, near), near)
    # Beside a number that follows its word at once, one at some distance is an order or a date.
    limit = max(3 * min(found.values(), default=0), 2 * _ADJACENT)
    return sorted((code for code in found if found[code] <= limit), key=lambda code: found[code])[:MAX_CODES]


def _distance(places: list[int], place: int) -> int:
    """How far the nearest of the sorted places is."""
    right = bisect(places, place)
    return min(
        (abs(place - near) for near in places[max(right - 1, 0) : right + 1]), default=_MAX_DISTANCE + 1
    )
