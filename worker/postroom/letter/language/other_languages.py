"""What other template languages write, and how it is written here.

`constructs` looks at a source that does not compile and gives a problem for each tag that Handlebars,
Mustache, Liquid, Django, Twig, Go or JavaScript would write so, with the Jinja form. `placeholders` finds
what stands in the text and would be sent as it is (`${name}`, `*|NAME|*`): warnings, since a page may show
such text. `name_message`, `attribute_message` and `filter_message` explain single words. Pure text in,
problems and sentences out; nothing is translated in place.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice

from postroom.letter.problems import Code, Problem, Severity

MOST = 20
"""Constructs that are shown of one source; what follows is of the same language."""
_TAG = re.compile(
    r"\{#.*?(?:#\}|\Z)"
    r"|\{%-?\s*raw\s*-?%\}.*?(?:\{%-?\s*endraw\s*-?%\}|\Z)"
    r"|\{\{\{?(?:(?!\{\{).)*?\}\}\}?"
    r"|\{%(?:(?!\{%).)*?%\}",
    re.DOTALL,
)
"""Linear: what is not closed runs to the end, or ends where the next of its kind begins."""
LONGEST = 500
"""Characters of a tag that is compared with those of other languages."""
_STRING = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", re.DOTALL)
_PATH = r"[A-Za-z_][\w.]*"

Say = Callable[[tuple[str, ...]], str]
"""What to write instead, of the groups of a pattern."""


def _use(form: str, note: str = "") -> Say:
    """A message with the Jinja form, in which `<1>` is the first group."""

    def say(groups: tuple[str, ...]) -> str:
        shown = form
        for number, group in enumerate(groups, 1):
            shown = shown.replace(f"<{number}>", group.strip())
        return f"write `{shown}`{note}"

    return say


def _say(sentence: str) -> Say:
    return lambda _: sentence


def _include_with(groups: tuple[str, ...]) -> str:
    """Django writes `with a=1`, Twig `with {a: 1}`."""
    name, given = groups
    if given.startswith("{"):
        given = re.sub(r"""["']?(\w+)["']?\s*:\s*""", r"\1=", given.strip("{} "))
    return f"write `{{% with {given} %}}{{% include {name} %}}{{% endwith %}}`"


_ENDS = {"if": "endif", "unless": "endif", "each": "endfor", "with": "endwith"}

OUTPUT: tuple[tuple[str, Say], ...] = (
    (r"^\{\{\{\s*(.*?)\s*\}\}\}", _use("{{ <1> }}", "; values are always escaped")),
    (r"^\{\{~?\s*#\s*if\s+(.*?)~?\}\}", _use("{% if <1> %}")),
    (r"^\{\{~?\s*#\s*unless\s+(.*?)~?\}\}", _use("{% if not <1> %}")),
    (r"^\{\{~?\s*#\s*each\s+([\w.]+)\s+as\s+\|(\w+).*?\}\}", _use("{% for <2> in <1> %}")),
    (r"^\{\{~?\s*#\s*each\s+(?:this\.)?(.*?)~?\}\}", _use("{% for item in <1> %}")),
    (r"^\{\{~?\s*#\s*with\s+(.*?)~?\}\}", _use("{% with item = <1> %}")),
    (r"^\{\{~?\s*#\s*([\w.]+).*?\}\}", _use("{% if <1> %}", " or `{% for item in … %}`")),
    (r"^\{\{~?\s*\^\s*([\w.]+).*?\}\}", _use("{% if not <1> %}")),
    (r"^\{\{~?\s*/\s*(\w+).*?\}\}", lambda groups: f"write `{{% {_ENDS.get(groups[0], 'endif')} %}}`"),
    (r"^\{\{~?\s*else\s+if\s+(.*?)~?\}\}", _use("{% elif <1> %}")),
    (r"^\{\{~?\s*else\s*~?\}\}", _use("{% else %}")),
    (r"^\{\{~?\s*&\s*(.*?)\}\}", _use("{{ <1> }}", "; values are always escaped")),
    (r"^\{\{~?\s*>\s*([\w./-]+).*?\}\}", _use('{% include "<1>" %}')),
    (r"^\{\{~?!(?:--)?\s*(\w.*?)(?:--)?~?\}\}", _use("{# <1> #}")),
    (r"^\{\{~?\s*@index\s*~?\}\}", _use("{{ loop.index0 }}")),
    (r"^\{\{~?\s*@(first|last)\s*~?\}\}", _use("{{ loop.<1> }}", " in an `if`")),
    (r"^\{\{~?\s*@key\s*~?\}\}", _use("{% for key, value in x.items() %}")),
    (r"^\{\{~?\s*(?:\.\./)+(.*?)~?\}\}", _use("{{ <1> }}", "; names outside a loop are there inside it")),
    (r"^\{\{-?\s*if\s+\.?(.*?)-?\}\}", _use("{% if <1> %}")),
    (r"^\{\{-?\s*range\s+\.?([\w.]+).*?-?\}\}", _use("{% for item in <1> %}")),
    (
        r"^\{\{-?\s*(?:end|template|define|block|with)\b[^|]*?-?\}\}",
        _say("write a tag such as `{% endif %}`"),
    ),
    (r"^\{\{-?\s*\.\s*-?\}\}", _use("{{ item }}", " with the name that the loop gives")),
    (r"^\{\{-?\s*\.([A-Za-z]\S*)\s*-?\}\}", _use("{{ <1> }}")),
    (r"\{\{\s*~|~\s*\}\}", _use("{{- x -}}", " to take white space away")),
)
"""What stands in `{{ … }}` as a whole."""
TAGS: dict[str, str] = {
    "assign": "{% set name = value %}",
    "autoescape": "",
    "blocktrans": "",
    "blocktranslate": "",
    "break": "{% for item in items[:3] %}` or `{% for item in items if … %}",
    "capture": "{% set name %}…{% endset %}",
    "case": "{% if x == … %}…{% elif … %}",
    "comment": "{# … #}",
    "continue": "{% for item in items if … %}",
    "csrf_token": "",
    "cycle": '{{ loop.cycle("a", "b") }}',
    "decrement": "{% set n = n - 1 %}",
    "do": "{% set name = value %}",
    "elseif": "{% elif … %}",
    "elsif": "{% elif … %}",
    "embed": '{% include "name" %}',
    "empty": "{% else %}",
    "endcapture": "{% endset %}",
    "endcase": "{% endif %}",
    "endcomment": "#}",
    "endeach": "{% endfor %}",
    "endforeach": "{% endfor %}",
    "endifequal": "{% endif %}",
    "endunless": "{% endif %}",
    "endverbatim": "{% endraw %}",
    "endspaceless": "",
    "end": "{% endif %}` or `{% endfor %}",
    "firstof": "{{ a or b }}",
    "foreach": "{% for item in items %}",
    "ifchanged": "{% if loop.changed(x) %}",
    "ifequal": "{% if a == b %}",
    "ifnotequal": "{% if a != b %}",
    "increment": "{% set n = n + 1 %}",
    "layout": "layoutRef",
    "load": "",
    "now": "{{ letter.time|date }}",
    "plural": "",
    "pluralize": "",
    "regroup": '{% for group in items|groupby("name") %}',
    "render": '{% include "name" %}',
    "spaceless": "{%- … -%}",
    "static": "",
    "switch": "{% if x == … %}…{% elif … %}",
    "tablerow": "{% for row in items|batch(3) %}",
    "templatetag": "{% raw %}…{% endraw %}",
    "trans": "",
    "translate": "",
    "unless": "{% if not … %}",
    "url": "",
    "use": '{% include "name" %}',
    "verbatim": "{% raw %}",
    "when": "{% elif x == … %}",
    "widthratio": "{{ a / b * c }}",
}
"""Tags of Django, Liquid and Twig, and the Jinja form of each; where there is none, `REASONS` says why."""
_TRANSLATED = 'the text of each language stands in `messages` or `locales`: `{{ t("key") }}`'
REASONS: dict[str, str] = {
    "autoescape": "escaping is always on",
    "blocktrans": _TRANSLATED,
    "blocktranslate": _TRANSLATED,
    "csrf_token": "a letter has no form to protect",
    "endspaceless": "`-` in a tag takes white space away: `{%- … -%}`",
    "load": "there is nothing to load; remove it",
    "plural": '`{{ n|plural(one="item", other="items") }}` chooses a form',
    "pluralize": '`{{ n|plural(one="item", other="items") }}` chooses a form',
    "static": "write the whole address of the file, https://…",
    "trans": _TRANSLATED,
    "translate": _TRANSLATED,
    "url": "write the whole address, https://…, or take it from the event's data",
}
_DASH = r"^\{%-?\s*"
STATEMENTS: tuple[tuple[str, Say], ...] = (
    (_DASH + r"else\s+if\b\s*(.*?)\s*-?%\}", _use("{% elif <1> %}")),
    (_DASH + r"(if|elif)\s+([\w.]+)\s*=\s*([^=].*?)\s*-?%\}", _use("{% <1> <2> == <3> %}")),
    (
        _DASH + r"include\s+(.+?)\s+with\s+(.*?)\s*-?%\}",
        _include_with,
    ),
    (_DASH + r"include\s+(.+?)\s+(?:only|ignore\s+missing)\s*-?%\}", _use("{% include <1> %}")),
    (_DASH + r"for\s+(\w+)\s+of\s+(.*?)\s*-?%\}", _use("{% for <1> in <2> %}")),
    (
        _DASH + r"for\s*\(\s*(?:var|let|const)?\s*(\w+)\s+(?:in|of)\s+(.*?)\)\s*-?%\}",
        _use("{% for <1> in <2> %}"),
    ),
)
"""What stands in `{% … %}` as a whole."""
OPERATORS: tuple[tuple[str, Say], ...] = (
    (r"&&", _say("write `and` for `&&`")),
    (r"\|\|", _say("write `or` for `||`")),
    (r"!==", _say("write `!=` for `!==`")),
    (r"===", _say("write `==` for `===`")),
    (r"<>", _say("write `!=` for `<>`")),
    (r"\?\?", _say("write `or` for `??`, or `|default(…)`")),
    (r"\?\.", _say("write `.` for `?.`: what is missing is false in a test")),
    (r"([\w.]+)\s*\?\s*([^:?]+?)\s*:\s*(.+?)\s*-?[%}]\}", _use("<2> if <1> else <3>")),
    (rf"!\s*({_PATH})", _use("not <1>")),
    (rf"\$({_PATH})", _use("<1>")),
    (r"->", _say("write `.` for `->`")),
    (r"=>", _say("write a loop or a filter for `=>`; there are no functions of a line")),
    (r"\+\+", _say("write `{% set n = n + 1 %}` for `++`")),
    (r"\|\s*(\w+)\s*:\s*([^|%}]*?)\s*(?=[|%}])", _use("|<1>(<2>)", " with the argument in brackets")),
)
"""What stands inside of a tag."""
_HELPER = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)\s+([\w.]+)(?:\s+[^|]*?)?\s*-?\}\}")
_WORDS = frozenset(("if", "else", "and", "or", "not", "in", "is"))


def constructs(source: str, field: str, line: int) -> Iterator[Problem]:
    """Each tag of another language; of tags that are Jinja too, only that at `line`, where reading failed."""
    shown = 0
    counted, number = 0, 1
    for tag in _TAG.finditer(source):
        if tag[0].startswith("{#") or len(tag[0]) > LONGEST or "raw" in tag[0][:12]:
            continue
        number += source.count("\n", counted, tag.start())
        counted = tag.start()
        last = number + tag[0].count("\n")
        message = _foreign(tag[0], failed=number <= line <= last)
        if message and shown < MOST:
            shown += 1
            column = tag.start() - source.rfind("\n", 0, tag.start())
            length = len(tag[0].partition("\n")[0])
            rule = f"`{_short(tag[0])}` is not Jinja: {message}"
            yield Problem(Code.TEMPLATE_SYNTAX, field, rule, number, column, length)


def _short(tag: str) -> str:
    text = " ".join(tag.split())
    return text if len(text) <= 60 else text[:57] + "…"


def _foreign(tag: str, *, failed: bool) -> str:
    """How a tag is written in Jinja, when it is of another language; else nothing."""
    word = re.match(r"\{%-?\s*(\w+)", tag)
    if word and word[1] in TAGS:
        name = word[1]
        return REASONS[name] if name in REASONS else f"write `{TAGS[name]}`"
    bare = _STRING.sub(lambda found: found[0][0] + "·" * (len(found[0]) - 2) + found[0][0], tag)
    for pattern, say in (*(OUTPUT if tag.startswith("{{") else STATEMENTS), *OPERATORS):
        if found := re.search(pattern, bare, re.DOTALL):
            return say(tuple(tag[start:end] for start, end in found.regs[1:]))
    helper = failed and _HELPER.fullmatch(tag)
    if helper and not {helper[1], helper[2]} & _WORDS:
        return f"write `{{{{ {helper[2]}|{helper[1]} }}}}` if `{helper[1]}` is a filter"
    return ""


# --- single words ---------------------------------------------------------------------------------

_TIME = "the time of the event is `letter.time`, as in `{{ letter.time|date }}`"
_MESSAGES = _TRANSLATED
NAMES: dict[str, str] = {
    "_": _MESSAGES,
    "gettext": _MESSAGES,
    "ngettext": _MESSAGES,
    "pgettext": _MESSAGES,
    "now": _TIME,
    "today": _TIME,
    "utcnow": _TIME,
    "datetime": _TIME,
    "null": "write `none`",
    "nil": "write `none`",
    "undefined": "write `x is defined`, or `{% if x %}`",
    "this": "write the name of the variable, or that which the loop gives: `{% for item in items %}`",
    "else": "write `{% else %}` or `{% elif … %}`",
    "end": "write `{% endif %}` or `{% endfor %}`",
    "endif": "write `{% endif %}`",
    "endfor": "write `{% endfor %}`",
    "endunless": "write `{% endif %}`",
    "forloop": "write `loop`: `loop.index`, `loop.first`, `loop.last`",
    "include": 'write `{% include "name" %}`',
    "block": "write `{% block name %}`",
    "parent": "write `{{ super() }}`",
    "url": "write the whole address, or take it from the event's data",
    "url_for": "write the whole address, or take it from the event's data",
    "static": "write the whole address of the file, https://…",
    "asset": "write the whole address of the file, https://…",
    "path": "write the whole address, or take it from the event's data",
    "len": "write `x|length`",
    "str": "write `x|string`",
    "int": "write `x|int`",
    "float": "write `x|float`",
    "round": "write `x|round(2)`",
    "sum": "write `x|sum`",
    "max": "write `x|max`",
    "min": "write `x|min`",
    "abs": "write `x|abs`",
    "sorted": "write `x|sort`",
    "list": "write `x|list`",
    "enumerate": "write `loop.index0` in a loop",
    "zip": "give the values together in the event's data",
    "Math": "write a filter: `x|round`, `x|abs`, `x|max`",
    "JSON": "write `x|tojson`",
    "moment": "write `x|date`",
    "strftime": "write `x|date`",
    "lipsum": "write the text",
    "if": "write `{% if … %}`",
    "for": "write `{% for item in items %}`",
    "foreach": "write `{% for item in items %}`",
    "each": "write `{% for item in items %}`",
    "unless": "write `{% if not … %}`",
    "with": "write `{% with name = value %}`",
}
"""Names that other languages have, for when nothing of that name is declared."""
ATTRIBUTES: dict[str, str] = {
    "append": "`x + [y]`",
    "capitalize": "`x|capitalize`",
    "center": "",
    "concat": "`x + y`",
    "count": "`x|length`",
    "counter": "`loop.index`",
    "counter0": "`loop.index0`",
    "iteration": "`loop.index`",
    "encode": "",
    "filter": '`x|selectattr("name")`',
    "find": "`y in x`",
    "first": "`x|first`",
    "forEach": "`{% for item in x %}`",
    "format": '`"%s"|format(x)`',
    "format_map": '`"%(name)s"|format(name=x)`',
    "getFullYear": '`x|date("y")`',
    "includes": "`y in x`",
    "contains": "`y in x`",
    "index": "`y in x`",
    "indexOf": "`y in x`",
    "isoformat": "`x`",
    "join": '`x|join(", ")`',
    "last": "`x|last`",
    "length": "`x|length`",
    "ljust": '`"%-20s"|format(x)`',
    "rjust": '`"%20s"|format(x)`',
    "map": '`x|map(attribute="name")`',
    "parentloop": "`{% set outer = loop %}` before the inner loop",
    "parent": "`{% set outer = loop %}` before the inner loop",
    "pop": "`x[:-1]`",
    "push": "`x + [y]`",
    "replace": '`x|replace("a", "b")`',
    "replaceAll": '`x|replace("a", "b")`',
    "reverse": "`x|reverse`",
    "revcounter": "`loop.revindex`",
    "revcounter0": "`loop.revindex0`",
    "rindex": "`loop.revindex`",
    "size": "`x|length`",
    "slice": "`x[:3]`",
    "sort": "`x|sort`",
    "strftime": '`x|date("d MMMM y")`',
    "substr": "`x[:3]`",
    "substring": "`x[:3]`",
    "swapcase": "",
    "toFixed": "`x|number(2)`",
    "toLocaleDateString": "`x|date`",
    "toLocaleString": "`x|number` or `x|datetime`",
    "toLowerCase": "`x|lower`",
    "toString": "`x|string`",
    "toUpperCase": "`x|upper`",
    "trim": "`x|trim`",
    "zfill": '`"%05d"|format(x)`',
}
"""Attributes and methods that values of other languages have, and what does the same here."""
FILTERS: dict[str, str] = {
    "add": "`+`",
    "append": "`~`",
    "prepend": "`~`",
    "attr": "`x.name`",
    "capfirst": "`capitalize`",
    "concat": "`+` for lists, `~` for texts",
    "currency": "`money`",
    "date_format": "`date`",
    "default_if_none": "`default`",
    "divided_by": "`/`",
    "downcase": "`lower`",
    "escapejs": "`tojson`",
    "floatformat": "`number(2)`",
    "forceescape": "`escape`",
    "format_currency": "`money`",
    "format_date": "`date`",
    "format_datetime": "`datetime`",
    "format_number": "`number`",
    "intcomma": "`number`",
    "json": "`tojson`",
    "json_encode": "`tojson`",
    "keys": "`list`",
    "linebreaks": "`nl2br`",
    "linebreaksbr": "`nl2br`",
    "merge": "`+` for lists",
    "minus": "`-`",
    "newline_to_br": "`nl2br`",
    "number_format": "`number(2)`",
    "plus": "`+`",
    "pluralize": "`plural`",
    "remove": '`replace("a", "")`',
    "size": "`length`",
    "stringformat": "`format`",
    "strip": "`trim`",
    "strip_html": "`striptags`",
    "strip_tags": "`striptags`",
    "times": "`*`",
    "truncatechars": "`truncate`",
    "truncatewords": "`truncate`",
    "upcase": "`upper`",
    "url_encode": "`urlencode`",
    "where": "`selectattr`",
    "yesno": '`{{ "yes" if x else "no" }}`',
}
"""Filters of other languages, and what does the same here."""


def name_message(name: str) -> str:
    """What to write for a name of another language, or nothing."""
    return NAMES.get(name, "")


def attribute_message(name: str, owner: str = "") -> str:
    """What to write for an attribute or a method of another language, or nothing."""
    if name not in ATTRIBUTES:
        return ""
    instead = re.sub(r"\bx\b", owner or "x", ATTRIBUTES[name])
    shown = f"{owner}.{name}" if owner else f".{name}"
    return f"there is no `{shown}` here" + (f"; write {instead}" if instead else "")


def filter_message(name: str) -> str:
    """`; write …` for a filter of another language, or nothing."""
    return f"; write {FILTERS[name]}" if name in FILTERS else ""


# --- in the text ----------------------------------------------------------------------------------

SURE = (
    re.compile(rf"\$\{{\s*({_PATH})(?:[^{{}}\n]{{0,60}})?\}}"),  # JSP, JavaScript, FreeMarker
    re.compile(r"%%\s?([A-Za-z_][\w.-]*)\s?%%"),  # Salesforce Marketing Cloud
    re.compile(r"\*\|([A-Z][A-Z0-9_]*(?::[^|\n]{0,60})?)\|\*"),  # Mailchimp
    re.compile(rf"<%[=-]?\s*({_PATH})[^%\n]{{0,60}}%>"),  # ERB, EJS
    re.compile(r"\{\$([A-Za-z_][\w.]*)[^{}\n]{0,60}\}"),  # Smarty
    re.compile(r"\{!\s*\$?([A-Za-z_][\w.]*)\s*\}"),  # Salesforce
)
"""Placeholders that are hardly ever meant as text."""
LIKELY = (
    re.compile(rf"\[\[\s*({_PATH})\s*\]\]"),
    re.compile(rf"\[%\s*({_PATH})\s*%\]"),
    re.compile(rf"(?<![{{$#])\{{\s*({_PATH})\s*\}}(?!\}})"),
    re.compile(rf"#\{{\s*({_PATH})\s*\}}"),
    re.compile(r"(?<!%)%([A-Za-z_][\w.]*)%(?!%)"),
    re.compile(r"@@([A-Za-z_]\w*)@@"),
)
"""Placeholders that are also used as text: they count only with the name of a declared variable."""
_RAW_ELEMENT = re.compile(r"<(style|script)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.DOTALL | re.IGNORECASE)


def placeholders(texts: Iterable[tuple[str, str, int]], declared: Collection[str]) -> Iterator[Problem]:
    """Placeholders in the text of a part: `texts` are its pieces without Jinja, with field and first line."""
    for text, field, first in texts:
        if not any(sign in text for sign in "{%[|@"):
            continue
        readable = _RAW_ELEMENT.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
        for pattern in SURE + LIKELY:
            for found in islice(pattern.finditer(readable), MOST):
                name = _declared(found[1], declared)
                if not name and pattern in LIKELY:
                    continue
                line = first + text.count("\n", 0, found.start())
                column = found.start() - (text.rfind("\n", 0, found.start()) + 1) + 1
                message = (
                    f"`{found[0]}` is sent as it stands; write {_instead(name or found[1])},"
                    f" or `{{% raw %}}{found[0]}{{% endraw %}}` to show it"
                )
                yield Problem(
                    Code.PLACEHOLDER_FOREIGN,
                    field,
                    message,
                    line,
                    column if line > first else None,
                    len(found[0]) if line > first else None,
                    Severity.WARNING,
                )


_CONTROL = frozenset(("if", "elsif", "else", "end", "for", "unless", "each", "foreach", "while"))


def _instead(name: str) -> str:
    """The Jinja form of a placeholder with this name."""
    if name in _CONTROL or name.partition(":")[0] in ("IF", "ELSE", "ELSEIF", "END"):
        return "`{% if … %}`, `{% for … %}` and their ends"
    return "the variable as `{{ … }}`" if ":" in name else f"`{{{{ {name} }}}}` for the variable"


def _declared(name: str, declared: Collection[str]) -> str | None:
    """The declared variable that a placeholder names: exactly, but for case and separators."""
    head, dot, rest = name.partition(".")
    folded = {one.casefold().replace("_", ""): one for one in declared}
    found = folded.get(head.casefold().replace("_", "").replace("-", ""))
    return f"{found}{dot}{rest}" if found else None
