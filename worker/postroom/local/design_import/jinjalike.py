"""Liquid, Django, Twig and Jinja: `{{ value | filter }}` and `{% tag %}`, which are near to Postroom's."""

import re

from postroom.local.design_import.handlebars import partial_name
from postroom.local.design_import.translation import (
    DATE_NOTE,
    Translation,
    comment,
    date_filter,
    path,
    quoted,
)

_CONSTRUCT = re.compile(
    r"\{%-?\s*(?P<whole>comment|raw|verbatim|style|schema)\s*-?%\}(?P<inner>.*?)\{%-?\s*end(?P=whole)\s*-?%\}"
    r"|\{%(?P<tl>[-+]?)\s*(?P<tag>.*?)\s*(?P<tr>[-+]?)%\}"
    r"|\{\{(?P<vl>[-+]?)\s*(?P<value>(?:\"[^\"]*\"|'[^']*'|[^\"'])*?)\s*(?P<vr>[-+]?)\}\}"
    r"|\{#(?P<comment>.*?)#\}",
    re.DOTALL,
)
_STRING = re.compile(r"\"[^\"]*\"|'[^']*'")
_RENAMED = {
    "upcase": "upper",
    "downcase": "lower",
    "size": "length",
    "strip": "trim",
    "lstrip": "trim",
    "rstrip": "trim",
    "url_encode": "urlencode",
    "url_escape": "urlencode",
    "newline_to_br": "nl2br",
    "linebreaksbr": "nl2br",
    "linebreaks": "nl2br",
    "truncatechars": "truncate",
    "capfirst": "capitalize",
    "floatformat": "round",
    "intcomma": "number",
    "number_format": "number",
    "length": "length",
    "uniq": "unique",
    "titlecase": "title",
    "humanize_number": "number",
}
_SAME = frozenset(
    "upper lower capitalize title trim length join default first last reverse sort abs round "  # noqa: SIM905  a table
    "urlencode truncate replace unique nl2br number percent plural min max sum list batch wordcount".split()
)
_DROPPED = frozenset(
    ("escape", "e", "escape_once", "force_escape", "h", "strip_newlines", "html", "striptags_safe")
)
_RAW = frozenset(("safe", "raw", "safeseq"))
_MONEY = frozenset(
    (
        "money",
        "money_with_currency",
        "money_without_trailing_zeros",
        "money_without_currency",
        "currency",
        "format_currency",
        "price",
    )
)
_ARITHMETIC = {"plus": "+", "add": "+", "minus": "-", "times": "*", "divided_by": "/", "modulo": "%"}


class _Jinjalike:
    def __init__(self, source: str, dialect: str) -> None:
        self._out = Translation(source)
        self._dialect = dialect
        self._cases: list[tuple[str, bool]] = []
        self._open: list[str] = []

    def run(self) -> Translation:
        out = self._out
        for found in _CONSTRUCT.finditer(out.source):
            if found["whole"]:
                self._whole(found)
            elif found["comment"] is not None:
                out.put(found, found[0])
            elif found["tag"] is not None:
                text = self._tag(found, found["tag"])
                if text is not None:
                    out.put(
                        found,
                        text
                        and re.sub(r"^\{%", f"{{%{found['tl']}", re.sub(r"%\}$", f"{found['tr']}%}}", text)),
                    )
            else:
                shown = self._value(found, found["value"])
                out.put(found, f"{{{{{found['vl']} {shown} {found['vr']}}}}}")
        out.keep(len(out.source))
        return out

    def _whole(self, found: re.Match[str]) -> None:
        if found["whole"] == "comment":
            self._out.put(found, "{#" + found["inner"].replace("#}", "# }").replace("{#", "{ #") + "#}")
        elif found["whole"] in ("raw", "verbatim"):
            self._out.put(found, "{% raw %}" + found["inner"] + "{% endraw %}")
        else:
            self._out.leave(found, f"{found['whole']} belongs to a shop's theme")

    def _tag(self, found: re.Match[str], tag: str) -> str | None:
        word, _, rest = tag.partition(" ")
        rest = rest.strip()
        simple = {
            "endunless": "{% endif %}",
            "endcase": "{% endif %}",
            "empty": "{% else %}",
            "else": "{% else %}",
            "endcapture": "{% endset %}",
            "endifequal": "{% endif %}",
            "endifnotequal": "{% endif %}",
            "elseif": None,
            "endtablerow": "{% endfor %}",
        }
        if word == "endcase":
            self._cases.pop() if self._cases else None
        if simple.get(word):
            return simple[word]
        method = getattr(self, f"_tag_{word}", None)
        if method is not None:
            shown: str | None = method(found, rest)
            return shown
        if word in ("if", "elif", "elsif", "elseif"):
            return f"{{% {'if' if word == 'if' else 'elif'} {self._condition(found, rest)} %}}"
        if word in (
            "endif",
            "endfor",
            "endblock",
            "endwith",
            "set",
            "endset",
            "block",
            "macro",
            "endmacro",
            "call",
        ):
            if self._dialect in ("jinja", "django") and word == "set":
                return f"{{% set {self._filters_in(found, rest)} %}}"
            return f"{{% {word.strip()} {rest}".rstrip() + " %}"
        if word in (
            "load",
            "autoescape",
            "endautoescape",
            "spaceless",
            "endspaceless",
            "layout",
            "csrf_token",
            "localize",
            "endlocalize",
            "language",
            "endlanguage",
            "get_current_language",
        ):
            return ""
        self._out.leave(found, f"the tag {word} is not known")
        return None

    def _tag_unless(self, found: re.Match[str], rest: str) -> str:
        return f"{{% if not ({self._condition(found, rest)}) %}}"

    def _tag_ifequal(self, found: re.Match[str], rest: str) -> str:
        left, _, right = rest.partition(" ")
        return f"{{% if {self._expression(left)} == {self._expression(right.strip())} %}}"

    def _tag_ifnotequal(self, found: re.Match[str], rest: str) -> str:
        return self._tag_ifequal(found, rest).replace("==", "!=")

    def _tag_for(self, found: re.Match[str], rest: str) -> str:
        named = re.match(r"(?P<target>[\w, ]+?)\s+in\s+(?P<listed>.+)$", rest, re.DOTALL)
        if not named:
            return f"{{% for {rest} %}}"
        listed = named["listed"]
        options = dict(re.findall(r"\b(limit|offset)\s*:\s*(\w[\w.]*)", listed))
        backwards = bool(re.search(r"\breversed\b", listed)) and self._dialect in ("liquid", "django")
        kept = (
            re.sub(r"\s*\b(?:limit|offset|cols)\s*:\s*\S+|\s*\breversed\b", "", listed)
            if options or backwards
            else listed
        )
        numbers = re.fullmatch(r"\((.+?)\.\.(.+?)\)", kept.strip())
        shown = self._filters_in(found, kept.strip())
        if numbers:
            shown = f"range({self._expression(numbers[1])}, {self._expression(numbers[2])} + 1)"
        if options:
            begin = self._expression(options["offset"]) if "offset" in options else ""
            count = self._expression(options["limit"]) if "limit" in options else ""
            shown += f"[{begin}:{f'{begin} + {count}' if begin and count else count}]"
        return f"{{% for {named['target']} in {shown}{'|reverse' if backwards else ''} %}}"

    _tag_tablerow = _tag_for

    def _tag_assign(self, found: re.Match[str], rest: str) -> str:
        name, _, value = rest.partition("=")
        return f"{{% set {path(name)} = {self._filters_in(found, value.strip())} %}}"

    def _tag_capture(self, found: re.Match[str], rest: str) -> str:
        return f"{{% set {path(rest.strip(chr(34) + chr(39)))} %}}"

    def _tag_case(self, found: re.Match[str], rest: str) -> str:
        self._cases.append((self._expression(rest), False))
        return ""

    def _tag_when(self, found: re.Match[str], rest: str) -> str | None:
        if not self._cases:
            self._out.leave(found, "`when` belongs to no `case`")
            return None
        subject, begun = self._cases[-1]
        self._cases[-1] = (subject, True)
        values = [self._expression(each.strip()) for each in re.split(r",|\bor\b", rest)]
        test = f"{subject} == {values[0]}" if len(values) == 1 else f"{subject} in [{', '.join(values)}]"
        return f"{{% {'elif' if begun else 'if'} {test} %}}"

    def _tag_with(self, found: re.Match[str], rest: str) -> str:
        old = re.fullmatch(r"(.+?)\s+as\s+(\w+)", rest)
        if old:
            return f"{{% with {old[2]} = {self._filters_in(found, old[1])} %}}"
        pairs = re.findall(r"(\w+)\s*=\s*((?:\"[^\"]*\"|'[^']*'|[^\s,])+)", rest)
        return (
            "{% with "
            + ", ".join(f"{name} = {self._filters_in(found, value)}" for name, value in pairs)
            + " %}"
        )

    def _tag_include(self, found: re.Match[str], rest: str) -> str | None:
        name = _STRING.match(rest)
        if not name:
            self._out.leave(found, "a partial is included by its name; write one of the layout's partials")
            return None
        if rest[name.end() :].strip():
            self._out.note(found, "a partial has no parameters here; set the names before the include")
        return f'{{% include "{partial_name(name[0][1:-1])}" %}}'

    _tag_render = _tag_include

    def _tag_extends(self, found: re.Match[str], rest: str) -> str | None:
        self._out.put(found, comment(f"extends {rest}"))
        return None

    def _tag_url(self, found: re.Match[str], rest: str) -> str:
        name = (
            re.sub(r"[^a-z0-9]+", "_", rest.split(maxsplit=1)[0].strip("\"'").lower()).strip("_") + "_url"
            if rest
            else "url"
        )
        self._out.note(found, f"addresses come with the event; publish {name} in its data", lost=False)
        return f"{{{{ {name} }}}}"

    def _tag_static(self, found: re.Match[str], rest: str) -> str:
        self._out.note(found, "images need a whole address; put yours before the path")
        return rest.split(maxsplit=1)[0].strip("\"'") if rest else ""

    _tag_image_url = _tag_static

    def _tag_trans(self, found: re.Match[str], rest: str) -> str:
        text = _STRING.match(rest)
        self._out.note(
            found, "the text is there in one language; give the others as messages or locales", lost=False
        )
        if text:
            return text[0][1:-1]
        return f"{{{{ {self._expression(rest.split(maxsplit=1)[0] if rest else 'text')} }}}}"

    _tag_translate = _tag_trans

    def _tag_blocktrans(self, found: re.Match[str], rest: str) -> str:
        self._out.note(
            found, "the text is there in one language; give the others as messages or locales", lost=False
        )
        pairs = re.findall(r"(\w+)\s*=\s*((?:\"[^\"]*\"|'[^']*'|\S)+)", rest)
        return "".join(f"{{% set {name} = {self._filters_in(found, value)} %}}" for name, value in pairs)

    _tag_blocktranslate = _tag_blocktrans

    def _tag_endblocktrans(self, found: re.Match[str], rest: str) -> str:
        return ""

    _tag_endblocktranslate = _tag_endblocktrans

    def _tag_now(self, found: re.Match[str], rest: str) -> str | None:
        self._out.leave(found, "a letter has no clock; publish the moment in the event's data")
        return None

    def _value(self, found: re.Match[str], value: str) -> str:
        return self._filters_in(found, value)

    def _condition(self, found: re.Match[str], text: str) -> str:
        text = re.sub(r"(\S+)\s+contains\s+(\S+)", r"\2 in \1", text)
        text = re.sub(r"\s*(?:!=|<>)\s*(?:blank|empty|nil|null)\b", "", text)
        text = re.sub(r"([\w.\[\]]+)\s*==\s*(?:blank|empty|nil|null)\b", r"not \1", text)
        text = text.replace("&&", " and ").replace("||", " or ").replace("===", "==")
        parts = re.split(r"(\s+(?:and|or|not|in|is)\s+|\bnot\s+|\s*(?:==|!=|<=|>=|<|>)\s*)", text)
        return "".join(
            part if index % 2 else self._filters_in(found, part) if part.strip() else part
            for index, part in enumerate(parts)
        ).strip()

    def _filters_in(self, found: re.Match[str], text: str) -> str:
        """An expression with its filters."""
        first, *filters = _split_bars(text)
        shown = self._expression(first)
        for each in filters:
            shown = self._filtered(found, shown, each.strip())
        return shown

    def _filtered(self, found: re.Match[str], shown: str, text: str) -> str:
        name, arguments = _arguments(text)
        given = [self._expression(each) for each in arguments]
        if name in _DROPPED:
            return shown
        if name in _RAW:
            self._out.note(
                found, "is escaped here: a letter takes no HTML out of data; build it in the template"
            )
            return shown
        if name in ("date", "strftime", "time", "datetime", "format_date"):
            pattern = arguments[0] if arguments else ""
            if self._dialect == "jinja" and pattern.strip("\"'") in ("", "short", "medium", "long", "full"):
                return f"{shown}|{text}"
            self._out.note(found, DATE_NOTE, lost=False)
            return f"{shown}|{date_filter(pattern) if pattern or name != 'time' else 'time'}"
        if name in _MONEY:
            if self._dialect == "jinja" and given:
                return f"{shown}|money({given[0]})"
            self._out.note(found, "the currency is set to EUR; write the letter's own", lost=False)
            return f"{shown}|money('EUR')"
        if name in ("default", "d", "default_if_none"):
            return f"{shown}|default({', '.join(given) or quoted('')})"
        if name in _ARITHMETIC and given:
            return f"({shown} {_ARITHMETIC[name]} {given[0]})"
        if name in ("append", "prepend") and given:
            return f"({shown} ~ {given[0]})" if name == "append" else f"({given[0]} ~ {shown})"
        if name == "pluralize":
            forms = arguments[0].strip("\"'").split(",") if arguments else ["s"]
            one, other = forms if len(forms) == 2 else ("", forms[0])
            return f"{shown}|plural(one={quoted(one)}, other={quoted(other)})"
        if name == "yesno":
            yes, no = ([*(arguments[0].strip("\"'").split(",") if arguments else ("yes", "no")), "", ""])[:2]
            return f"({quoted(yes)} if {shown} else {quoted(no)})"
        known = _RENAMED.get(name, name)
        if known in _SAME:
            if known == "truncate" and given:
                return f"{shown}|truncate({given[0]})"
            return f"{shown}|{known}" + (f"({', '.join(given)})" if given and known != "nl2br" else "")
        self._out.note(found, f"the filter {name} is not known; the value is shown without it")
        return shown

    def _expression(self, text: str) -> str:
        text = text.strip()
        if _STRING.fullmatch(text):
            return quoted(text[1:-1])
        if self._dialect == "jinja" and not re.search(r"forloop|\.\d", text):
            return text
        pieces = _STRING.split(text)
        strings = _STRING.findall(text)
        shown = ""
        for index, piece in enumerate(pieces):
            shown += re.sub(
                r"\$?[A-Za-z_][\w-]*(?:\.[\w-]+|\[\w+\])*\??", lambda name: self._name(name[0]), piece
            )
            shown += strings[index] if index < len(strings) else ""
        return shown

    def _name(self, name: str) -> str:
        name = name.lstrip("$").rstrip("?")
        if name in (
            "and",
            "or",
            "not",
            "in",
            "is",
            "if",
            "else",
            "true",
            "false",
            "none",
            "loop",
            "range",
            "defined",
        ):
            return name
        if name in ("nil", "null", "blank", "empty", "None"):
            return "none"
        if name in ("True", "False"):
            return name.lower()
        loops = {
            "forloop.index": "loop.index",
            "forloop.index0": "loop.index0",
            "forloop.counter": "loop.index",
            "forloop.counter0": "loop.index0",
            "forloop.first": "loop.first",
            "forloop.last": "loop.last",
            "forloop.length": "loop.length",
            "forloop.rindex": "loop.revindex",
            "forloop.revcounter": "loop.revindex",
        }
        if name in loops:
            return loops[name]
        if self._dialect == "liquid":
            for end, replaced in ((".size", "|length"), (".first", "[0]"), (".last", "[-1]")):
                if name.endswith(end):
                    return path(name.removesuffix(end)) + replaced
        if self._dialect == "django":
            for end in (".count", ".items", ".all"):
                if name.endswith(end) and end == ".all":
                    return path(name.removesuffix(end))
                if name.endswith(end) and end == ".count":
                    return path(name.removesuffix(end)) + "|length"
        return path(name)


def _split_bars(text: str) -> list[str]:
    """`a | b: "x|y" | c` at its bars, not at those in strings."""
    return list(re.findall(r"(?:\"[^\"]*\"|'[^']*'|\|\||[^|\"'])+", text)) or [text]


def _arguments(text: str) -> tuple[str, list[str]]:
    """`date: "%b", x` and `date("%b", x)` as a name and its arguments."""
    found = re.fullmatch(r"(\w+)\s*(?:[:(]\s*(.*?)\s*\)?)?", text, re.DOTALL)
    if not found:
        return text, []
    given = re.findall(r"(?:\"[^\"]*\"|'[^']*'|[^,\"'])+", found[2] or "")
    return found[1], [each.strip() for each in given if each.strip()]


def translate_liquid(source: str) -> Translation:
    """Liquid."""
    return _Jinjalike(source, "liquid").run()


def translate_django(source: str) -> Translation:
    """Django's template language, and Twig."""
    return _Jinjalike(source, "django").run()


def translate_jinja(source: str) -> Translation:
    """Jinja, with the filters and tags that letters do not have."""
    return _Jinjalike(source, "jinja").run()
