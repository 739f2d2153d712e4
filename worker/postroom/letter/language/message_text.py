"""Message texts as catalogues hold them: their placeholders, their keys, their plural forms.

A text is plain but for `{name}`, which `t("key", name=…)` fills in; `{{` and `}}` are a brace each. A key
ending in `_html` holds markup. Plural forms are keys of their own, `items_one`, `items_other`: the CLDR
category behind the key that templates use. Each rule is a function from the text to the sentence that says
what is wrong, or None.
"""

import re
from functools import lru_cache

MESSAGES = 500
MESSAGE_CHARACTERS = 4096
CATEGORIES = ("zero", "one", "two", "few", "many", "other")
"""The plural categories of CLDR (UTS 35)."""
MARKUP = "_html"

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,119}")
_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]{0,63})\}|[{}]")
_MARKUP = re.compile(r"""\{([A-Za-z_]\w*)\}|</?[A-Za-z]|[>"']""")
_DOUBLE = re.compile(r"\{\{\s*([A-Za-z_][\w.]*)\s*\}\}")
_ICU = re.compile(r"\{\s*\w+\s*,\s*(?:plural|select|selectordinal|number|date|time)\b")

Pieces = tuple[tuple[str, str | None], ...]
"""Text, and the placeholder behind it."""


def key_rule(key: str) -> str | None:
    """The rule that a key breaks, or None."""
    if _KEY.fullmatch(key):
        return None
    return (
        "is not a message key; up to 120 letters, digits and . _ - beginning with a letter, like order.title"
    )


def message_rule(text: str, *, markup: bool = False) -> str | None:
    """The rule that a message text breaks, or None; `markup` of a text that holds some."""
    if double := _DOUBLE.search(text):
        name = double.group(1).replace(".", "_")
        return f"has `{double.group()}`; a placeholder has one brace on each side: {{{name}}}"
    if _ICU.search(text):
        return (
            "has a plural or a format in ICU's form; write plurals as keys that end in _one, _other, and "
            "give formatted values to t(…)"
        )
    for found in _TOKEN.finditer(text):
        if found.group() in ("{", "}"):
            part = text[found.start() : found.start() + 20]
            return (
                f"has a single brace at `{part}`; write {{name}} for a placeholder, {{{{ or }}}} for a brace"
            )
    if markup and (name := _unquoted(text)):
        return f"has {{{name}}} in a tag without quotes; a space in the value would begin another attribute"
    return None


def _unquoted(text: str) -> str | None:
    """The first placeholder that stands in a tag and not in an attribute's quotes."""
    state = ""
    for found in _MARKUP.finditer(text):
        sign = found.group()
        if found.group(1) and state == "<":
            return found.group(1)
        if not state and sign.startswith("<"):
            state = "<"
        elif state == "<" and sign in (">", '"', "'"):
            state = "" if sign == ">" else sign
        elif state == sign:
            state = "<"
    return None


@lru_cache(maxsize=4096)
def pieces_of(text: str) -> Pieces:
    """A text taken apart at its placeholders."""
    found: list[tuple[str, str | None]] = []
    held, position = "", 0
    for token in _TOKEN.finditer(text):
        held += text[position : token.start()]
        position = token.end()
        if token.group(1):
            found.append((held, token.group(1)))
            held = ""
        else:
            held += token.group()[0]
    return (*found, (held + text[position:], None))


def placeholders(text: str) -> frozenset[str]:
    """The names of a text's placeholders."""
    return frozenset(name for _, name in pieces_of(text) if name)


def plural_base(key: str) -> str | None:
    """`items` of `items_one`; None of a key that is no plural form."""
    base, _, category = key.rpartition("_")
    return base if base and category in CATEGORIES else None


def is_markup(key: str) -> bool:
    """Whether a key's text is markup: it, or the key it is a plural form of, ends in `_html`."""
    return (plural_base(key) or key).endswith(MARKUP)
