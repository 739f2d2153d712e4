"""Which declarations an element gets inline, and which rules of the sheet must then be `!important`.

A declaration in a `style` attribute beats every normal declaration of a sheet (CSS Cascade 5 §6). So
when plain rules move into `style` attributes, what stays in the sheet (media queries, `:hover`, dark
mode) would lose where it won before. It is made `!important` where it must win, and only if that lets it
beat nothing that beat it before. Where both cannot be had, the declarations in question stay in the sheet
for the elements concerned, in which the browser then finds the same cascade as in the source.

Input: groups of elements that are alike, with the declarations that go inline (`Plain`) and those that
stay and may apply (`Staying`). Output: a `Solution`. Pure; the document plays no part here.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

Rank = tuple[int, int, int, int, int, int, int]
"""The cascade's order, later wins: importance, style attribute, layer, specificity (3), order."""
Key = tuple[int, int, int]
"""A declaration of a selector: rule, selector in the rule, declaration in the rule."""

PHYSICAL_SIDES = frozenset(("top", "right", "bottom", "left"))
SIDES = frozenset("top right bottom left block inline".split())  # noqa: SIM905  a table
ASPECTS = frozenset("color width style".split())  # noqa: SIM905  a table
BORDER_APART = ("border-collapse", "border-spacing")
ALIASES = {
    "word-wrap": "overflow-wrap",
    "page-break-after": "break-after",
    "page-break-before": "break-before",
    "page-break-inside": "break-inside",
    "grid-gap": "gap",
    "grid-row-gap": "row-gap",
    "grid-column-gap": "column-gap",
    "column-break-after": "break-after",
    "column-break-before": "break-before",
    "column-break-inside": "break-inside",
    "border-horizontal-spacing": "border-spacing",
    "border-vertical-spacing": "border-spacing",
}
OLD_SIDES = {"before": "block-start", "after": "block-end", "start": "inline-start", "end": "inline-end"}
"""`-webkit-margin-before` and the like, as logical properties were first named."""
OLD_LOGICAL = re.compile(r"(margin|padding|border)-(before|after|start|end)(?=-|$)")
OLD_SIZE = re.compile(r"(min-|max-)?logical-(width|height)")
LOOSE = tuple(map(re.compile, ("contain-intrinsic-", "corner-", "(column-|row-)?rule(-|$)")))
"""Families of properties of which too little is settled: all of one may set the same."""
SHORTHANDS: dict[str, tuple[str, ...]] = {
    "font": ("line-height",),
    "gap": ("row-gap", "column-gap"),
    "inset": ("top", "right", "bottom", "left"),
    "place-content": ("align-content", "justify-content"),
    "place-items": ("align-items", "justify-items"),
    "place-self": ("align-self", "justify-self"),
    "columns": ("column-width", "column-count", "column-height", "column-wrap"),
    "flex-flow": ("flex-direction", "flex-wrap"),
    "white-space": ("text-wrap", "white-space-collapse", "text-wrap-mode"),
    "text-wrap": ("text-wrap-mode", "text-wrap-style"),
    "grid-area": ("grid-row", "grid-column"),
    "inline-size": ("width", "height"),
    "block-size": ("width", "height"),
    "min-inline-size": ("min-width", "min-height"),
    "min-block-size": ("min-width", "min-height"),
    "max-inline-size": ("max-width", "max-height"),
    "max-block-size": ("max-width", "max-height"),
}
"""Shorthands and logical properties whose longhands do not begin with their name."""


@lru_cache(maxsize=8192)
def overlap(first: str, second: str) -> bool:
    """Whether two properties can set the same thing: equal, or one a shorthand of the other.

    Where that is hard to tell the answer is yes, which costs at most an inlined declaration.
    """
    if first == second:
        return True
    if first.startswith("--") or second.startswith("--"):
        return False
    one, two = _unprefixed(first), _unprefixed(second)
    if one == two or "all" in (one, two):
        return True
    if one.startswith("border") and two.startswith("border"):
        return _borders_overlap(one, two)
    return (
        one.startswith(f"{two}-")
        or two.startswith(f"{one}-")
        or _is_part(one, two)
        or _is_part(two, one)
        or _logical(one, two)
    )


def _unprefixed(name: str) -> str:
    if not name.startswith("-"):
        return ALIASES.get(name, name)
    name = name[1:].partition("-")[2] or name
    if found := OLD_LOGICAL.match(name):
        return f"{found.group(1)}-{OLD_SIDES[found.group(2)]}{name[found.end() :]}"
    if found := OLD_SIZE.match(name):
        return f"{found.group(1) or ''}{'inline' if found.group(2) == 'width' else 'block'}-size"
    return ALIASES.get(name, name)


def _is_part(shorthand: str, part: str) -> bool:
    parts = SHORTHANDS.get(shorthand, ())
    return any(part == each or part.startswith(f"{each}-") for each in parts)


def _logical(one: str, two: str) -> bool:
    """`margin-inline-start` and `margin-left` may be the same side."""
    for name, other in ((one, two), (two, one)):
        if name.startswith("inset-") and other in PHYSICAL_SIDES | {"inset"}:
            return True
    if any(pattern.match(one) and pattern.match(two) for pattern in LOOSE):
        return True
    family = one.partition("-")[0]
    if family != two.partition("-")[0] or family not in ("margin", "padding", "inset", "scroll", "overflow"):
        return False
    return any(word in name.split("-") for word in ("inline", "block") for name in (one, two))


def _borders_overlap(one: str, two: str) -> bool:
    if one in BORDER_APART or two in BORDER_APART:
        return False
    radius = ("radius" in one, "radius" in two)
    if any(radius):
        return all(radius) and ("border-radius" in (one, two) or _has_logical_corner(one, two))
    if "border" in (one, two):
        return True
    parts_one, parts_two = set(one.split("-")[1:]), set(two.split("-")[1:])
    sides = parts_one & SIDES, parts_two & SIDES
    aspects = parts_one & ASPECTS, parts_two & ASPECTS
    logical = any({"block", "inline"} & each for each in sides)
    same_side = not all(sides) or bool(sides[0] & sides[1]) or logical
    same_aspect = not all(aspects) or bool(aspects[0] & aspects[1])
    image = "image" in parts_one, "image" in parts_two
    return same_side and same_aspect if not any(image) else all(image)


def _has_logical_corner(one: str, two: str) -> bool:
    return any("start" in name or "end" in name for name in (one, two))


@dataclass(frozen=True, slots=True)
class Plain:
    """A declaration that goes inline, or that the author wrote inline (`own`)."""

    name: str
    important: bool
    rank: Rank
    key: Key
    own: bool = False
    certain: bool = False
    """Its value is one that every client understands, so that it always applies."""
    writable: bool = True
    """An own declaration whose text may be changed; one that comes from data may not."""
    value: str = ""
    """What it sets, where that is known: of two that set the same, either may win."""


@dataclass(frozen=True, slots=True)
class Staying:
    """A declaration that stays in the sheet and may apply to the element."""

    name: str
    important: bool
    rank: Rank
    key: Key
    condition: str = ""
    """When it applies; those with the same condition apply together."""
    steady: bool = False
    """Its selector matches at all times while the condition holds, and its value is certain."""
    optional: bool = False
    """It matches nothing in the document; a mail client may add what it matches (`[data-ogsc]`)."""
    value: str = ""
    fixed: bool = False
    """It cannot be made important, since its sheet is left as it is."""


@dataclass(slots=True)
class ElementGroup:
    """Elements with the same declarations."""

    plain: list[Plain]
    staying: list[Staying]
    writable: bool = True
    """Whether the elements have a start tag to write on; without one, all stays in the sheet."""


@dataclass(slots=True)
class Solution:
    """What is to be written."""

    important: set[Key] = field(default_factory=set)
    """Declarations that get `!important` in the sheet."""
    mirrored: set[Key] = field(default_factory=set)
    """Plain declarations that go inline and stay in the sheet, too, where they are important."""
    raised: list[set[Key]] = field(default_factory=list)
    """For each group: inline declarations that get `!important`."""
    left: list[set[Key]] = field(default_factory=list)
    """For each group: declarations that stay in the sheet instead of going inline."""
    beaten: set[Key] = field(default_factory=set)
    """Declarations of client hooks that an inline one beats, though they beat it in the source."""
    demoted: list[set[Key]] = field(default_factory=list)
    """For each group: important declarations that go inline as normal ones, and stay in the sheet."""


def solve(groups: list[ElementGroup], animated: Iterable[str] = ()) -> Solution:
    """Keep the cascade of the source for every group. Always succeeds: at worst little goes inline."""
    solver = _Solver(groups, frozenset(animated))
    while not solver.attempt():
        pass
    solver.add_optional()
    demoted = [group.demoted for group in solver.groups]
    return Solution(solver.important, solver.mirrored, solver.raised, solver.left, solver.beaten, demoted)


class _Places:
    """The declarations of one group, by the properties that they can set."""

    def __init__(self, group: ElementGroup) -> None:
        self.plain = group.plain
        self.writable = group.writable
        self.staying = group.staying
        self.twins: list[Staying] = []
        self._names = {each.name for each in group.plain} | {each.name for each in group.staying}
        self._plain: dict[str, list[Plain]] = {}
        self._staying: dict[str, list[Staying]] = {}
        self.demoted = set(self._demoted()) if group.writable else set()

    def _demoted(self) -> Iterator[Key]:
        """Important declarations that an important one of the sheet beats, and those below them.

        Inline they would beat it. In the sheet they lose as before; inline, without `!important`, they serve
        clients that read no sheet.
        """
        names: set[str] = set()
        for plain in sorted(self.plain, key=lambda each: each.rank, reverse=True):
            if not plain.important or plain.own:
                continue
            above = any(
                _beats(stay, plain) and not self.is_beaten_always(stay)
                for stay in self.staying_of(plain.name)
            ) or any(overlap(name, plain.name) for name in names)
            if above:
                names.add(plain.name)
                yield plain.key

    def mirror(self, keys: set[Key]) -> None:
        """Let these plain declarations stay in the sheet, too."""
        self.twins = [
            Staying(each.name, each.important, each.rank, each.key, steady=each.certain, value=each.value)
            for each in self.plain
            if each.key in keys or each.key in self.demoted or (each.important and not self.writable)
        ]
        self._staying.clear()

    def all_staying(self) -> Iterable[Staying]:
        """All that is in the sheet, without what is left there."""
        return (*self.staying, *self.twins) if self.twins else self.staying

    def plain_of(self, name: str) -> list[Plain]:
        """The plain declarations that can set the same as a property."""
        found = self._plain.get(name)
        if found is None:
            found = [each for each in self.plain if overlap(each.name, name)]
            self._plain[name] = found
        return found

    def staying_of(self, name: str) -> list[Staying]:
        """The staying declarations that can set the same as a property."""
        found = self._staying.get(name)
        if found is None:
            found = [each for each in self.all_staying() if overlap(each.name, name)]
            self._staying[name] = found
        return found

    def is_beaten_always(self, stay: Staying) -> bool:
        """Whether a declaration of the same property beats it here at any time."""
        if any(
            plain.certain and plain.rank > stay.rank and plain.name == stay.name
            for plain in self.plain_of(stay.name)
        ):
            return True
        return next(self._beating(stay), None) is not None

    def is_safe_below(self, stay: Staying, plain: Plain) -> bool:
        """Whether a staying declaration may become important though a plain one beats it here.

        So it is where a third one, which beats both, applies whenever it does: then neither is seen.
        """
        return plain.name == stay.name and any(other.rank > plain.rank for other in self._beating(stay))

    def _beating(self, stay: Staying) -> Iterator[Staying]:
        """What stays, too, and beats it here whenever it applies."""
        return (
            other
            for other in self.staying_of(stay.name)
            if other.steady
            and not other.optional
            and other.name == stay.name
            and other.rank > stay.rank
            and _applies_with(other.condition, stay.condition)
        )


def _beats(first: Plain | Staying, second: Plain | Staying) -> bool:
    """Whether the first wins in the source, and sets another value."""
    if first.rank <= second.rank:
        return False
    return not first.value or first.value != second.value or first.name != second.name


def _applies_with(outer: str, condition: str) -> bool:
    """Whether the first condition holds whenever the second does."""
    return outer in ("", condition) or condition.startswith(f"{outer} @")


class _Solver:
    """One search. Each failed attempt adds to `refused` or `mirrored`, so that the search ends."""

    def __init__(self, groups: list[ElementGroup], animated: frozenset[str]) -> None:
        self.groups = [_Places(group) for group in groups]
        self._animated = animated
        # the order of layers is the other way round among important declarations
        self.refused: set[Key] = {
            each.key
            for group in groups
            for each in group.staying
            if each.rank[2] < 0 or each.fixed or self._is_animated(each.name)
        }
        self.beaten: set[Key] = set()
        self.important: set[Key] = set()
        self.mirrored: set[Key] = set()
        self.raised: list[set[Key]] = []
        self.left: list[set[Key]] = []

    def _is_animated(self, name: str) -> bool:
        return any(overlap(name, each) for each in self._animated)

    def attempt(self) -> bool:
        """Whether a solution was found with what is refused and mirrored so far."""
        before = len(self.refused), len(self.mirrored - self.refused)
        self.mirrored -= self.refused
        for group in self.groups:
            group.mirror(self.mirrored)
        self.important = set()
        self.left = [self._leave(group) for group in self.groups]
        self._require()
        self._follow()
        if (len(self.refused), len(self.mirrored)) != before:
            return False
        self.raised = [self._raise(number) for number in range(len(self.groups))]
        return (len(self.refused), len(self.mirrored)) == before

    def _leave(self, group: _Places) -> set[Key]:
        """What cannot go inline here, because a staying declaration that must beat it cannot be raised."""
        if not group.writable:
            return {each.key for each in group.plain if not each.own}
        left: set[Key] = set()
        for stay in group.staying:
            if stay.optional or stay.important or stay.key not in self.refused:
                continue
            if group.is_beaten_always(stay):
                continue
            for plain in group.plain_of(stay.name):
                if _beats(stay, plain) and not plain.own and plain.key not in group.demoted:
                    left.add(plain.key)
        return self._with_lower(group, left) if left else left

    @staticmethod
    def _with_lower(group: _Places, left: set[Key]) -> set[Key]:
        """Together with each declaration, the lower ones of the same property, which would beat it inline."""
        for plain in sorted(group.plain, key=lambda each: each.rank, reverse=True):
            if plain.key in left:
                left |= {
                    lower.key
                    for lower in group.plain_of(plain.name)
                    if lower.rank < plain.rank and not lower.own
                }
        return left

    def _require(self) -> None:
        """Make important what must beat an inline declaration."""
        for number, group in enumerate(self.groups):
            for stay in group.all_staying():
                if stay.important or stay.optional or stay.key in self.refused or stay.key in self.important:
                    continue
                if self._beats_inline(number, stay) and not group.is_beaten_always(stay):
                    self.important.add(stay.key)

    def _beats_inline(self, number: int, stay: Staying) -> bool:
        """Whether it beats a normal declaration that goes inline."""
        return any(
            _beats(stay, plain) and not plain.important and plain.key not in self.left[number]
            for plain in self.groups[number].plain_of(stay.name)
        )

    def _follow(self) -> None:
        """Keep the order among what stays: what beat a declaration that is now important must be so too."""
        done: set[tuple[int, Key]] = set()
        changed = True
        while changed:
            changed = False
            for number, group in enumerate(self.groups):
                for stay in group.all_staying():
                    if stay.key in self.important and (number, stay.key) not in done:
                        done.add((number, stay.key))
                        self._spread(number, stay)
                        changed = True

    def _spread(self, number: int, stay: Staying) -> None:
        group = self.groups[number]
        for other in group.staying_of(stay.name):
            if other.optional or other.key == stay.key:
                continue
            if other.important:
                if other.rank[2:] < stay.rank[2:] and _beats(other, stay):
                    self.refused.add(stay.key)
            elif other.key not in self.important and _beats(other, stay):
                if other.key in self.refused:
                    self.refused.add(stay.key)
                else:
                    self.important.add(other.key)
        if not self.left[number]:
            return
        for plain in group.plain_of(stay.name):
            stays_normal = plain.key in self.left[number] and not plain.important
            if stays_normal and _beats(plain, stay) and not self._is_kept_above(group, stay, plain):
                self._mirror_or_refuse(stay, [plain])

    def _is_kept_above(self, group: _Places, stay: Staying, plain: Plain) -> bool:
        return plain.key in self.mirrored or group.is_safe_below(stay, plain)

    def _mirror_or_refuse(self, stay: Staying, above: Iterable[Plain]) -> None:
        """Let the declarations that beat one in the source do so in the sheet, or do without it."""
        keys = {each.key for each in above}
        if any(each.own or self._is_animated(each.name) for each in above) or keys & self.refused:
            self.refused.add(stay.key)
        else:
            self.mirrored |= keys

    def _raise(self, number: int) -> set[Key]:
        """Inline declarations that must be important to beat a staying one as before."""
        group = self.groups[number]
        raised: set[Key] = set()
        for stay in group.all_staying():
            if stay.key not in self.important:
                continue
            wanted = [
                plain
                for plain in group.plain_of(stay.name)
                if _beats(plain, stay)
                and not plain.important
                and plain.key not in self.left[number]
                and not self._is_kept_above(group, stay, plain)
            ]
            above = set(self._above(group, wanted))
            if all(self._can_be_raised(group, plain) for plain in above):
                raised |= {plain.key for plain in above}
            else:
                self._mirror_or_refuse(stay, wanted)
        return raised

    @staticmethod
    def _above(group: _Places, wanted: Iterable[Plain]) -> Iterator[Plain]:
        """The declarations, and the higher ones of the same property, which must stay higher."""
        for plain in wanted:
            yield plain
            for higher in group.plain_of(plain.name):
                if _beats(higher, plain) and not higher.important:
                    yield higher

    def _can_be_raised(self, group: _Places, plain: Plain) -> bool:
        if not plain.writable or self._is_animated(plain.name):
            return False
        if plain.own and any(
            other.important and _beats(other, plain) for other in group.plain_of(plain.name)
        ):
            return False  # it may stand behind that one, and would then beat it
        return not any(
            (stay.important or stay.key in self.important) and _beats(stay, plain)
            for stay in group.staying_of(plain.name)
        )

    def add_optional(self) -> None:
        """Make important what only a mail client can bring to match, where it beats nothing wrongly."""
        places: dict[Key, list[tuple[int, Staying]]] = {}
        for number, group in enumerate(self.groups):
            for stay in group.staying:
                if stay.optional and not stay.important and stay.key not in self.refused:
                    places.setdefault(stay.key, []).append((number, stay))
        for key, found in places.items():
            if not any(self._beats_inline(number, stay) for number, stay in found):
                continue
            raises = [self._raises_for_optional(number, stay) for number, stay in found]
            if any(each is None for each in raises):
                self.beaten.add(key)
                continue
            self.important.add(key)
            for (number, _), raised in zip(found, raises, strict=True):
                self.raised[number] |= raised or set()

    def _raises_for_optional(self, number: int, stay: Staying) -> set[Key] | None:
        """What must be raised so that it beats nothing wrongly here; None where that cannot be had."""
        group = self.groups[number]
        for other in group.staying_of(stay.name):
            if other.optional:
                continue
            is_important = other.important or other.key in self.important
            if (
                (other.rank[2:] < stay.rank[2:])
                if other.important
                else (_beats(other, stay) and not is_important)
            ):
                return None
        wanted: list[Plain] = []
        for plain in group.plain_of(stay.name):
            if _beats(plain, stay) and not plain.important and plain.key not in self.mirrored:
                if plain.key in self.left[number]:
                    return None
                wanted.append(plain)
        above = set(self._above(group, wanted))
        if not all(self._can_be_raised(group, plain) for plain in above):
            return None
        return {plain.key for plain in above}
