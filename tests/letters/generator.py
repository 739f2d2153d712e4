"""Random small documents with style sheets, and how to make a failing one smaller.

`random_document(rng)` draws from few classes, ids, elements and properties, so that rules meet and compete.
Everything is a value: a document renders to a page and a separate sheet, and `smaller` yields documents with
a part left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeVar

Part = TypeVar("Part")

CLASSES = ("a", "b", "c")
IDS = ("x", "y")
BLOCKS = ("div", "p", "h1", "ul", "ol", "table", "center", "blockquote", "a", "section")
INLINES = ("span", "b", "i", "a", "font", "u", "em", "img", "br")
ANY = (*BLOCKS, *INLINES, "li", "td", "tr", "th", "tbody", "dd", "pre", "hr", "input", "svg")
VOID = frozenset({"img", "br", "hr", "input"})
OPTIONAL_END = frozenset({"p", "li", "td", "th", "tr", "dd", "tbody"})
ATTRIBUTES = (
    ("title", ("t", "T", "t u", "")),
    ("align", ("left", "CENTER", "right")),
    ("dir", ("rtl", "ltr")),
    ("lang", ("de", "de-AT", "en")),
    ("href", ("https://larkfield.example/a", "#x", "mailto:a@larkfield.example?a=1&amp;b=2")),
    ("width", ("40", "50%")),
    ("bgcolor", ("#eeeeee", "red")),
    ("data-k", ("1", "one two")),
)
VALUES: dict[str, Sequence[str]] = {
    "color": ("red", "#00f", "GREEN", "rgb(1, 2, 3)", "rgb(4 5 6 / 50%)", "inherit", "var(--v)", "nonsense"),
    "background-color": ("#eee", "transparent", "hsl(120 50% 50%)", "var(--v, blue)"),
    "background": (
        "yellow",
        "none",
        "url(data:image/gif;base64,R0lGODdhAQABAIAAAC9rVwAAACwAAAAAAQABAAACAkQBADs=)",
    ),
    "margin": ("0", "1px", "2px 3px", "auto", "1px 2px 3px 4px", "inherit"),
    "margin-left": ("5px", "0", "auto", "1em"),
    "margin-inline-start": ("6px", "0"),
    "padding": ("0", "7px", "1px 8px", "calc(1px + 2px)"),
    "padding-top": ("9px", "0"),
    "padding-inline": ("3px 4px", "1px"),
    "border": ("1px solid", "0", "2px dashed red", "none"),
    "border-top": ("3px double blue", "0"),
    "border-color": ("green", "red blue", "currentcolor"),
    "border-width": ("4px", "1px 2px"),
    "font": ("italic 14px/1.5 Arial", "bold 20px serif", "inherit"),
    "font-size": ("13px", "1.5em", "80%", "small"),
    "font-weight": ("bold", "400"),
    "font-family": ("Georgia, serif", "'A B', \"C D\", monospace"),
    "line-height": ("2", "20px", "normal"),
    "text-align": ("center", "right", "start"),
    "text-decoration": ("none", "underline", "underline red"),
    "text-decoration-color": ("blue",),
    "display": ("block", "inline-block", "none", "flex"),
    "width": ("100px", "50%", "calc(100% - 10px)", "min(100%, 90px)"),
    "list-style": ("none", "square inside"),
    "vertical-align": ("top", "middle"),
    "direction": ("rtl", "ltr"),
    "--v": ("purple", "#123", "", "var(--w)"),
    "--V": ("orange",),
    "--w": ("teal", "{a:b}"),
    "letter-spacing": ("1px",),
    "mso-line-height-rule": ("exactly",),
    "float": ("left", "none"),
}
PSEUDO = (
    ":hover",
    ":first-child",
    ":last-child",
    ":nth-child(2)",
    ":nth-child(odd)",
    ":not(.a)",
    ":not(.b):not(#x)",
    ":link",
    ":visited",
    "::before",
    "::first-line",
    ":is(.a, .b)",
    ":where(.a, #x)",
    ":empty",
    ":only-child",
    ":first-of-type",
    ":root",
    ":has(.a)",
    ":focus",
    ":active",
    ":is(p, #y)",
    ":lang(de)",
)
IN_ATTRIBUTES = (
    "[title]",
    "[title=t]",
    '[title="T"]',
    "[title~=u]",
    "[align=center]",
    "[lang|=de]",
    "[data-k]",
    "[href^=https]",
    "[class]",
    "[class~=a]",
    "[style]",
    "[id=x]",
    "[dir=rtl]",
    "[TITLE=t i]",
)
HOOKS = (
    "[data-ogsc] .a",
    "u + .body .b",
    "#outlook a",
    ".ExternalClass p",
    "a[x-apple-data-detectors]",
    "[data-ogsb] p.b",
)
GROUPS = (
    "@media (max-width: 400px)",
    "@media screen and (min-width: 800px)",
    "@media (prefers-color-scheme: dark)",
    "@media print",
    "@media screen",
    "@media all",
    "@supports (display: grid)",
    "@supports (display: nonsense)",
    "@layer one",
    "@layer two",
    "@media only screen and (max-width:600px)",
)
DOCTYPES = (
    "<!doctype html>",
    "",
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">',
    "<!-- c --><!DOCTYPE HTML>",
)


@dataclass(frozen=True, slots=True)
class Node:
    """An element; `closed` is whether its end tag is written."""

    tag: str
    attributes: tuple[tuple[str, str], ...] = ()
    children: tuple["Node | str", ...] = ()
    closed: bool = True

    def render(self) -> str:
        """As HTML."""
        start = "".join([f"<{self.tag}", *(f' {name}="{value}"' for name, value in self.attributes), ">"])
        if self.tag.lower() in VOID:
            return start
        inside = "".join(each if isinstance(each, str) else each.render() for each in self.children)
        return f"{start}{inside}" + (f"</{self.tag}>" if self.closed else "")


@dataclass(frozen=True, slots=True)
class Rule:
    """One style rule, within a group where there is one."""

    selectors: tuple[str, ...]
    declarations: tuple[str, ...]
    group: str = ""

    def render(self) -> str:
        """As CSS."""
        rule = f"{', '.join(self.selectors)} {{ {'; '.join(self.declarations)} }}"
        return f"{self.group} {{ {rule} }}" if self.group else rule


@dataclass(frozen=True, slots=True)
class Document:
    """A page with style elements in its head, and a separate sheet."""

    doctype: str
    tags: bool
    """Whether html, head and body have tags."""
    body: tuple[tuple[str, str], ...]
    nodes: tuple[Node, ...]
    sheet: tuple[Rule, ...]
    blocks: tuple[tuple[Rule, ...], ...] = field(default=())

    def page(self) -> str:
        """The page as HTML."""
        styles = "".join(f"<style>\n{_css(block)}</style>\n" for block in self.blocks)
        inside = "\n".join(node.render() for node in self.nodes)
        if not self.tags:
            return f"{self.doctype}{styles}{inside}\n"
        attributes = "".join(f' {name}="{value}"' for name, value in self.body)
        return f"{self.doctype}<html><head>{styles}</head>\n<body{attributes}>{inside}</body></html>\n"

    def css(self) -> str:
        """The separate sheet."""
        return _css(self.sheet)


def _css(rules: Sequence[Rule]) -> str:
    return "".join(f"{rule.render()}\n" for rule in rules)


# --- drawing -------------------------------------------------------------------------------------


def random_document(rng: Random) -> Document:
    """A document of up to about fifteen elements and ten rules."""
    blocks = tuple(_rules(rng, rng.randint(1, 6)) for _ in range(rng.choice((0, 1, 1, 2))))
    return Document(
        doctype=rng.choice(DOCTYPES[:1] * 3 + DOCTYPES),
        tags=rng.random() < 0.8,
        body=tuple(_attributes(rng, 0.4)),
        nodes=tuple(_node(rng, 0) for _ in range(rng.randint(1, 4))),
        sheet=_rules(rng, rng.randint(0 if blocks else 2, 6)),
        blocks=blocks,
    )


def _attributes(rng: Random, often: float) -> Iterator[tuple[str, str]]:
    if rng.random() < often:
        names = rng.sample(CLASSES, rng.choice((1, 1, 2)))
        yield "class", " ".join([*names, *(["body"] if rng.random() < 0.2 else [])])
    if rng.random() < 0.15:
        yield "id", rng.choice(IDS)
    if rng.random() < 0.25:
        yield "style", "; ".join(_declarations(rng, rng.choice((1, 1, 2)))).replace('"', "&quot;")
    for name, values in rng.sample(ATTRIBUTES, rng.choice((0, 0, 1, 1, 2))):
        yield name, rng.choice(values)


def _node(rng: Random, depth: int) -> Node:
    pool = ANY if rng.random() < 0.25 else (BLOCKS if depth < 2 and rng.random() < 0.6 else INLINES)
    tag = rng.choice(pool)
    if tag == "table":
        return _table(rng, depth)
    if tag in ("ul", "ol"):
        items = (_with_tag(rng, "li", depth) for _ in range(rng.randint(1, 3)))
        return Node(tag, tuple(_attributes(rng, 0.5)), tuple(items))
    return _with_tag(rng, tag.upper() if rng.random() < 0.03 else tag, depth)


def _with_tag(rng: Random, tag: str, depth: int) -> Node:
    count = rng.choice((0, 1, 1, 2)) if depth < 3 else 0
    children: list[Node | str] = [rng.choice(("word", "x", "&amp; y", "é"))] if rng.random() < 0.7 else []
    for _ in range(count):
        children.insert(rng.randint(0, len(children)), _node(rng, depth + 1))
    closed = tag not in OPTIONAL_END or rng.random() < 0.7
    closed = closed and not (tag in ("b", "i", "a", "font") and rng.random() < 0.05)
    attributes = tuple(_attributes(rng, 0.6))
    if tag == "a" and rng.random() < 0.7:
        attributes = (
            *(each for each in attributes if each[0] != "href"),
            ("href", "https://larkfield.example/a"),
        )
    return Node(tag, attributes, tuple(children), closed)


def _table(rng: Random, depth: int) -> Node:
    rows = tuple(
        Node(
            "tr",
            tuple(_attributes(rng, 0.4)),
            tuple(
                _with_tag(rng, rng.choice(("td", "td", "th")), depth + 1) for _ in range(rng.randint(1, 2))
            ),
        )
        for _ in range(rng.randint(1, 3))
    )
    inside = (Node("tbody", tuple(_attributes(rng, 0.3)), rows),) if rng.random() < 0.3 else rows
    return Node("table", tuple(_attributes(rng, 0.5)), inside)


def _rules(rng: Random, count: int) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            tuple(_selector(rng) for _ in range(rng.choice((1, 1, 1, 2)))),
            tuple(_declarations(rng, rng.choice((1, 1, 2, 3)))),
            rng.choice(GROUPS) if rng.random() < 0.2 else "",
        )
        for _ in range(count)
    )


def _selector(rng: Random) -> str:
    if rng.random() < 0.04:
        return rng.choice(HOOKS)
    parts = [_compound(rng)]
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        parts += [rng.choice((" ", " ", " > ", " + ", " ~ ", ">")), _compound(rng)]
    return "".join(parts)


def _compound(rng: Random) -> str:
    tag = rng.choice(
        ("", "", "", "*", *BLOCKS[:5], *INLINES[:4], "td", "tr", "tbody", "body", "html", "P", "li")
    )
    parts = [tag]
    if not tag or rng.random() < 0.25:
        parts.append(
            rng.choice(
                (
                    *(f".{each}" for each in CLASSES),
                    *(f".{each}" for each in CLASSES),
                    "#x",
                    "#y",
                    ".a.b",
                    ".A",
                )
            )
        )
    if rng.random() < 0.12:
        parts.append(rng.choice(IN_ATTRIBUTES))
    if rng.random() < 0.15:
        parts.append(rng.choice(PSEUDO))
    return "".join(parts)


def _declarations(rng: Random, count: int) -> Iterator[str]:
    for _ in range(count):
        name = rng.choice(list(VALUES))
        important = rng.choice((" !important", "!IMPORTANT")) if rng.random() < 0.12 else ""
        shown = name.upper() if rng.random() < 0.03 and not name.startswith("--") else name
        yield f"{shown}: {rng.choice(VALUES[name])}{important}"


# --- shrinking -----------------------------------------------------------------------------------


def smaller(document: Document) -> Iterator[Document]:
    """Documents with one part less, the largest parts first."""
    for n in range(len(document.blocks)):
        yield replace(document, blocks=_without(document.blocks, n))
    for sheet in _smaller_rules(document.sheet):
        yield replace(document, sheet=sheet)
    for n, block in enumerate(document.blocks):
        for rules in _smaller_rules(block):
            yield replace(document, blocks=(*document.blocks[:n], rules, *document.blocks[n + 1 :]))
    for nodes in _smaller_children(document.nodes):
        yield replace(document, nodes=tuple(each for each in nodes if isinstance(each, Node)))
    for n in range(len(document.body)):
        yield replace(document, body=_without(document.body, n))
    if document.doctype != DOCTYPES[0]:
        yield replace(document, doctype=DOCTYPES[0])
    if not document.tags:
        yield replace(document, tags=True)


def _without(values: tuple[Part, ...], n: int) -> tuple[Part, ...]:
    return values[:n] + values[n + 1 :]


def _smaller_rules(rules: tuple[Rule, ...]) -> Iterator[tuple[Rule, ...]]:
    for n in range(len(rules)):
        yield _without(rules, n)
    for n, rule in enumerate(rules):
        for less in _smaller_rule(rule):
            yield (*rules[:n], less, *rules[n + 1 :])


def _smaller_rule(rule: Rule) -> Iterator[Rule]:
    if rule.group:
        yield replace(rule, group="")
    if len(rule.selectors) > 1:
        for n in range(len(rule.selectors)):
            yield replace(rule, selectors=_without(rule.selectors, n))
    if len(rule.declarations) > 1:
        for n in range(len(rule.declarations)):
            yield replace(rule, declarations=_without(rule.declarations, n))
    for n, selector in enumerate(rule.selectors):
        for less in _smaller_selector(selector):
            yield replace(rule, selectors=(*rule.selectors[:n], less, *rule.selectors[n + 1 :]))
    for n, declaration in enumerate(rule.declarations):
        plain = declaration.replace(" !important", "").replace("!IMPORTANT", "")
        if plain != declaration:
            yield replace(rule, declarations=(*rule.declarations[:n], plain, *rule.declarations[n + 1 :]))


def _smaller_selector(selector: str) -> Iterator[str]:
    words = selector.split(" ")
    for begin in range(1, len(words)):
        if words[begin] not in (">", "+", "~"):
            yield " ".join(words[begin:])


def _smaller_children(children: tuple[Node | str, ...]) -> Iterator[tuple[Node | str, ...]]:
    for n, child in enumerate(children):
        yield _without(children, n)
        if isinstance(child, Node):
            if child.children:
                yield (*children[:n], *child.children, *children[n + 1 :])
            for less in _smaller_node(child):
                yield (*children[:n], less, *children[n + 1 :])


def _smaller_node(node: Node) -> Iterator[Node]:
    for n in range(len(node.attributes)):
        yield replace(node, attributes=_without(node.attributes, n))
    for children in _smaller_children(node.children):
        yield replace(node, children=children)
    if not node.closed:
        yield replace(node, closed=True)
    if node.tag != node.tag.lower():
        yield replace(node, tag=node.tag.lower())
