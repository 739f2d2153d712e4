"""Handlebars, Mustache and their kin: SendGrid's dynamic templates, Postmark's Mustachio, Go's text/template.

Sections become loops or conditions by what they hold: `{{#each}}` and a section whose name is a plural is a
loop, another section a condition. Names in a loop are those of the element, as in Handlebars; `../name` and
`@root.name` are the outer ones.
"""

import re
from dataclasses import dataclass

from postroom.local.design_import.translation import (
    DATE_NOTE,
    Translation,
    date_filter,
    identifier,
    is_plural,
    path,
    quoted,
    singular,
)

_TAG = re.compile(
    r"\{\{~?!--(?P<long>.*?)--~?\}\}|\{\{~?!(?P<short>[^}]*)\}\}|\{\{\{(?P<raw>[^{}]*)\}\}\}"
    r"|\{\{(?P<left>~)?\s*(?P<sign>[#/^>&])?\s*(?P<body>(?:\"[^\"]*\"|'[^']*'|[^{}\"'])*?)\s*(?P<right>~)?\}\}",
    re.DOTALL,
)
_WORD = re.compile(
    r"\((?:[^()\"']|\"[^\"]*\"|'[^']*'|\([^()]*\))*\)|\"[^\"]*\"|'[^']*'|\w+=(?:\"[^\"]*\"|'[^']*'|\S+)"
    r"|[^\s()\"']+"
)
_COMPARE = {
    **dict.fromkeys(("eq", "equals", "is", "ifEquals", "ifeq", "ifEqual", "isEqual"), "=="),
    **dict.fromkeys(("ne", "neq", "notEquals", "isnt", "notEqual"), "!="),
    **dict.fromkeys(("gt", "greaterThan"), ">"),
    **dict.fromkeys(("gte", "ge", "greaterThanOrEqual"), ">="),
    **dict.fromkeys(("lt", "lessThan"), "<"),
    **dict.fromkeys(("lte", "le", "lessThanOrEqual"), "<="),
}
_FILTERS = {
    **dict.fromkeys(("uppercase", "upper", "toUpperCase", "upcase"), "upper"),
    **dict.fromkeys(("lowercase", "lower", "toLowerCase", "downcase"), "lower"),
    **dict.fromkeys(("capitalize", "capitalizeFirst", "ucfirst"), "capitalize"),
    **dict.fromkeys(("titleize", "titlecase", "capitalizeAll"), "title"),
    **dict.fromkeys(("length", "len", "count", "size"), "length"),
    "trim": "trim",
    "first": "first",
    "last": "last",
    "abs": "abs",
    "reverse": "reverse",
    **dict.fromkeys(("encodeURI", "encodeURIComponent", "urlEncode", "urlquery"), "urlencode"),
}
_MONEY = frozenset(
    ("money", "currency", "formatCurrency", "formatMoney", "toCurrency", "asMoney", "price", "formatPrice")
)
_NUMBERS = frozenset(("number", "formatNumber", "toFixed", "addCommas", "numberFormat"))
_DATES = frozenset(
    ("date", "formatDate", "dateFormat", "moment", "format_date", "datetime", "formatDateTime")
)
_SELF = frozenset(("this", ".", "$value"))


@dataclass(frozen=True, slots=True)
class _BlockFrame:
    """A block that is open."""

    name: str
    kind: str
    """loop, condition or scope"""
    target: str = ""
    index: str = ""
    key: str = ""
    closes: str = ""


class _Handlebars:
    def __init__(self, source: str) -> None:
        self._out = Translation(source)
        self._open: list[_BlockFrame] = []
        self._loops = 0
        self._found = list(_TAG.finditer(source))

    def run(self) -> Translation:
        out = self._out
        for place, found in enumerate(self._found):
            self._construct(found, place)
        out.keep(len(out.source))
        for frame in reversed(self._open):
            out.parts.append(frame.closes)
        return out

    def _construct(self, found: re.Match[str], place: int) -> None:
        out = self._out
        note = found["long"] if found["long"] is not None else found["short"]
        if note is not None:
            out.put(found, "{#" + note.replace("#}", "# }").replace("{#", "{ #") + "#}")
            return
        raw = found["raw"]
        body = (raw if raw is not None else found["body"]).strip()
        sign = found["sign"] or ""
        if not body:
            out.leave(found, "the placeholder is empty")
        elif sign == "#":
            self._section(found, body, place)
        elif sign == "^":
            self._inverted(found, body)
        elif sign == "/":
            self._end(found, body)
        elif sign == ">":
            name = body.split()[0].strip("\"'")
            self._put(found, f'{{% include "{partial_name(name)}" %}}')
            if len(body.split()) > 1:
                out.note(
                    found, "a partial has no parameters here; set the names before the include", lost=True
                )
        elif body == "else" or body.startswith("else "):
            self._else(found, body)
        else:
            self._value(found, body)
            if raw is not None or sign == "&":
                way = "is escaped here: a letter takes no HTML out of data; build it in the template"
                out.note(found, way)

    def _put(self, found: re.Match[str], text: str) -> None:
        """Write tags, with `~` as Jinja's `-`."""
        groups = found.groupdict()
        if groups.get("left"):
            text = re.sub(r"^\{([%{])", r"{\1-", text)
        if groups.get("right"):
            text = re.sub(r"([%}])\}$", r"-\1}", text)
        self._out.put(found, text)

    def _section(self, found: re.Match[str], body: str, place: int) -> None:
        words = self._words(body)
        name, rest = words[0], words[1:]
        aliases = re.search(r"\bas\s*\|([^|]*)\|", body)
        if name == "each" and rest:
            names = aliases[1].split() if aliases else []
            self._loop(found, "each", rest[0], place, names)
        elif name in ("if", "unless", "ifCond", "when") and rest:
            test = self._condition(rest)
            self._condition_opens(
                found,
                name,
                f"not ({test})"
                if name == "unless" and " " in test
                else f"not {test}"
                if name == "unless"
                else test,
            )
        elif name == "with" and rest:
            self._open.append(_BlockFrame("with", "scope", self._expression(rest[0]), closes="{% endif %}"))
            self._put(found, f"{{% if {self._open[-1].target} %}}")
        elif name in _COMPARE and len(rest) >= 2:
            self._condition_opens(found, name, self._compare(name, rest))
        elif name in ("and", "or") and rest:
            self._condition_opens(found, name, f" {name} ".join(map(self._expression, rest)))
        elif len(words) == 1 and re.fullmatch(r"[\w.@/\-]+", name):
            self._mustache(found, name, place)
        else:
            self._out.leave(found, f"the helper {name} is not known; what it holds was kept")
            self._open.append(_BlockFrame(name, "unknown"))

    def _mustache(self, found: re.Match[str], name: str, place: int) -> None:
        """A section by a name alone: a loop, or a condition."""
        inside = self._inside(name, place)
        own = any(
            each["body"] and (each["body"].strip() in _SELF or each["body"].startswith(("this.", "@")))
            for each in inside
        )
        names = [each for each in inside if (not each["sign"] and each["raw"] is None) or each["raw"]]
        if own or (is_plural(name) and names):
            self._loop(found, name, name, place, [])
            return
        self._condition_opens(found, name, self._expression(name))
        if names and not re.match(r"(is|has|show|can|in)[_A-Z-]", name):
            self._out.note(
                found,
                f"was read as a condition; if {name} is a list, write a loop; its own names are {name}.x",
                lost=False,
            )

    def _inside(self, name: str, place: int) -> list[re.Match[str]]:
        depth, inside = 1, []
        for each in self._found[place + 1 :]:
            body = (each["body"] or "").strip()
            if each["sign"] in ("#", "^") and body.split()[:1] == [name]:
                depth += 1
            elif each["sign"] == "/" and body == name:
                depth -= 1
                if not depth:
                    break
            inside.append(each)
        return inside

    def _loop(self, found: re.Match[str], closing: str, wanted: str, place: int, aliases: list[str]) -> None:
        listed = self._expression(wanted)
        taken = {frame.target for frame in self._open}
        target = identifier(aliases[0]) if aliases else identifier(singular(wanted))
        while target in taken:
            target += "_"
        inside = self._inside(closing, place)
        keyed = any((each["body"] or "").strip() == "@key" for each in inside)
        key = (identifier(aliases[1]) if len(aliases) > 1 else "key") if keyed else ""
        index = aliases[1] if len(aliases) > 1 and not keyed else ""
        self._open.append(_BlockFrame(closing, "loop", target, index, key, "{% endfor %}"))
        self._put(
            found,
            f"{{% for {key}, {target} in {listed}.items() %}}"
            if keyed
            else f"{{% for {target} in {listed} %}}",
        )

    def _condition_opens(self, found: re.Match[str], name: str, test: str) -> None:
        self._open.append(_BlockFrame(name, "condition", closes="{% endif %}"))
        self._put(found, f"{{% if {test} %}}")

    def _inverted(self, found: re.Match[str], body: str) -> None:
        if body == "" or (self._open and self._open[-1].name == body):
            self._put(found, "{% else %}")
            return
        self._condition_opens(found, body, f"not {self._expression(body)}")

    def _else(self, found: re.Match[str], body: str) -> None:
        words = self._words(body)[1:]
        if not self._open:
            self._out.leave(found, "`else` belongs to no block")
        elif not words:
            self._put(found, "{% else %}")
        elif words[0] == "if" and len(words) > 1 and self._open[-1].kind == "condition":
            self._put(found, f"{{% elif {self._condition(words[1:])} %}}")
        else:
            self._out.leave(found, "write it as {% elif … %}")

    def _end(self, found: re.Match[str], body: str) -> None:
        name = body.split(maxsplit=1)[0]
        if not self._open or self._open[-1].name != name:
            self._out.leave(found, f"closes nothing; {{{{#{name}}}}} is missing")
            return
        frame = self._open.pop()
        if frame.kind == "unknown":
            self._out.leave(found, f"the helper {name} is not known")
        else:
            self._put(found, frame.closes)

    def _value(self, found: re.Match[str], body: str) -> None:
        words = self._words(body)
        if len(words) == 1 and not words[0].startswith("("):
            self._put(found, f"{{{{ {self._expression(words[0])} }}}}")
            return
        shown = self._helper(found, words)
        self._put(found, f"{{{{ {shown} }}}}")

    def _helper(self, found: re.Match[str], words: list[str]) -> str:
        """`formatCurrency total "EUR"` as a filter; of an unknown helper the first argument stays."""
        name, rest = words[0], words[1:]
        if name.startswith("("):
            return self._condition([name])
        options = dict(each.split("=", 1) for each in rest if re.match(r"\w+=", each))
        plain = [each for each in rest if not re.match(r"\w+=", each)]
        subject = self._expression(plain[0]) if plain else "''"
        if name == "insert" and rest:  # SendGrid's default
            fallback = next(
                (each.partition("=")[2] for each in [*rest[1:], *options.values()] if "=" in each or each),
                "''",
            )
            fallback = fallback.strip("\"'").removeprefix("default=")
            return f"{subject}|default({quoted(fallback)}, true)"
        if name in ("default", "or") and len(plain) > 1:
            return f"{subject}|default({self._expression(plain[1])}, true)"
        if name in _COMPARE or name in ("and", "or", "not"):
            return self._condition([f"({' '.join(words)})"])
        if name in _FILTERS:
            return f"{subject}|{_FILTERS[name]}"
        if name == "join":
            return f"{subject}|join({self._expression(plain[1]) if len(plain) > 1 else quoted(', ')})"
        if name in _DATES and plain:
            pattern = plain[1] if len(plain) > 1 else options.get("format", "")
            if plain[0][:1] in "\"'" and len(plain) > 1:  # the pattern stands first
                pattern, subject = plain[0], self._expression(plain[1])
            self._out.note(found, DATE_NOTE, lost=False)
            return f"{subject}|{date_filter(pattern)}"
        if name in _MONEY and plain:
            currency = plain[1] if len(plain) > 1 else next(iter(options.values()), "")
            known = re.fullmatch(r"[\"']?([A-Z]{3})[\"']?", currency)
            if not known:
                self._out.note(found, "the currency is set to EUR; write the letter's own", lost=False)
            return f"{subject}|money({quoted(known[1] if known else 'EUR')})"
        if name in _NUMBERS and plain:
            return f"{subject}|number"
        way = (
            f"the helper {name} is not known; the value is shown as it is"
            if plain
            else f"the helper {name} is not known"
        )
        self._out.note(found, way)
        return subject

    def _condition(self, words: list[str]) -> str:
        if len(words) == 3 and words[1].strip("\"'") in (
            "==",
            "===",
            "!=",
            "!==",
            "<",
            ">",
            "<=",
            ">=",
            "&&",
            "||",
        ):
            operator = {"===": "==", "!==": "!=", "&&": "and", "||": "or"}.get(
                words[1].strip("\"'"), words[1].strip("\"'")
            )
            return f"{self._expression(words[0])} {operator} {self._expression(words[2])}"
        word = words[0]
        if not word.startswith("("):
            return self._expression(word)
        inner = self._words(word[1:-1])
        name, rest = inner[0], inner[1:]
        if name in _COMPARE and len(rest) >= 2:
            return self._compare(name, rest)
        if name in ("and", "or") and rest:
            return f" {name} ".join(
                f"({each})" if " " in each and each[0] != "(" else each
                for each in map(self._expression, rest)
            )
        if name == "not" and rest:
            return f"not ({self._expression(rest[0])})"
        if name in _FILTERS and rest:
            return f"{self._expression(rest[0])}|{_FILTERS[name]}"
        return self._expression(rest[0]) if rest else identifier(name)

    def _compare(self, name: str, words: list[str]) -> str:
        return f"{self._expression(words[0])} {_COMPARE[name]} {self._expression(words[1])}"

    def _words(self, body: str) -> list[str]:
        """The words of a tag: names, strings in quotes, `key=value`, sub-expressions in brackets."""
        return [found[0] for found in _WORD.finditer(body)] or [body]

    def _expression(self, word: str) -> str:
        if word[:1] in "\"'":
            return quoted(word[1:-1])
        if re.fullmatch(r"-?\d+(\.\d+)?", word):
            return word
        if word in ("true", "false"):
            return word
        if word in ("null", "undefined", "nil"):
            return "none"
        if word.startswith("("):
            return f"({self._condition([word])})"
        return self._name(word)

    def _name(self, name: str) -> str:
        scopes = [frame for frame in self._open if frame.kind in ("loop", "scope")]
        loops = [frame for frame in self._open if frame.kind == "loop"]
        if name.startswith("@root"):
            return path(name.removeprefix("@root").lstrip("./"))
        if name.startswith("@") and loops:
            special = {
                "@index": "loop.index0",
                "@first": "loop.first",
                "@last": "loop.last",
                "@key": loops[-1].key,
                "@number": "loop.index",
                "@length": "loop.length",
            }
            return special.get(name) or path(name[1:])
        while name.startswith("../"):
            name = name[3:]
            scopes = scopes[:-1]
        if loops and loops[-1].index and name == loops[-1].index:
            return "loop.index0"
        head = re.split(r"[./\[]", name)[0]
        for frame in reversed(scopes):
            if head in (frame.target, frame.key) and head:
                return path(name)
        if name in _SELF:
            return scopes[-1].target if scopes else "this_"
        name = re.sub(r"^this[./]|^\./", "", name)
        if not scopes:
            return path(name)
        return f"{scopes[-1].target}.{path(name)}"


def partial_name(name: str) -> str:
    """`site/Header.hbs` → `header`, as a layout's partials are called."""
    last = re.split(r"[/\\]", name)[-1].lstrip("_")
    stem = re.sub(
        r"\.(?:html?|hbs|handlebars|mustache|liquid|erb|ejs|mjml|jinja2?|j2|txt|tmpl|html\.erb)$",
        "",
        last,
        flags=re.IGNORECASE,
    )
    return (
        re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", stem).lower()).strip("-")
        or "partial"
    )


def translate_handlebars(source: str) -> Translation:
    """Handlebars or Mustache."""
    return _Handlebars(source).run()


_GO = re.compile(
    r"\{\{(?P<left>- )?\s*(?P<body>(?:\"[^\"]*\"|`[^`]*`|[^{}\"`])*?)\s*(?P<right> -)?\}\}", re.DOTALL
)
_GO_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


class _Go:
    def __init__(self, source: str) -> None:
        self._out = Translation(source)
        self._open: list[_BlockFrame] = []

    def run(self) -> Translation:
        for found in _GO.finditer(self._out.source):
            text = self._construct(found)
            if text is not None:
                if found["left"]:
                    text = re.sub(r"^\{([%{])", r"{\1-", text)
                if found["right"]:
                    text = re.sub(r"([%}])\}$", r"-\1}", text)
                self._out.put(found, text)
        self._out.keep(len(self._out.source))
        return self._out

    def _construct(self, found: re.Match[str]) -> str | None:
        body = found["body"]
        word, _, rest = body.partition(" ")
        if body.startswith("/*"):
            return "{#" + body.strip("/* ").replace("#}", "# }") + "#}"
        if word in ("if", "with", "range"):
            return self._opens(word, rest.strip())
        if word == "else":
            return (
                f"{{% elif {self._expression(rest.strip()[2:].strip())} %}}"
                if rest.strip().startswith("if")
                else "{% else %}"
            )
        if word == "end":
            return self._open.pop().closes if self._open else ""
        if word in ("template", "block", "define"):
            name = re.search(r"\"([^\"]+)\"", rest)
            if word == "template" and name:
                return f'{{% include "{partial_name(name[1])}" %}}'
            self._out.leave(found, f"{word} has no counterpart; use a layout with blocks")
            if word != "template":
                self._open.append(_BlockFrame(word, "unknown", closes=""))
            return None
        variable = re.fullmatch(r"\$(\w+)\s*:?=\s*(.+)", body, re.DOTALL)
        if variable:
            return f"{{% set {identifier(variable[1])} = {self._expression(variable[2])} %}}"
        name = re.fullmatch(r"(?:var|env)\s+[\"`](.+?)[\"`](?:\s+[\"`](.*?)[\"`])?", body)
        if name:
            fallback = f"|default({quoted(name[2])})" if name[2] else ""
            return f"{{{{ {path(name[1])}{fallback} }}}}"
        return f"{{{{ {self._piped(found, body)} }}}}"

    def _opens(self, word: str, rest: str) -> str:
        if word == "range":
            names = re.fullmatch(r"\$(\w+)(?:\s*,\s*\$(\w+))?\s*:=\s*(.+)", rest)
            listed = self._expression(names[3] if names else rest)
            target = identifier((names[2] or names[1]) if names else singular(rest))
            index = names[1] if names and names[2] else ""
            self._open.append(
                _BlockFrame(word, "loop" if not names else "named", target, index, closes="{% endfor %}")
            )
            return f"{{% for {target} in {listed} %}}"
        test = self._expression(rest)
        self._open.append(
            _BlockFrame(word, "scope" if word == "with" else "condition", test, closes="{% endif %}")
        )
        return f"{{% if {test} %}}"

    def _piped(self, found: re.Match[str], body: str) -> str:
        first, *filters = [each.strip() for each in body.split("|")]
        rounded = re.fullmatch(r"printf\s+\"%\.(\d)f\"\s+(\S+)", first)
        if rounded:
            return f"{self._word(rounded[2])}|round({rounded[1]})"
        shown = self._expression(first)
        if not re.match(r"[.$(\"\d]|len |index |not |and |or |eq |ne ", first) and " " in first:
            self._out.note(
                found, f"the function {first.split()[0]} is not known; the value is shown as it is"
            )
            shown = self._expression(first.split()[-1])
        for each in filters:
            name = each.split()[0]
            if name in ("upper", "lower", "title", "trim", "len", "urlquery"):
                shown += f"|{_FILTERS.get(name, name)}"
            elif name == "default" or name not in ("html", "safeHTML", "js"):
                self._out.note(found, f"the function {name} is not known; the value is shown as it is")
        return shown

    def _expression(self, text: str) -> str:
        text = text.strip()
        words = [found[0] for found in re.finditer(r"\((?:[^()]|\([^()]*\))*\)|\"[^\"]*\"|\S+", text)]
        if len(words) == 1:
            return self._word(words[0])
        head, rest = (words[0], words[1:]) if words else ("", [])
        if head in _GO_COMPARE and len(rest) >= 2:
            return f"{self._word(rest[0])} {_GO_COMPARE[head]} {self._word(rest[1])}"
        if head in ("and", "or") and rest:
            return f" {head} ".join(map(self._word, rest))
        if head == "not" and rest:
            return f"not {self._word(rest[0])}"
        if head == "len" and rest:
            return f"{self._word(rest[0])}|length"
        if head == "index" and len(rest) > 1:
            return f"{self._word(rest[0])}[{self._word(rest[1])}]"
        return self._word(rest[-1] if rest else head)

    def _word(self, word: str) -> str:
        if word.startswith("("):
            return f"({self._expression(word[1:-1])})"
        if word[:1] in '"`':
            return quoted(word[1:-1])
        if re.fullmatch(r"-?\d+(\.\d+)?|true|false", word):
            return word
        if word.startswith("$."):
            return path(word[2:])
        if word.startswith("$"):
            frame = next(
                (each for each in reversed(self._open) if each.index and f"${each.index}" == word), None
            )
            return "loop.index0" if frame else path(word[1:])
        scopes = [frame.target for frame in self._open if frame.kind in ("loop", "scope")]
        name = word.lstrip(".")
        if not name:
            return scopes[-1] if scopes else "value"
        return f"{scopes[-1]}.{path(name)}" if scopes and word.startswith(".") else path(name)


def translate_go(source: str) -> Translation:
    """Go's text/template and html/template."""
    return _Go(source).run()
