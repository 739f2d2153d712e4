"""Which placeholders a page has, and the translation of each kind.

A page's own signs decide: each kind has a pattern of what only it writes, and the kind with the most matches
is taken. `--from` names one instead.
"""

import re
from enum import StrEnum

from postroom.local.design_import.embedded import translate_embedded
from postroom.local.design_import.handlebars import translate_go, translate_handlebars
from postroom.local.design_import.jinjalike import translate_django, translate_jinja, translate_liquid
from postroom.local.design_import.tags import (
    translate_dollar,
    translate_merge_tags,
    translate_nothing,
    translate_percent,
    translate_smarty,
    translate_square,
)
from postroom.local.design_import.translation import Note, Translate, Translation, shortened


class Dialect(StrEnum):
    """What a page's placeholders are written in."""

    HANDLEBARS = "handlebars"
    LIQUID = "liquid"
    DJANGO = "django"
    JINJA = "jinja"
    ERB = "erb"
    GO = "go"
    MERGE_TAGS = "merge-tags"
    DOLLAR = "dollar"
    PERCENT = "percent"
    SQUARE = "square"
    SMARTY = "smarty"
    NONE = "none"


TRANSLATORS: dict[Dialect, Translate] = {
    Dialect.HANDLEBARS: translate_handlebars,
    Dialect.LIQUID: translate_liquid,
    Dialect.DJANGO: translate_django,
    Dialect.JINJA: translate_jinja,
    Dialect.ERB: translate_embedded,
    Dialect.GO: translate_go,
    Dialect.MERGE_TAGS: translate_merge_tags,
    Dialect.DOLLAR: translate_dollar,
    Dialect.PERCENT: translate_percent,
    Dialect.SQUARE: translate_square,
    Dialect.SMARTY: translate_smarty,
    Dialect.NONE: translate_nothing,
}
_SIGNS: dict[Dialect, str] = {
    Dialect.HANDLEBARS: r"\{\{~?\s*[#/^>&!]|\{\{\{|\{\{~?\s*else\b|\{\{\s*(?:this|@)"
    r"|\{\{\s*\w+ [\w.\"']+[^|{}]*\}\}",
    Dialect.LIQUID: r"\{%-?\s*(?:assign|unless|capture|case|when|elsif|endunless|render|tablerow)\b"
    r"|forloop\.index"
    r"|\|\s*\w+:\s+[\"'\d]|\|\s*(?:upcase|downcase|money|plus|times|newline_to_br)\b|\bcontains\b[^{}]*%\}",
    Dialect.DJANGO: r"\{%-?\s*(?:url|trans|translate|blocktrans|blocktranslate|load|static|csrf_token"
    r"|empty|ifequal|with \w+=)\b|forloop\.counter"
    r"|\|\s*(?:linebreaksbr|floatformat|intcomma|pluralize|yesno)\b|\|\w+:[\"'\d]",
    Dialect.JINJA: r"\{%-?\s*(?:set|macro|elif)\b|loop\.index|\|\s*\w+\(|\{#.*?#\}",
    Dialect.ERB: r"<%[=#-]?",
    Dialect.GO: r"\{\{-?\s*(?:\.[A-Z_a-z]|\$|range\b|end\b|if \.|if \$|if eq|with \.|var \""
    r"|env \"|template \"|else\s*-?\}\})",
    Dialect.MERGE_TAGS: r"\*\|[A-Z_][^|*\n]*\|\*",
    Dialect.DOLLAR: r"\$\{\s*[A-Za-z_]",
    Dialect.PERCENT: r"%%\s*[A-Za-z_][\w.\- ]*%%",
    Dialect.SQUARE: r"\[\[\s*[A-Za-z_][\w.:\-]*\s*\]\]",
    Dialect.SMARTY: r"\{\$[A-Za-z_]",
}
_BRACES = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)


def detect(source: str) -> Dialect:
    """The dialect that a page is written in."""
    counts = {dialect: len(re.findall(signs, source, re.DOTALL)) for dialect, signs in _SIGNS.items()}
    if counts[Dialect.GO] and re.search(r"\{\{-?\s*(?:end|range \.?|\.[A-Z])", source):
        counts[Dialect.GO] += counts[Dialect.HANDLEBARS]
    best = max(counts, key=lambda dialect: counts[dialect])
    if counts[best]:
        return best
    return Dialect.JINJA if _BRACES.search(source) else Dialect.NONE


def translate(source: str, dialect: Dialect) -> Translation:
    """The page with Jinja in the place of its placeholders; those of another kind are noted."""
    done = TRANSLATORS[dialect](source)
    for other in _UNMISTAKABLE - {dialect}:
        for found in re.finditer(_SIGNS[other], done.text):
            line = done.text.count("\n", 0, found.start()) + 1
            if not _within_braces(done.text, found.start()):
                way_out = f"looks like a placeholder of another kind and was left; try --from {other.value}"
                done.notes.append(Note(line, shortened(found[0]), way_out))
    return done


_UNMISTAKABLE = frozenset((Dialect.ERB, Dialect.MERGE_TAGS, Dialect.PERCENT, Dialect.SQUARE, Dialect.DOLLAR))


def _within_braces(text: str, position: int) -> bool:
    """Whether a position is inside a construct of the template language, such as a comment."""
    opened = max(text.rfind(sign, 0, position) for sign in ("{{", "{%", "{#"))
    closed = max(text.rfind(sign, 0, position) for sign in ("}}", "%}", "#}"))
    return opened > closed
