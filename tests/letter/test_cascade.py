"""What goes inline and what must be important: the delivered cascade gives what that of the source gives."""

from itertools import count, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.html.cascade import ElementGroup, Key, Plain, Solution, Staying, overlap, solve

LONGHANDS = {
    "color": ["color"],
    "margin": ["margin-top", "margin-left"],
    "margin-top": ["margin-top"],
    "margin-left": ["margin-left"],
}
PROPERTIES = sorted(LONGHANDS)
CONDITIONS = ["", " @media a", " @media a @media b"]

Declared = Plain | Staying
Order = tuple[int, ...]


def properties() -> st.SearchStrategy[str]:
    return st.sampled_from(PROPERTIES)


@st.composite
def cascades(draw: st.DrawFn) -> list[ElementGroup]:
    """Groups that share the declarations of one sheet, some with a `style` attribute of their own."""
    sheet: list[Declared] = []
    for order in range(draw(st.integers(1, 7))):
        name, important = draw(properties()), draw(st.integers(0, 3)) == 0
        specificity = draw(st.integers(0, 2))
        value = draw(st.sampled_from(["", "v", "w"]))
        certain = draw(st.booleans())
        key = (order, 0, 0)
        if draw(st.booleans()):
            rank = (int(important), 0, 0, 0, specificity, 0, order)
            sheet.append(Plain(name, important, rank, key, certain=certain, value=value))
        else:
            layer = (1 if important else -1) * (draw(st.integers(0, 5)) == 0)
            rank = (int(important), 0, layer, 0, specificity, 0, order)
            condition = draw(st.sampled_from(CONDITIONS))
            optional = draw(st.integers(0, 5)) == 0
            sheet.append(
                Staying(name, important, rank, key, condition, steady=certain, optional=optional, value=value)
            )
    groups = []
    for _ in range(draw(st.integers(1, 4))):
        chosen = [each for each in sheet if draw(st.booleans())]
        plain = [each for each in chosen if isinstance(each, Plain)]
        for index in range(draw(st.integers(0, 2)) if draw(st.booleans()) else 0):
            important = draw(st.booleans())
            plain.append(
                Plain(
                    draw(properties()),
                    important,
                    (int(important), 1, 0, 0, 0, 0, index),
                    (-1, -1, index),
                    own=True,
                    writable=draw(st.booleans()),
                )
            )
        staying = [each for each in chosen if isinstance(each, Staying)]
        groups.append(ElementGroup(plain, staying, writable=draw(st.integers(0, 4)) > 0))
    return groups


def declarations(group: ElementGroup) -> list[Declared]:
    """All that the group has."""
    return [*group.plain, *group.staying]


def applying(group: ElementGroup) -> list[set[Key]]:
    """The sets of declarations that may apply at one time, by conditions and by what a client knows."""
    conditions = sorted({each.condition for each in group.staying} - {""})
    unsure = [each.key for each in group.plain if not each.certain and not each.own]
    unsure += [each.key for each in group.staying if not each.steady and not each.optional]
    out = []
    for holding in product((False, True), repeat=len(conditions)):
        holds = {"": True} | dict(zip(conditions, holding, strict=True))
        if any(
            holds[inner] and not holds[outer]
            for outer, inner in product(conditions, repeat=2)
            if inner.startswith(f"{outer} ")
        ):
            continue
        for known in product((False, True), repeat=len(unsure)):
            absent = {key for key, is_known in zip(unsure, known, strict=True) if not is_known}
            absent |= {each.key for each in group.staying if each.optional or not holds[each.condition]}
            out.append({each.key for each in declarations(group)} - absent)
    return out


def winners(declared: list[tuple[Order, Declared]]) -> dict[str, tuple[object, ...]]:
    """For each longhand, what identifies the declaration that wins."""
    out: dict[str, tuple[object, ...]] = {}
    for _, each in sorted(declared, key=lambda pair: pair[0]):
        for longhand in LONGHANDS[each.name]:
            out[longhand] = (each.name, each.value) if each.value else (each.key,)
    return out


def delivered(group: ElementGroup, number: int, solution: Solution) -> list[tuple[Order, Declared]]:
    """The declarations of the delivered page in the order of a browser (CSS Cascade 5 §6)."""
    raised, left, demoted = (each[number] for each in (solution.raised, solution.left, solution.demoted))
    place = count()
    out: list[tuple[Order, Declared]] = []

    def in_sheet(each: Declared) -> None:
        important = each.important or each.key in solution.important
        layer = (1 if important else -1) if each.rank[2] else 0
        out.append(((int(important), 0, layer, *each.rank[3:]), each))

    for each in sorted(group.plain, key=lambda plain: plain.rank if not plain.own else (9,)):
        if each.key not in left:
            assert group.writable or each.own
            important = (each.important and each.key not in demoted) or each.key in raised
            assert each.writable or important == each.important
            out.append(((int(important), 1, next(place)), each))
        if each.key in left | demoted | solution.mirrored:
            in_sheet(each)
    for stay in group.staying:
        in_sheet(stay)
    return out


@settings(max_examples=400, deadline=None)
@given(cascades())
def test_the_delivered_cascade_gives_what_that_of_the_source_gives(groups: list[ElementGroup]) -> None:
    solution = solve(groups)
    for number, group in enumerate(groups):
        source: list[tuple[Order, Declared]] = [(each.rank, each) for each in declarations(group)]
        result = delivered(group, number, solution)
        for present in applying(group):
            assert winners([pair for pair in result if pair[1].key in present]) == winners(
                [pair for pair in source if pair[1].key in present]
            )


OVERLAPPING = [
    ("margin", "margin-top"),
    ("margin-inline-start", "margin-left"),
    ("-webkit-margin-before", "margin-top"),
    ("-webkit-padding-end", "padding"),
    ("-webkit-border-start-color", "border-left"),
    ("-webkit-border-horizontal-spacing", "border-spacing"),
    ("-webkit-min-logical-width", "min-height"),
    ("inset-inline-end", "top"),
    ("inset", "left"),
    ("word-wrap", "overflow-wrap"),
    ("-webkit-column-break-after", "page-break-after"),
    ("columns", "column-height"),
    ("column-rule-color", "rule"),
    ("corner-shape", "corner-top-left-shape"),
    ("contain-intrinsic-size", "contain-intrinsic-width"),
    ("border", "border-image-source"),
    ("border-color", "border-top"),
    ("border-radius", "border-start-end-radius"),
    ("font", "line-height"),
    ("-webkit-box-sizing", "box-sizing"),
    ("all", "color"),
]
APART = [
    ("margin", "padding"),
    ("color", "background-color"),
    ("border-top-color", "border-bottom-color"),
    ("border-top-color", "border-top-width"),
    ("border", "border-collapse"),
    ("border-radius", "border-width"),
    ("top", "bottom"),
    ("text-align", "text-decoration"),
    ("--a", "--b"),
    ("--all", "all"),
]


@pytest.mark.parametrize(("first", "second"), OVERLAPPING)
def test_two_properties_that_set_the_same_overlap(first: str, second: str) -> None:
    assert overlap(first, second)
    assert overlap(second, first)


@pytest.mark.parametrize(("first", "second"), APART)
def test_two_properties_that_set_other_things_do_not_overlap(first: str, second: str) -> None:
    assert not overlap(first, second)
    assert not overlap(second, first)


def test_a_condition_holds_whenever_one_inside_of_it_does() -> None:
    # the last media query beats `.b:hover` there, whatever the inner condition is
    low = Staying("color", False, (0, 0, 0, 0, 0, 0, 1), (1, 0, 0), " @media a @media b")
    high = Staying("color", False, (0, 0, 0, 0, 0, 0, 2), (2, 0, 0), " @media a", steady=True)
    below = Plain("color", False, (0, 0, 0, 0, 0, 0, 0), (0, 0, 0))
    assert solve([ElementGroup([below], [low, high])]).important == {high.key}
    other = Staying("color", False, (0, 0, 0, 0, 0, 0, 2), (2, 0, 0), " @media ab", steady=True)
    assert solve([ElementGroup([below], [low, other])]).important == {low.key, other.key}


def test_a_declaration_that_keyframes_set_is_never_important() -> None:
    stay = Staying("color", False, (0, 0, 0, 0, 0, 0, 1), (1, 0, 0))
    plain = Plain("color", False, (0, 0, 0, 0, 0, 0, 0), (0, 0, 0))
    solution = solve([ElementGroup([plain], [stay])], ["color"])
    assert (solution.important, solution.left) == (set(), [{plain.key}])
