"""`{#` in CSS: minified rules such as `@media print{#main{…}}`, which Jinja would read as a comment.

In the content of a `<style>` element, `{#` begins an id selector when a character of an identifier follows
and the next of `{`, `}` and `<` comes before any `#}`. `hide` puts MARK between the two characters, so that
Jinja's lexer reads text there; `show` takes it out of the lexer's text again. Lines and bytes stay the same.
"""

import re

MARK = "\ufdd0"
"""A noncharacter of Unicode (Corrigendum 9): for internal use, and in no text that is exchanged."""
_STYLE = re.compile(r"(<style\b[^<>]*>)(.*?)(?=</style\b|\Z)", re.DOTALL | re.IGNORECASE)
_ID_SELECTOR = re.compile(r"\{#(?=[\w\\-](?:(?!#\})[^{}<])*[{}<])")
_CONSTRUCT = re.compile(r"\{\{|\{%|\{#")


def hide(source: str) -> str:
    """The source with MARK in each `{#` that is CSS."""
    if "{#" not in source or "<style" not in source.lower():
        return source
    return _STYLE.sub(lambda found: found[1] + _ID_SELECTOR.sub(f"{{{MARK}#", found[2]), source)


def show(text: str) -> str:
    """The text without MARK."""
    return text.replace(f"{{{MARK}#", "{#")


def first_construct(css: str) -> int | None:
    """Where the first `{{`, `{%` or Jinja comment of a style sheet begins, if there is one."""
    found = _CONSTRUCT.search(_ID_SELECTOR.sub(f"{{{MARK}#", css))
    return found.start() if found else None
