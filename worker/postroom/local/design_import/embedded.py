"""ERB and EJS: `<%= value %>` and `<% code %>`, as far as the code is an `if` or a loop."""

import re

from postroom.local.design_import.handlebars import partial_name
from postroom.local.design_import.translation import (
    DATE_NOTE,
    Translation,
    date_filter,
    identifier,
    path,
    quoted,
)

_TAG = re.compile(r"<%(?P<kind>[=#-]*)(?P<body>.*?)(?P<trim>-?)%>(?P<rest>)", re.DOTALL)
_NAME = r"@?[A-Za-z_]\w*(?:(?:\.|&\.)\w+[?]?|\[(?::?\w+|\"[^\"]*\"|'[^']*')\])*"
_EACH = re.compile(rf"(?P<listed>{_NAME})\.each(?P<index>_with_index)?\s+(?:do|\{{)\s*\|(?P<names>[^|]*)\|")
_FOR_EACH = re.compile(
    rf"(?P<listed>{_NAME})\.(?:forEach|map)\(\s*(?:function\s*)?\(?(?P<names>[\w\s,]*)\)?\s*(?:=>)?\s*\{{?$"
)
_FOR_IN = re.compile(
    rf"for\s*\(?\s*(?:const|let|var)?\s*(?P<names>[\w, ]+?)\s+(?:of|in)\s+(?P<listed>{_NAME})\s*\)?\s*"
    r"(?:do|\{)?$"
)
_IF = re.compile(r"(?P<word>if|unless|elsif|\}?\s*else\s+if)\b\s*(?P<test>.*?)\s*(?:then|\{)?$", re.DOTALL)


class _Embedded:
    def __init__(self, source: str) -> None:
        self._out = Translation(source)
        self._open: list[str] = []
        self._indexes: list[str] = []

    def run(self) -> Translation:
        for found in _TAG.finditer(self._out.source):
            kind, body = found["kind"], found["body"].strip()
            if "#" in kind:
                self._out.put(found, "{#" + body.replace("#}", "# }").replace("{#", "{ #") + "#}")
            elif "=" in kind or (
                kind == "-"
                and re.fullmatch(r"[\w.\[\]'\"@() ,/]+", body)
                and body != "end"
                and "{" not in body
                and not body.startswith(("if", "for", "end", "else"))
            ):
                self._value(found, body, raw=kind == "-")
            else:
                self._code(found, body)
        self._out.keep(len(self._out.source))
        return self._out

    def _value(self, found: re.Match[str], body: str, *, raw: bool) -> None:
        include = re.match(r"(?:include|render)\s*\(?\s*(?:partial:\s*)?['\"]([^'\"]+)['\"]", body)
        if include:
            self._out.put(found, f'{{% include "{partial_name(include[1])}" %}}')
            return
        if re.match(r"yield\b", body):
            self._out.put(found, "{% block content %}{% endblock %}")
            return
        link = re.fullmatch(
            r"link_to\s*\(?\s*(?:\"([^\"#]*)\"|'([^']*)')\s*,\s*@?(\w+?)(?:_path|_url)?\b.*", body, re.DOTALL
        )
        if link:
            name = f"{link[3].removesuffix('_url')}_url"
            self._out.put(found, f'<a href="{{{{ {name} }}}}">{link[1] or link[2]}</a>')
            self._out.note(found, f"addresses come with the event; publish {name} in its data", lost=False)
            return
        shown = self._expression(found, body)
        if shown is None:
            self._out.leave(found, "write the value as an expression of the template language")
            return
        if raw or body.endswith((".html_safe", "raw")):
            self._out.note(
                found, "is escaped here: a letter takes no HTML out of data; build it in the template"
            )
        self._out.put(found, f"{{{{ {shown} }}}}")

    def _code(self, found: re.Match[str], body: str) -> None:
        put = self._out.put
        if re.fullmatch(r"end|\}|\}\s*\)?;?|endif;?|endforeach;?", body):
            if not self._open:
                self._out.leave(found, "closes nothing")
            else:
                put(found, f"{{% end{self._open.pop()} %}}")
            return
        if re.fullmatch(r"\}?\s*else\s*\{?:?", body):
            put(found, "{% else %}")
            return
        loop = _EACH.match(body) or _FOR_EACH.match(body) or _FOR_IN.match(body)
        if loop:
            self._loop(found, loop)
            return
        branch = _IF.fullmatch(body)
        test = self._test(found, branch["test"]) if branch else None
        if branch and test is not None:
            word = branch["word"]
            if word in ("if", "unless"):
                self._open.append("if")
            opening = "if" if word in ("if", "unless") else "elif"
            put(found, f"{{% {opening} {f'not ({test})' if word == 'unless' else test} %}}")
            return
        assigned = re.fullmatch(r"(?:var|let|const)?\s*(\w+)\s*=\s*(.+?);?", body, re.DOTALL)
        value = self._expression(found, assigned[2]) if assigned else None
        if assigned and value:
            put(found, f"{{% set {assigned[1]} = {value} %}}")
            return
        self._out.leave(found, "code runs in no letter; publish its result in the event's data")
        if re.search(r"(\bdo\b(\s*\|[^|]*\|)?|\{)\s*$", body):
            self._open.append("if")
            self._out.parts.append("{% if true %}")

    def _loop(self, found: re.Match[str], loop: re.Match[str]) -> None:
        names = [
            identifier(name)
            for name in loop["names"].replace("(", "").replace(")", "").split(",")
            if name.strip()
        ]
        listed = path(loop["listed"].lstrip("@").replace("&.", "."))
        self._open.append("for")
        if len(names) > 1:
            self._indexes.append(names[1])
        target = names[0] if names else "item"
        self._out.put(found, f"{{% for {target} in {listed} %}}")
        if len(names) > 1:
            self._out.parts.append(f"{{% set {names[1]} = loop.index0 %}}")

    def _test(self, found: re.Match[str], text: str) -> str | None:
        text = text.strip()
        while text.startswith("(") and text.endswith(")") and text.count("(") == text[1:-1].count("(") + 1:
            text = text[1:-1].strip()
        for sign, word in ((r"\s*&&\s*", " and "), (r"\s*\|\|\s*", " or "), (r"===", "=="), (r"!==", "!=")):
            text = re.sub(sign, word, text)
        parts = re.split(r"(\s+and\s+|\s+or\s+|\s*(?:==|!=|<=|>=|<|>)\s*)", text)
        shown = ""
        for index, part in enumerate(parts):
            if index % 2:
                shown += part
                continue
            word = part.strip()
            negated = re.match(r"(?:!|not\s+)\s*(?=[\w@(])", word)
            value = self._expression(found, word[negated.end() :] if negated else word)
            if value is None:
                return None
            shown += f"not {value}" if negated else value
        return shown

    def _expression(self, found: re.Match[str], text: str) -> str | None:
        text = text.strip().rstrip(";").strip()
        if re.fullmatch(r"\"[^\"#]*\"|'[^']*'", text):
            return quoted(text[1:-1])
        if re.fullmatch(r"-?\d+(\.\d+)?|true|false", text):
            return text
        if text in ("nil", "null", "undefined"):
            return "none"
        simple = re.fullmatch(rf"(?P<name>{_NAME})(?:\((?P<arguments>[^()]*)\))?", text)
        if simple:
            return self._named(found, simple["name"], simple["arguments"])
        helper = re.fullmatch(
            r"(?P<helper>\w+)[\s(]+(?P<first>@?[\w.\[\]'\"]+)(?P<rest>.*?)\)?", text, re.DOTALL
        )
        if helper:
            return self._helper(found, helper["helper"], helper["first"], helper["rest"])
        fallback = re.fullmatch(rf"(?P<name>{_NAME})\s*(?:\|\||\?\?)\s*(?P<other>\"[^\"]*\"|'[^']*')", text)
        if fallback:
            return f"{path(fallback['name'].lstrip('@'))}|default({quoted(fallback['other'][1:-1])}, true)"
        arithmetic = re.fullmatch(rf"({_NAME})\s*([*+/-])\s*({_NAME}|\d+(?:\.\d+)?)", text)
        if arithmetic:
            left, right = (self._expression(found, arithmetic[index]) for index in (1, 3))
            return f"{left} {arithmetic[2]} {right}"
        return None

    def _named(self, found: re.Match[str], name: str, arguments: str | None) -> str | None:
        name = name.lstrip("@").replace("&.", ".").replace(":", "")
        owner, _, method = name.rpartition(".")
        if not owner:
            first, _, rest = (arguments or "''").partition(",")
            return path(name) if arguments is None else self._helper(found, name, first, rest)
        endings = {
            "any?": "{}",
            "present?": "{}",
            "exists?": "{}",
            "blank?": "not {}",
            "empty?": "not {}",
            "nil?": "{} is none",
            "length": "{}|length",
            "size": "{}|length",
            "count": "{}|length",
            "upcase": "{}|upper",
            "downcase": "{}|lower",
            "toUpperCase": "{}|upper",
            "toLowerCase": "{}|lower",
            "capitalize": "{}|capitalize",
            "titleize": "{}|title",
            "strip": "{}|trim",
            "trim": "{}|trim",
            "to_s": "{}",
            "toString": "{}",
            "html_safe": "{}",
            "first": "{}|first",
            "last": "{}|last",
        }
        if method in endings:
            return endings[method].format(path(owner))
        if method in ("strftime", "format", "toLocaleDateString", "to_formatted_s"):
            self._out.note(found, DATE_NOTE, lost=False)
            return f"{path(owner)}|{date_filter(arguments or '')}"
        if method == "toFixed":
            return f"{path(owner)}|round({arguments or 0})"
        if method == "join":
            return f"{path(owner)}|join({quoted((arguments or chr(39) + ', ' + chr(39)).strip()[1:-1])})"
        if arguments is None:
            return path(name.rstrip("?"))
        return None

    def _helper(self, found: re.Match[str], helper: str, first: str, rest: str) -> str | None:
        value = self._expression(found, first)
        if value is None:
            return None
        if helper in (
            "number_to_currency",
            "formatCurrency",
            "formatMoney",
            "currency",
            "money",
            "formatPrice",
        ):
            code = re.search(r"['\"]([A-Z]{3})['\"]", rest)
            if not code:
                self._out.note(found, "the currency is set to EUR; write the letter's own", lost=False)
            return f"{value}|money({quoted(code[1] if code else 'EUR')})"
        if helper in ("number_with_delimiter", "formatNumber"):
            return f"{value}|number"
        if helper in ("l", "localize", "formatDate", "time_ago_in_words", "date", "moment"):
            self._out.note(found, DATE_NOTE, lost=False)
            return f"{value}|date"
        if helper in ("h", "escape", "sanitize", "raw", "simple_format", "String"):
            return value
        if helper == "truncate":
            size = re.search(r"\d+", rest)
            return f"{value}|truncate({size[0] if size else 30})"
        return None


def translate_embedded(source: str) -> Translation:
    """ERB or EJS."""
    return _Embedded(source).run()
