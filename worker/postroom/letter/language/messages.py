"""Message catalogues in templates: the function `t`, and what a template asks of it.

`{{ t("order.title", name=first_name) }}` gives the text of that key in the letter's language, with `{name}`
filled in. With `count=` the key is one with plural forms: `items_one`, `items_other`, by the CLDR category of
the number in the language of the text; `{count}` prints the number as that language writes it. A text is
escaped in HTML as any value is; that of a key ending in `_html` is the author's markup, in which only the
values are escaped. `default=` is given where no text has the key, for keys made of data.

`Catalogue` is what an edition of a template has; `merged` makes it of several languages, nearest first.
Values that cannot be printed raise `Unsuitable`, which names the placeholder and never the value.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from babel import numbers
from jinja2 import nodes, pass_context
from jinja2.runtime import Context, Undefined
from markupsafe import Markup

from postroom.letter.language.bounds import Unsuitable, bounded_length
from postroom.letter.language.formats import locale_of
from postroom.letter.language.message_text import CATEGORIES, is_markup, pieces_of, plural_base

NAME = "t"
"""What templates call the function."""
VALUE = "#"
"""`t("#name", name=…)` prints a value as a message does: what is left of a call when its message is put into
the page ahead."""
OPTIONS = ("count", "default")
"""Arguments of `t` that are no placeholders of their own; `{count}` prints the count."""
COMMON_COUNTS = range(201)
"""Numbers that letters count to. A category that none of them has needs no form: French `many`, a million."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The texts of one language by key, those of other languages that fill its gaps among them."""

    texts: Mapping[str, str] = field(default_factory=dict)
    foreign: Mapping[str, str] = field(default_factory=dict)
    """The language of each text that another language lends."""

    def forms(self, key: str) -> list[str]:
        """The keys of a plural's forms."""
        return [form for category in CATEGORIES if (form := f"{key}_{category}") in self.texts]


def merged(
    chain: Iterable[tuple[str, str, Mapping[str, str]]], tag: str
) -> tuple[Catalogue, Mapping[str, str]]:
    """The catalogue of a language, and the field of each text; `chain` is (tag, field, texts), nearest first.

    The forms of a plural come from one catalogue: those of another may belong to other numbers.
    """
    texts: dict[str, str] = {}
    foreign: dict[str, str] = {}
    places: dict[str, str] = {}
    language = tag.partition("-")[0].lower()
    for theirs, place, found in chain:
        taken = {base for key in texts if (base := plural_base(key))}
        for key, text in found.items():
            if key not in texts and plural_base(key) not in taken:
                texts[key] = text
                places[key] = f"{place}.{key}"
                if theirs.partition("-")[0].lower() != language:
                    foreign[key] = theirs
    return Catalogue(texts, foreign), places


@pass_context
def translate(context: Context, key: str, /, **values: Any) -> str:
    """The text of a key, filled in. Raises Unsuitable, or what an undefined value does."""
    catalogue: Catalogue = context.parent.get("_messages") or Catalogue()
    spoken: str = context.parent["letter"]["locale"]
    if isinstance(key, str) and key.startswith(VALUE):
        return _value(key.removeprefix(VALUE), values, spoken)
    found = _find(catalogue, key, values, spoken)
    if found is None:
        if "default" in values:
            return _printed(NAME, "default", values)
        raise Unsuitable("`t` is asked for a key that no message has; give it default=")
    tag = catalogue.foreign.get(found, spoken)
    shown = values | {"count": _counted(values["count"], tag)} if "count" in values else values
    markup = is_markup(found)
    escaped: bool = context.eval_ctx.autoescape
    if markup and not escaped:
        raise Unsuitable(f"message `{found}` is markup, and this is a text; use a key without _html")
    text = _filled(found, catalogue.texts[found], shown, markup=markup, escaped=escaped)
    bounded_length(len(text))
    return text


def _value(name: str, values: Mapping[str, Any], tag: str) -> str:
    return _counted(values[name], tag) if name == "count" else _printed(NAME, name, values)


def _find(catalogue: Catalogue, key: str, values: Mapping[str, Any], spoken: str) -> str | None:
    """The key whose text is due, which is a plural form's where a count is given."""
    if "count" in values and (forms := catalogue.forms(key)):
        number = _number(values["count"])
        category = plural_category(catalogue.foreign.get(forms[0], spoken), number)
        wanted = [f"{key}_zero"] if number == 0 else []
        found = next((each for each in (*wanted, f"{key}_{category}", f"{key}_other") if each in forms), None)
        if found:
            return found
    return key if isinstance(key, str) and key in catalogue.texts else None


def _filled(key: str, text: str, values: Mapping[str, Any], *, markup: bool, escaped: bool) -> str:
    parts: list[str] = []
    for written, name in pieces_of(text):
        parts.append(Markup(written) if markup else written)  # noqa: S704  the author's own markup
        if name is not None:
            parts.append(_printed(key, name, values))
    if markup or (escaped and any(isinstance(part, Markup) for part in parts)):
        return Markup("").join(parts)  # escapes what is no markup
    return "".join(parts)


def _printed(key: str, name: str, values: Mapping[str, Any]) -> str:
    if name not in values:
        raise Unsuitable(f"message `{key}` needs {name}=")
    value = values[name]
    if isinstance(value, Undefined):
        return str(value)  # raises, with its name
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Unsuitable(f"`{{{name}}}` of message `{key}` gets a value that is no text and no number")


def _number(count: Any) -> int | float:
    if isinstance(count, Undefined):
        str(count)  # raises, with its name
    if isinstance(count, int | float) and not isinstance(count, bool):
        return int(count) if isinstance(count, float) and count.is_integer() else count
    raise Unsuitable("`count` of `t` needs a number")


def _counted(count: Any, tag: str) -> str:
    return numbers.format_decimal(_number(count), locale=locale_of(tag))


def plural_category(tag: str, number: float) -> str:
    """The CLDR category of a number in a language."""
    return locale_of(tag).plural_form(abs(number))


@lru_cache(maxsize=256)
def needed_categories(tag: str) -> tuple[str, ...]:
    """The categories that whole numbers of everyday size have in a language; `other` always."""
    found = {plural_category(tag, number) for number in COMMON_COUNTS} | {"other"}
    return tuple(category for category in CATEGORIES if category in found)


# --- what a template asks ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MessageCall:
    """One `t(…)` of a template."""

    key: str | None
    """None: it is made of data."""
    given: frozenset[str]
    """The names of the arguments; with `**` among them more may come."""
    is_open: bool
    """Whether further arguments come by `**`."""
    line: int
    has_key: bool = True
    """Whether there is a first argument at all."""

    def keys(self, catalogue: Catalogue) -> list[str]:
        """The keys of the texts that it may give: several for a plural."""
        if self.key is None:
            return []
        forms = catalogue.forms(self.key) if "count" in self.given or self.is_open else []
        return forms or ([self.key] if self.key in catalogue.texts else [])


def calls_in(tree: nodes.Template) -> Iterator[MessageCall]:
    """Every call of `t`. What a template calls `t` itself is none of these."""
    if any(each.name == NAME and each.ctx != "load" for each in tree.find_all(nodes.Name)):
        return
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == NAME:
            first = call.args[0] if call.args else None
            key = first.value if isinstance(first, nodes.Const) and isinstance(first.value, str) else None
            given = frozenset(each.key for each in call.kwargs)
            has_key = bool(call.args) or call.dyn_args is not None
            yield MessageCall(key, given, call.dyn_kwargs is not None, call.lineno, has_key)


def can_yield_markup(tree: nodes.Template) -> bool:
    """Whether a `t(…)` in a template may give elements: its key ends in `_html`, or is made of data.

    Styles and text that are computed ahead cannot know such elements.
    """
    return any(call.key is None or call.key.endswith("_html") for call in calls_in(tree))


_CALL_ALONE = re.compile(r"\{\{\s*t\(\s*(?:\"[^\"]*\"|'[^']*')\s*(?:,(.*))?\)\s*\}\}", re.DOTALL)


def put_in(piece: str, tree: nodes.Template, catalogue: Catalogue) -> str | None:
    """The markup that `{{ t("note_html", …) }}` stands for, as template source; None where it is not known.

    `piece` is the expression as it is written, `tree` its syntax tree. Values stay expressions.
    """
    body = tree.body[0].nodes if len(tree.body) == 1 and isinstance(tree.body[0], nodes.Output) else []
    written = _CALL_ALONE.fullmatch(piece)
    if written is None or len(body) != 1 or not isinstance(body[0], nodes.Call):
        return None
    call = next(calls_in(tree), None)
    if call is None or call.key is None or call.keys(catalogue) != [call.key] or not is_markup(call.key):
        return None
    pieces = pieces_of(catalogue.texts[call.key])
    lends_number = call.key in catalogue.foreign and any(name == "count" for _, name in pieces)
    if lends_number or any("{" in text for text, _ in pieces):
        return None
    given = (written.group(1) or "").strip()
    return "".join(text + (f'{{{{ t("{VALUE}{name}", {given}) }}}}' if name else "") for text, name in pieces)
