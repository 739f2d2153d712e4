"""CSS onto elements: the page's source with `style` attributes added, and nothing else changed.

Many mail clients read `style` attributes and little else. A page and its CSS in; out, the same source, byte
for byte, except for two things:

- Elements carry the declarations of the rules that match them, in the order of the cascade and in front
  of the author's own `style`, so that each client resolves them as it would have resolved the sheet.
- `<style>` elements lose the rules that went onto elements, and comments. What no attribute can say stays
  in its place and order: media queries and other groups, `:hover` and other states, pseudo-elements,
  `@font-face`, `@import`, rules that match nothing (a mail client may add what they match), rules for
  elements without a tag, rules for markup in conditional comments, rules for the links that Apple Mail
  makes (where the author names these), and what the author exempts. It gets `!important` where it must
  beat what was inlined (`cascade`).

`inline_page` does so to a rendered page. `inline_source` does so to template source, once, so that a letter
costs nothing; it raises CannotInline with the reason where the result could depend on the event
(`template_source`). Nothing is fetched, and no page is refused for its CSS.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

from turbohtml import Element

from postroom.letter.html.attributes import attributes_of
from postroom.letter.html.cascade import ElementGroup, Key, Plain, Rank, Solution, Staying, overlap, solve
from postroom.letter.html.markup import Edit, Markup, edited, is_exempt
from postroom.letter.html.selectors import Selector
from postroom.letter.html.stylesheet import (
    CannotInline,
    Declaration,
    Group,
    Item,
    Sheet,
    StyleRule,
    Verbatim,
    read_declarations,
    read_sheet,
)
from postroom.letter.html.values import is_certain

FORMATTING = frozenset(
    "a b big code em font i nobr s small strike strong tt u".split()  # noqa: SIM905  a table
)
"""Elements that a parser clones when they are not closed where they should be (HTML §13.2.4.3)."""
NO_MARGIN = frozenset(
    "a abbr article b big center code div em font footer header html i main nav s section small span strong"  # noqa: SIM905  a table
    " sub sup table tbody tfoot thead tr u".split()
)
"""Elements that browsers show without margin and padding, so that a reset of these need not be written."""
HEAD = frozenset(("head", "base", "link", "meta", "noscript", "script", "style", "template", "title"))
SIDES = frozenset(("top", "right", "bottom", "left"))
CLIENT_HOOK = re.compile(
    r"\bu\s*[+~]|\[\s*data-og|\[\s*owa|#outlook|\.(?:ExternalClass|ReadMsgBody|yshortcuts|moz-text)|#MessageView",
    re.IGNORECASE,
)
"""What Gmail, Outlook.com, Outlook, Yahoo, Thunderbird and Samsung's client bring to match.
Other rules that match nothing are left over from a framework."""
WITHIN_STYLE = re.compile(r"\[\s*style\s*[*$]=", re.IGNORECASE)
APPLE_LINK = "x-apple-data-detectors"
"""Apple Mail writes it on the links that it makes itself of dates and addresses, and on no other element."""
STYLE_TAG = ("<style>\n", "\n</style>\n")
ORDER = 4096
"""Declarations of a rule; the place of one in the order of all is rule × ORDER + place in the rule."""

Role = Literal["plain", "staying", "optional", "apart"]
"""A selector's part in the cascade. `plain`: goes inline. `staying`: stays, and may apply to elements.
`optional`: stays, and applies only if a mail client changes the page. `apart`: stays, and styles no
element itself."""


@dataclass(frozen=True)
class _Candidate:
    """One selector of one rule."""

    sheet: int
    rule: StyleRule
    number: int
    """Of the selector in its rule."""
    order: int
    """Of the rule among all sheets' rules."""
    role: Role
    elements: Sequence[Element]
    """What it matches, or may match."""
    fixed: bool
    """It stays as it is written."""

    @property
    def selector(self) -> Selector:
        return self.rule.selectors[self.number]

    @property
    def is_unused_all(self) -> bool:
        """Whether it is a rule with `all` that matches nothing, and no client's hook: it is left as it is."""
        if self.role != "optional" or CLIENT_HOOK.search(self.selector.text):
            return False
        return any(each.name == "all" for each in self.rule.declarations)

    def key(self, declaration: int) -> Key:
        return self.order, self.number, declaration

    def rank(self, declaration: int) -> Rank:
        important = self.rule.declarations[declaration].important
        layer = (1 if important else -1) if self.rule.layered else 0
        place = self.order * ORDER + declaration
        return (int(important), 0, layer, *self.selector.specificity, place)


@dataclass(frozen=True, slots=True)
class DynamicPlaces:
    """Where data decide an attribute, in template source."""

    style: frozenset[Element] = frozenset()
    """Elements whose `style` attribute holds a value of the event."""
    conditional_style: frozenset[Element] = frozenset()
    """Elements whose `style` attribute is there only for some events."""
    tags: frozenset[Element] = frozenset()
    """Elements with an expression between their attributes."""


NOT_DYNAMIC = DynamicPlaces()


@dataclass(frozen=True, slots=True)
class InlineOptions:
    """What a template asks for beside `style` attributes."""

    attributes: frozenset[str] = frozenset()
    """HTML attributes that are written from CSS where the author wrote none (`attributes`)."""
    keep_styles: bool = False
    """`<style>` elements keep the rules that went onto elements, too."""


DEFAULT_OPTIONS = InlineOptions()


def inline_page(page: str, css: str = "", options: InlineOptions = DEFAULT_OPTIONS) -> str:
    """The page with `css` and its own styles on the elements. Raises Rejected (too_deep)."""
    if not css.strip() and "<style" not in page.lower():
        return page
    return Inliner(Markup(page), css, options=options).write(page)


class Inliner:
    """The inlining of one page: what is matched, what is decided, what is written."""

    def __init__(
        self,
        markup: Markup,
        css: str,
        dynamic: DynamicPlaces = NOT_DYNAMIC,
        options: InlineOptions = DEFAULT_OPTIONS,
    ) -> None:
        self._markup = markup
        self._dynamic = dynamic
        self._options = options
        self.sheets: list[Sheet] = [read_sheet(css)] if css.strip() else []
        self._own_sheets = len(self.sheets)
        self.sheets += [read_sheet(style.css, style.media) for style in markup.styles]
        self.candidates = list(self._read_candidates())

    # --- what matches ----------------------------------------------------------------------------

    def _read_candidates(self) -> Iterator[_Candidate]:
        order = 0
        for number, sheet in enumerate(self.sheets):
            style = number - self._own_sheets
            exempt = style >= 0 and self._markup.styles[style].exempt
            for rule in sheet.rules:
                for index, selector in enumerate(rule.selectors):
                    role, elements = self._match(selector, stays=exempt or rule.conditional or rule.whole)
                    yield _Candidate(number, rule, index, order, role, elements, exempt or rule.whole)
                order += 1

    def _match(self, selector: Selector, *, stays: bool) -> tuple[Role, Sequence[Element]]:
        if not selector.styles_element:
            return "apart", ()
        if selector.is_static and not stays:
            elements = self._markup.select(selector.to_match)
            # what a `style` attribute decides is decided: no client writes one, and ours must not count
            if elements or ("style" in selector.attributes and not WITHIN_STYLE.search(selector.text)):
                return "plain", elements
        else:
            elements = self._markup.select(selector.without_state)
            if elements:
                return "staying", elements
        return "optional", self._may_come_to_match(selector)

    def _may_come_to_match(self, selector: Selector) -> Sequence[Element]:
        """Elements that match what the selector says of them, as far as the document knows its names."""
        tags, classes, ids, attributes = self._names
        known = []
        for simple in selector.subject.simples:
            if simple.kind == "type" and simple.name not in tags:
                return ()
            if simple.kind == "attribute" and simple.name == APPLE_LINK:
                return ()
            is_known = {
                "type": True,
                "class": simple.name in classes,
                "id": simple.name in ids,
                "attribute": simple.name in attributes,
            }.get(simple.kind, False)
            if is_known:
                known.append(simple.text)
        return self._markup.select("".join(known)) if known else ()

    @cached_property
    def _names(self) -> tuple[set[str], set[str], set[str], set[str]]:
        """Tags, classes, ids and attributes of the document."""
        tags: set[str] = set()
        classes: set[str] = set()
        ids: set[str] = set()
        attributes: set[str] = set()
        for element in self._markup.elements:
            tags.add(element.tag.lower())
            attributes.update(element.attrs)
            classes.update((element.attr("class") or "").split())
            ids.add(element.attr("id") or "")
        return tags, classes, ids, attributes

    # --- what is decided -------------------------------------------------------------------------

    @cached_property
    def _members(self) -> dict[tuple[object, ...], list[Element]]:
        """Elements that are alike: matched by the same selectors, with the same style of their own."""
        plain: dict[Element, list[int]] = {}
        staying: dict[Element, list[int]] = {}
        for number, candidate in enumerate(self.candidates):
            into = plain if candidate.role == "plain" else staying
            for element in candidate.elements:
                into.setdefault(element, []).append(number)
        unwritable = self._unwritable(plain)
        members: dict[tuple[object, ...], list[Element]] = {}
        for element in self._markup.elements:
            if element not in plain and element not in staying:
                continue
            signature = (
                tuple(plain.get(element, ())),
                tuple(staying.get(element, ())),
                element.attr("style"),
                element not in unwritable,
                element in self._dynamic.style,
                element.tag in NO_MARGIN,
            )
            members.setdefault(signature, []).append(element)
        return members

    def _unwritable(self, plain: dict[Element, list[int]]) -> set[Element]:
        """Elements that no attribute can be written for: implied, cloned otherwise, in the head, exempt."""
        out = self._matched_by_style()
        originals: list[Element] = []
        for element in self._markup.elements:
            tag = element.tag
            if self._markup.is_written(element):
                if tag in FORMATTING:
                    originals.append(element)
                if tag in HEAD or is_exempt(element) or self._has_style_elsewhere(element):
                    out.add(element)
            elif tag in FORMATTING:
                # a clone has the attributes of its original, and so its styles; that one has no end tag
                alike = [
                    each
                    for each in originals
                    if each.tag == tag and each.attrs == element.attrs and not self._markup.is_closed(each)
                ]
                if not alike or any(plain.get(each) != plain.get(element) for each in alike):
                    out |= {element, *alike}
            else:
                out.add(element)
        return out

    def _has_style_elsewhere(self, element: Element) -> bool:
        """Whether its style stands in a second tag, as of a second `<body>`, and may come from data."""
        if self._dynamic is NOT_DYNAMIC or element.attr("style") is None:
            return False
        return self._markup.attribute(element, "style") is None

    def _matched_by_style(self) -> set[Element]:
        """Elements that a selector such as `[style]` matches otherwise once an attribute is written.

        `[style*="margin: 16px 0"]` is not among these: what the author wrote stays in the attribute, and
        nothing is written with a space behind the colon.
        """
        return {
            element
            for candidate in self.candidates
            if candidate.role == "staying" and "style" in candidate.selector.attributes
            if not WITHIN_STYLE.search(candidate.selector.text)
            for compound in candidate.selector.compounds
            if any("style" in simple.attributes for simple in compound.simples)
            for element in self._markup.select(compound.without_attribute("style"))
            if element.attr("style") is None or "=" in candidate.selector.text
        }

    @cached_property
    def _groups(self) -> list[ElementGroup]:
        return [self._group(signature) for signature in self._members]

    def _group(self, signature: tuple[object, ...]) -> ElementGroup:
        plain_numbers, staying_numbers, style, writable, dynamic, _ = signature
        assert isinstance(plain_numbers, tuple)
        assert isinstance(staying_numbers, tuple)
        plain = [
            Plain(
                declaration.name,
                declaration.important,
                candidate.rank(index),
                candidate.key(index),
                certain=is_certain(declaration.name, declaration.value),
                value=declaration.value,
            )
            for candidate in (self.candidates[number] for number in plain_numbers)
            for index, declaration in enumerate(candidate.rule.declarations)
        ]
        staying = [
            Staying(
                declaration.name,
                declaration.important,
                candidate.rank(index),
                candidate.key(index),
                condition=candidate.rule.condition,
                steady=candidate.selector.is_static
                and not candidate.rule.whole
                and is_certain(declaration.name, declaration.value),
                optional=candidate.role == "optional",
                value=declaration.value,
                fixed=candidate.fixed,
            )
            for candidate in (self.candidates[number] for number in staying_numbers)
            if not candidate.is_unused_all
            for index, declaration in enumerate(candidate.rule.declarations)
        ]
        if dynamic and isinstance(style, str):
            plain += dynamic_declarations(style)
        elif isinstance(style, str):
            plain += own_declarations(style)
        # `all` competes with every property at once, so that no importance could be right for each of them
        own_all = any(each.name == "all" for each in plain) and not all(each.optional for each in staying)
        staying_all = any(each.name == "all" for each in staying)
        return ElementGroup(plain, staying, bool(writable) and not own_all and not staying_all)

    @cached_property
    def solution(self) -> Solution:
        """What goes inline and what must be important."""
        animated = {name for sheet in self.sheets for name in sheet.animated}
        return solve(self._groups, animated)

    @cached_property
    def _in_sheet(self) -> dict[tuple[int, int], frozenset[int]]:
        """Declarations that stay in the sheet, for each selector by order of its rule and number in it."""
        apart: dict[tuple[int, int], set[int]] = {}
        for order, number, index in self.solution.mirrored.union(*self.solution.left, *self.solution.demoted):
            apart.setdefault((order, number), set()).add(index)
        stay = {place: frozenset(indexes) for place, indexes in apart.items()}
        for candidate in self.candidates:
            if (
                candidate.role != "plain"
                or self._options.keep_styles
                or self._is_for_outlook(candidate.selector)
                or self._is_for_made_links(candidate.selector)
            ):
                whole = frozenset(range(len(candidate.rule.declarations)))
                stay[candidate.order, candidate.number] = whole
        return stay

    def _is_for_outlook(self, selector: Selector) -> bool:
        """Whether it may match markup in a conditional comment, which is no element here."""
        tags, classes, ids = self._markup.conditional_names
        if not tags:
            return False
        names = {"type": tags, "class": classes, "id": ids}
        return all(
            simple.name in names[simple.kind] for simple in selector.subject.simples if simple.kind in names
        )

    @cached_property
    def _has_made_links(self) -> bool:
        """Whether the author cares for the links that Apple Mail makes of dates and addresses."""
        return any(APPLE_LINK in each.selector.attributes for each in self.candidates)

    def _is_for_made_links(self, selector: Selector) -> bool:
        """Whether it matches links that a mail client makes: elements that have no class and no `style`."""
        subject = selector.subject.simples
        return self._has_made_links and all(
            simple.kind == "universal" or (simple.kind == "type" and simple.name == "a") for simple in subject
        )

    # --- what is written -------------------------------------------------------------------------

    def beaten_hooks(self) -> Iterator[str]:
        """Selectors of client hooks that an inline declaration beats, though they beat it in the source."""
        beaten = {key[:2] for key in self.solution.beaten}
        for candidate in self.candidates:
            is_hook = CLIENT_HOOK.search(candidate.selector.text)
            if is_hook and (candidate.order, candidate.number) in beaten:
                yield candidate.selector.text

    def write(self, source: str) -> str:
        """The source with the styles in it. `source` has its tags where the parsed page has them."""
        return edited(source, [*self._element_edits(source), *self._style_edits()])

    def _element_edits(self, source: str) -> Iterator[Edit]:
        rules = self._rules_by_order
        for number, (signature, elements) in enumerate(self._members.items()):
            group = self._groups[number]
            if not group.writable:
                continue
            raised, left = self.solution.raised[number], self.solution.left[number]
            demoted = self.solution.demoted[number]
            chosen = sorted(
                (each for each in group.plain if not each.own and each.key not in left),
                key=lambda each: each.rank,
            )
            if signature[5]:
                chosen = [each for each in chosen if not self._is_needless_reset(each, group)]
            found = [(rules[each.key[0]].declarations[each.key[2]], each) for each in chosen]
            texts: tuple[list[str], list[str]] = ([], [])
            for declaration, each in without_beaten(found):
                important = (declaration.important and each.key not in demoted) or each.key in raised
                # one that was important still beats the author's
                behind = each.key in demoted and any(
                    other.own and not other.important and overlap(other.name, each.name)
                    for other in group.plain
                )
                texts[behind].append(declaration.text(important=important))
            text, text_behind = map(";".join, texts)
            own = [each for each in group.plain if each.own and each.key in raised]
            style = signature[2]
            rewritten = (
                _raise_own(style, {each.key[2] for each in own}) if own and isinstance(style, str) else None
            )
            if text or text_behind or rewritten is not None:
                attribute = f' style="{quoted(text)}"'
                for element in elements:
                    if not self._markup.is_written(element):
                        continue
                    if style is None:
                        at = self._markup.name_end(element)
                        yield Edit(at, at, attribute)
                    else:
                        yield self._element_edit(source, element, text, rewritten, text_behind)
                    if self._options.attributes:
                        yield from self._attribute_edits(element, f"{text};{text_behind}")

    def _is_needless_reset(self, plain: Plain, group: ElementGroup) -> bool:
        """Whether it is the `margin: 0` of a universal rule for an element that has no margin anyway."""
        order, number, index = plain.key
        rule = self._rules_by_order[order]
        declaration = rule.declarations[index]
        if rule.selectors[number].text != "*" or declaration.name not in ("margin", "padding"):
            return False
        if plain.important or declaration.value not in ("0", "0px"):
            return False
        others: list[Plain | Staying] = [*group.plain, *group.staying]
        return not any(each.rank < plain.rank and overlap(each.name, plain.name) for each in others)

    @cached_property
    def _rules_by_order(self) -> dict[int, StyleRule]:
        return {candidate.order: candidate.rule for candidate in self.candidates}

    def _attribute_edits(self, element: Element, css: str) -> Iterator[Edit]:
        """HTML attributes for the declarations, where the template asks for them and the author has none."""
        if element in self._dynamic.tags:  # an attribute may be there for some events
            return
        written = self._markup.attribute_names(element)
        at = self._markup.name_end(element)
        for name, value in attributes_of(element.tag, css, self._options.attributes):
            if name not in written:
                yield Edit(at, at, f' {name}="{value}"')

    def _element_edit(
        self, source: str, element: Element, text: str, rewritten: str | None, behind: str
    ) -> Edit:
        if element in self._dynamic.conditional_style:
            raise CannotInline(f"the `style` of a <{element.tag}> is there only for some events")
        found = self._markup.attribute(element, "style")
        if (
            found is None
        ):  # of a second `<body>`: the parser keeps the first tag's attribute, once there is one
            own = rewritten if rewritten is not None else element.attr("style") or ""
            at = self._markup.name_end(element)
            return Edit(at, at, f' style="{quoted(";".join(filter(None, (text, own, behind))))}"')
        own = source[found.value_start : found.value_end]
        quote = found.quote or ("'" if '"' in own else '"')
        if rewritten is not None:
            own = quoted(rewritten, quote)
        if behind:
            own = own.rstrip().removesuffix(";")
        css = ";".join(each for each in (quoted(text, quote), own, quoted(behind, quote)) if each.strip())
        return Edit(found.start, found.end, f"style={quote}{css}{quote}")

    def _style_edits(self) -> Iterator[Edit]:
        if self._own_sheets:
            text = self._sheet_text(0)
            if text:
                at = self._markup.place_for_style()
                yield Edit(at, at, text.join(STYLE_TAG))
        for number, style in enumerate(self._markup.styles, self._own_sheets):
            if style.exempt or self._is_unchanged(number):
                continue
            text = self._sheet_text(number)
            if text:
                yield Edit(style.content_start, style.content_end, f"\n{text}\n")
            else:
                yield Edit(style.start, style.end, "")

    def _is_unchanged(self, number: int) -> bool:
        candidates = [each for each in self.candidates if each.sheet == number]
        return bool(candidates) and all(
            len(stay) == len(each.rule.declarations) and not raised
            for each in candidates
            for stay, raised in (self._stay_of(each),)
        )

    def _stay_of(self, candidate: _Candidate) -> tuple[frozenset[int], frozenset[int]]:
        """The declarations of a selector that stay in the sheet, and those that are made important there."""
        stay = self._in_sheet.get((candidate.order, candidate.number), frozenset())
        return stay, frozenset(index for index in stay if candidate.key(index) in self.solution.important)

    def _sheet_text(self, number: int) -> str:
        selectors: dict[int, list[_Candidate]] = {}
        for candidate in self.candidates:
            if candidate.sheet == number and (candidate.order, candidate.number) in self._in_sheet:
                selectors.setdefault(candidate.rule.number, []).append(candidate)
        return inert("\n".join(self._write_items(self.sheets[number].items, selectors)))

    def _write_items(self, items: Iterable[Item], selectors: dict[int, list[_Candidate]]) -> Iterator[str]:
        for item in items:
            match item:
                case Verbatim(text=text):
                    yield text
                case Group(prelude=prelude, items=inner):
                    body = "\n".join(self._write_items(inner, selectors))
                    yield f"{prelude} {{\n{body}\n}}"
                case StyleRule():
                    yield from self._write_rule(item, selectors.get(item.number, []))

    def _write_rule(self, rule: StyleRule, candidates: Sequence[_Candidate]) -> Iterator[str]:
        """The rule with the selectors that stay; those of which other declarations stay apart."""
        alike: dict[tuple[frozenset[int], frozenset[int]], list[str]] = {}
        for candidate in candidates:
            alike.setdefault(self._stay_of(candidate), []).append(candidate.selector.text)
        for (stay, raised), texts in alike.items():
            body = "; ".join(
                declaration.text(important=declaration.important or index in raised)
                for index, declaration in enumerate(rule.declarations)
                if index in stay
            )
            yield f"{', '.join(texts)} {{ {body} }}"


# --- declarations --------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def own_declarations(style: str) -> tuple[Plain, ...]:
    """What the author wrote in a `style` attribute; it beats all sheets."""
    return tuple(
        Plain(
            each.name, each.important, (int(each.important), 1, 0, 0, 0, 0, index), (-1, -1, index), own=True
        )
        for index, each in enumerate(read_declarations(style))
    )


@lru_cache(maxsize=1024)
def dynamic_declarations(style: str) -> tuple[Plain, ...]:
    """What a `style` attribute with covered expressions sets; anything where a property is covered."""
    own = own_declarations(style)
    if not own or any(set(each.name) == {"x"} for each in own):
        return (Plain("all", False, (0, 1, 0, 0, 0, 0, 0), (-1, -1, 0), own=True, writable=False),)
    return tuple(replace(each, certain=False, writable=False) for each in own)


def _raise_own(style: str, raised: set[int]) -> str:
    """The author's declarations with some of them important."""
    return ";".join(
        each.text(important=each.important or index in raised)
        for index, each in enumerate(read_declarations(style))
    )


def without_beaten(
    found: Sequence[tuple[Declaration, Plain]],
) -> Iterator[tuple[Declaration, Plain]]:
    """Without declarations that a later rule sets again in a way that every client understands.

    Inside of a rule all stay, except those that are written twice: who sets a property to another value
    there means the first as a fallback.
    """
    later: dict[str, list[tuple[Declaration, Plain]]] = {}
    kept: list[tuple[Declaration, Plain]] = []
    for declaration, plain in reversed(found):
        if not any(
            each.important >= plain.important
            and (
                (each.certain and each.key[0] != plain.key[0])
                or (other.name, other.value) == (declaration.name, declaration.value)
            )
            for name in _covering(declaration.name)
            for other, each in later.get(name, ())
        ):
            kept.append((declaration, plain))
            later.setdefault(declaration.name, []).append((declaration, plain))
    return reversed(kept)


@lru_cache(maxsize=1024)
def _covering(name: str) -> tuple[str, ...]:
    """The properties that set all that one sets: itself, and its shorthands."""
    family, _, rest = name.partition("-")
    if name in ("border-collapse", "border-spacing") or "radius" in name or "image" in name:
        return (name,)
    if family in ("margin", "padding") and rest in SIDES:
        return (name, family)
    if family == "border" and rest:
        side, _, aspect = rest.partition("-")
        return (name, family, f"border-{side}", f"border-{aspect}") if aspect else (name, family)
    return (name, "background") if name == "background-color" else (name,)


def quoted(css: str, quote: str = '"') -> str:
    """CSS as the text of an attribute between such quotes, with nothing in it that Jinja would read."""
    text = inert(css).replace("&", "&amp;")
    if quote == "'" and '"' not in text and "\\" not in text:
        return text.replace("'", '"')  # they are strings' quotes
    return text.replace(quote, "&quot;" if quote == '"' else "&#39;")


def inert(css: str) -> str:
    """CSS that Jinja reads as text: no `{{`, `{%` or `{#`, which minified CSS may hold."""
    if "{{" not in css and "{%" not in css and "{#" not in css:
        return css
    out: list[str] = []
    for part in re.split(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", css, flags=re.DOTALL):
        if part[:1] in "\"'" and part:
            out.append(re.sub(r"\{(?=[{%#])", r"\\7b ", part))
        else:
            out.append(re.sub(r"\{(?=[{%#])", "{ ", part))
    return "".join(out)
