"""CSS selectors, as far as inlining must understand them (Selectors Level 4).

Tokens of tinycss2 in, one `Selector` for each member of the comma-separated list out. A selector is
taken apart into compounds and their simple selectors, which answers four questions: how specific it is,
whether the document alone decides what it matches, which attributes it reads, and what it may match once
a mail client or a reader changes the page. Matching itself is turbohtml's.

Failure: `SelectorError` names the part that is not a selector.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import tinycss2  # type: ignore[import-untyped]

Specificity = tuple[int, int, int]
Kind = Literal["type", "universal", "class", "id", "attribute", "logical", "structural", "state", "element"]

STRUCTURAL = frozenset(
    "first-child last-child only-child first-of-type last-of-type only-of-type nth-child nth-last-child"  # noqa: SIM905  a table
    " nth-of-type nth-last-of-type empty".split()
)
"""Pseudo-classes that the element's neighbours or content decide."""
LOGICAL = frozenset(("is", "not", "where", "matches"))
FORGIVING = frozenset(("is", "where", "matches"))
"""Their lists may hold what is no selector, or nothing at all."""
LEGACY_ELEMENTS = frozenset(("before", "after", "first-line", "first-letter"))
"""Pseudo-elements that may be written with one colon."""
COMBINATORS = frozenset((">", "+", "~"))
KNOWN_STATES = frozenset(
    """
    active any-link autofill checked default defined dir disabled enabled first focus focus-visible
    focus-within fullscreen future host hover in-range indeterminate invalid lang left link modal
    optional out-of-range past paused placeholder-shown playing popover-open read-only read-write
    required right root scope target user-invalid user-valid valid visited
    """.split()  # noqa: SIM905  a table
)
KNOWN_ELEMENTS = frozenset(
    "before after first-line first-letter selection placeholder marker backdrop file-selector-button cue part"  # noqa: SIM905  a table
    " slotted".split()
)
"""Pseudo-classes and -elements of all of today's browsers, beside those above and `::-webkit-…`."""


class SelectorError(ValueError):
    """A text is no selector; the message says which part of it."""


@dataclass(frozen=True, slots=True)
class Simple:
    """One simple selector: `.card`, `[title]`, `:hover`."""

    kind: Kind
    text: str
    name: str
    specificity: Specificity
    attributes: frozenset[str] = frozenset()
    """Names of the attributes that decide its match, in lower case."""
    known: bool = True
    """All of today's browsers read it; one that does not leaves out the whole rule."""


@dataclass(frozen=True)
class Compound:
    """Simple selectors without a combinator between them, and the combinator before them."""

    combinator: str
    simples: tuple[Simple, ...]

    def text(self, without: Iterable[Kind] = ()) -> str:
        """The compound without some kinds of its parts; `*` where nothing is left."""
        left_out = set(without)
        return "".join(simple.text for simple in self.simples if simple.kind not in left_out) or "*"

    def without_attribute(self, name: str) -> str:
        """The compound without what an attribute, neighbours or states decide; `*` where nothing is left."""
        kept = (
            simple.text
            for simple in self.simples
            if name not in simple.attributes and simple.kind not in ("structural", "state", "element")
        )
        return "".join(kept) or "*"

    def has(self, kind: Kind) -> bool:
        """Whether a part is of this kind."""
        return any(simple.kind == kind for simple in self.simples)


@dataclass(frozen=True)
class Selector:
    """One complex selector."""

    text: str
    compounds: tuple[Compound, ...]

    @cached_property
    def simples(self) -> tuple[Simple, ...]:
        """All parts."""
        return tuple(simple for compound in self.compounds for simple in compound.simples)

    @cached_property
    def specificity(self) -> Specificity:
        """Selectors 4 §17: ids; classes, attributes and pseudo-classes; types and pseudo-elements."""
        a, b, c = zip(*(simple.specificity for simple in self.simples), strict=True)
        return sum(a), sum(b), sum(c)

    @cached_property
    def is_known(self) -> bool:
        """Whether all of today's browsers read it."""
        return all(simple.known for simple in self.simples)

    @cached_property
    def is_static(self) -> bool:
        """Whether the document alone decides what it matches: no state, no pseudo-element."""
        return not any(simple.kind in ("state", "element") for simple in self.simples)

    @cached_property
    def styles_element(self) -> bool:
        """Whether it styles an element, and not a pseudo-element of it."""
        return not any(simple.kind == "element" for simple in self.simples)

    @cached_property
    def attributes(self) -> frozenset[str]:
        """Names of the attributes that decide its match, in lower case."""
        return frozenset().union(*(simple.attributes for simple in self.simples))

    @cached_property
    def to_match(self) -> str:
        """The selector without prefixes of namespaces, which mean nothing in HTML."""
        return self._join(self.compounds, ())

    @cached_property
    def without_state(self) -> str:
        """The selector without its states: all that it may match at any time."""
        return self._join(self.compounds, ("state", "element"))

    @property
    def subject(self) -> Compound:
        """The last compound, which the styled element itself must match."""
        return self.compounds[-1]

    def neighbour_compounds(self) -> Iterator[str]:
        """Compounds whose match depends on siblings or content, without what makes it depend."""
        for index, compound in enumerate(self.compounds):
            following = self.compounds[index + 1].combinator if index + 1 < len(self.compounds) else ""
            adjacent = compound.combinator in ("+", "~") or following in ("+", "~")
            if adjacent or compound.has("structural"):
                yield compound.text(("structural", "state", "element"))

    @staticmethod
    def _join(compounds: Iterable[Compound], without: Iterable[Kind]) -> str:
        return "".join(each.combinator + each.text(without) for each in compounds).lstrip()


def read_selectors(prelude: Sequence[Any]) -> list[Selector]:
    """The selectors of a rule's prelude. Raises SelectorError."""
    return [read_selector(tokens) for tokens in split_list(prelude)]


def split_list(tokens: Iterable[Any]) -> Iterator[list[Any]]:
    """The parts of a list whose commas stand outside of brackets."""
    held: list[Any] = []
    for token in tokens:
        if token == ",":
            yield held
            held = []
        else:
            held.append(token)
    yield held


def read_selector(tokens: Iterable[Any]) -> Selector:
    """One complex selector. Raises SelectorError."""
    found = [token for token in tokens if token.type != "comment"]
    while found and found[0].type == "whitespace":
        found.pop(0)
    while found and found[-1].type == "whitespace":
        found.pop()
    text = _text(found)
    compounds: list[Compound] = []
    simples: list[Simple] = []
    combinator = ""
    index = 0
    while index < len(found):
        token = found[index]
        if token.type == "whitespace" or (token.type == "literal" and token.value in COMBINATORS):
            if simples:
                compounds.append(Compound(combinator, tuple(simples)))
                simples, combinator = [], " "
            if token.type == "literal":
                if combinator not in ("", " ") or not compounds:
                    raise SelectorError(f"`{text[:60]}` has a `{token.value}` without a selector before it")
                combinator = token.value
            index += 1
        else:
            simple, index = _read_simple(found, index)
            simples.append(simple)
    if not simples:
        place = f" ends in `{combinator}`" if compounds else " is empty"
        raise SelectorError(f"`{text[:60]}`{place}")
    compounds.append(Compound(combinator, tuple(simples)))
    _check_elements(text, compounds)
    return Selector(text, tuple(compounds))


def _check_elements(text: str, compounds: Sequence[Compound]) -> None:
    """Nothing but states and pseudo-elements may follow a pseudo-element (Selectors 4 §3.6)."""
    for index, compound in enumerate(compounds):
        kinds = [simple.kind for simple in compound.simples]
        if "element" not in kinds:
            continue
        after = kinds[kinds.index("element") :]
        if index + 1 < len(compounds) or not set(after) <= {"element", "state", "structural"}:
            raise SelectorError(f"`{text[:60]}` goes on behind a pseudo-element, which has nothing in it")


def _text(tokens: Sequence[Any]) -> str:
    """The tokens as CSS, without the empty comments that keep numbers and signs apart."""
    text = str(tinycss2.serialize(tokens))
    return text if '"' in text else text.replace("/**/", "")


def _read_simple(tokens: list[Any], index: int) -> tuple[Simple, int]:
    token = tokens[index]
    text = _text([token])
    match token.type:
        case "ident":
            return _qualified(tokens, index) or (
                Simple("type", text, token.lower_value, (0, 0, 1)),
                index + 1,
            )
        case "hash" if token.is_identifier:
            return Simple("id", text, token.value, (1, 0, 0), frozenset(("id",))), index + 1
        case "[] block":
            return _attribute(token, text), index + 1
        case "literal" if token.value == "*":
            return _qualified(tokens, index) or (Simple("universal", "*", "*", (0, 0, 0)), index + 1)
        case "literal" if token.value == "." and _type_at(tokens, index + 1) == "ident":
            name = tokens[index + 1]
            simple = Simple("class", "." + name.serialize(), name.value, (0, 1, 0), frozenset(("class",)))
            return simple, index + 2
        case "literal" if token.value == ":":
            return _pseudo(tokens, index)
        case "literal" if token.value == "|":
            qualified = _qualified(tokens, index)
            if qualified:
                return qualified
    raise SelectorError(f"`{tinycss2.serialize(tokens)[:60]}` is not a selector: `{text[:20]}` is in the way")


def _type_at(tokens: list[Any], index: int) -> str:
    return tokens[index].type if index < len(tokens) else ""


def _qualified(tokens: list[Any], index: int) -> tuple[Simple, int] | None:
    """`svg|a`, `|a`: what it matches depends on `@namespace`, so it stays in the sheet. `*|a` is `a`."""
    start = index if tokens[index] == "|" else index + 1
    if start + 1 >= len(tokens) or tokens[start] != "|" or tokens[start + 1] == "=":
        return None
    name = tokens[start + 1]
    if name.type != "ident" and name != "*":
        return None
    specificity = (0, 0, int(name.type == "ident"))
    if tokens[index] == "*" and name.type == "ident":
        return Simple("type", _text([name]), name.lower_value, specificity), start + 2
    if tokens[index] == "*":
        return Simple("universal", "*", "*", specificity), start + 2
    text = tinycss2.serialize(tokens[index : start + 2])
    # without an `@namespace` for it, the rule is invalid
    return Simple("state", text, text, specificity, known=False), start + 2


def _attribute(token: Any, text: str) -> Simple:
    content = [each for each in token.content if each.type not in ("whitespace", "comment")]
    if not content or content[0].type != "ident":
        raise SelectorError(f"`{text[:60]}` names no attribute")
    name = content[0].lower_value
    flag = content[-1].lower_value if len(content) > 3 and content[-1].type == "ident" else "i"
    return Simple("attribute", text, name, (0, 1, 0), frozenset((name,)), known=flag == "i")


def _pseudo(tokens: list[Any], index: int) -> tuple[Simple, int]:
    double = index + 1 < len(tokens) and tokens[index + 1] == ":"
    at = index + 2 if double else index + 1
    if _type_at(tokens, at) not in ("ident", "function"):
        raise SelectorError(f"`{tinycss2.serialize(tokens)[:60]}` has a colon without a name behind it")
    token = tokens[at]
    text = (":" if not double else "::") + _text([token])
    name = token.lower_value if token.type == "ident" else token.lower_name
    if double or name in LEGACY_ELEMENTS:
        known = name in KNOWN_ELEMENTS or name.startswith("-webkit-")
        return Simple("element", text, name, (0, 0, 1), known=known), at + 1
    if token.type == "function":
        return _functional(token, text, name), at + 1
    kind: Kind = "structural" if name in STRUCTURAL else "logical" if name == "root" else "state"
    return Simple(kind, text, name, (0, 1, 0), known=kind != "state" or name in KNOWN_STATES), at + 1


def _functional(token: Any, text: str, name: str) -> Simple:
    if name == "has":
        relative = [[*_anchor(), *arguments] for arguments in split_list(token.arguments)]
        inner = [read_selector(arguments) for arguments in relative]
        kind: Kind = "structural" if all(each.is_static for each in inner) else "state"
        return Simple(kind, text, name, _most(inner), _attributes(inner), known=_all_known(inner))
    if name in FORGIVING:
        inner, whole = _forgiving(token.arguments)
        if not whole:
            weight = (0, 0, 0) if name == "where" else _most(inner)
            return Simple("state", text, name, weight, _attributes(inner), known=_all_known(inner))
    if name in LOGICAL:
        inner = read_selectors(token.arguments)
        weight = (0, 0, 0) if name == "where" else _most(inner)
        known = name != "matches" and _all_known(inner)
        return Simple(_logical_kind(inner), text, name, weight, _attributes(inner), known=known)
    if name in STRUCTURAL:
        of = [
            i for i, each in enumerate(token.arguments) if each.type == "ident" and each.lower_value == "of"
        ]
        inner = read_selectors(token.arguments[of[0] + 1 :]) if of else []
        a, b, c = _most(inner) if inner else (0, 0, 0)
        static = all(each.is_static for each in inner)
        return Simple("structural" if static else "state", text, name, (a, b + 1, c), _attributes(inner))
    return Simple("state", text, name, (0, 1, 0), known=name in KNOWN_STATES)


def _all_known(inner: Iterable[Selector]) -> bool:
    return all(each.is_known for each in inner)


def _forgiving(arguments: Sequence[Any]) -> tuple[list[Selector], bool]:
    """The valid selectors of `:is()` and `:where()`, and whether there is no other (Selectors 4 §18.1)."""
    valid: list[Selector] = []
    whole = True
    for tokens in split_list(arguments):
        try:
            valid.append(read_selector(tokens))
        except SelectorError:
            whole = False
    return valid, whole


def _anchor() -> list[Any]:
    """A `*` in front of the relative selector of `:has(> p)`; it weighs nothing."""
    return list(tinycss2.parse_component_value_list("* "))


def _logical_kind(inner: Iterable[Selector]) -> Kind:
    if not all(each.is_static for each in inner):
        return "state"
    # a combinator of siblings inside of `:is()` reads neighbours, too
    reads_neighbours = any(any(True for _ in each.neighbour_compounds()) for each in inner)
    return "structural" if reads_neighbours else "logical"


def _most(inner: Iterable[Selector]) -> Specificity:
    return max((each.specificity for each in inner), default=(0, 0, 0))


def _attributes(inner: Iterable[Selector]) -> frozenset[str]:
    return frozenset().union(*(each.attributes for each in inner))
