"""The bundle: nothing moves without need, nothing is lost or too large, and everything can be read back."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.bundle import CompiledTemplate, LocaleVariant, WeightedSubject, unpack_bundle
from postroom.letter.problems import Code
from postroom_operator import names
from postroom_operator.desired import bundle
from postroom_operator.desired.bundle import HARD_LIMIT, Bundle, ServedTemplate, assign, read_shards
from postroom_operator.models import intern


def template(name: str, size: int = 100, revision: int = 0) -> CompiledTemplate:
    html = f"<p>{revision}</p>".ljust(size, "é")
    edition = LocaleVariant("en", (WeightedSubject("s"),), None, html, None, "source", "source")
    return CompiledTemplate(
        name, "shop", "orders", (f"shop.{name}",), "Transactional", (edition,), {}
    ).with_revision()


def places(bundle: Bundle) -> dict[str, int]:
    return {name: each.shard for name, each in read_shards(bundle.shards).items()}


def then(bundle: Bundle) -> Mapping[str, ServedTemplate]:
    return read_shards(bundle.shards)


def test_no_templates_make_one_empty_shard() -> None:
    bundle = assign([], {})
    assert list(bundle.shards) == [0]
    assert unpack_bundle(bundle.shards[0]) == []


def test_a_template_that_is_read_is_the_packed_object_unless_it_differs() -> None:
    held = intern(template("t1"))
    text = assign([held], {}).shards[0]
    assert read_shards({0: text})["t1"].template is held
    suspended = text.replace('"suspend": false', '"suspend": true')
    assert suspended != text
    assert read_shards({0: suspended})["t1"].template.suspend is True
    assert held.suspend is False


def test_an_edit_changes_one_shard() -> None:
    many = [template(f"t{n}", 10_000) for n in range(40)]
    before = assign(many, {})
    edited = [
        replace(each, reply_to="x@y.example").with_revision() if each.name == "t7" else each for each in many
    ]
    after = assign(edited, then(before))
    changed = [shard for shard, text in after.shards.items() if text != before.shards.get(shard)]
    assert len(before.shards) > 3
    assert changed == [places(before)["t7"]]


def test_a_template_that_grew_moves_to_another_shard_and_the_others_stay() -> None:
    before = assign([template(f"t{n}", 30_000) for n in range(4)], {})
    grown = [template("t0", 120_000, 1), *(template(f"t{n}", 30_000) for n in range(1, 4))]
    after = assign(grown, then(before))
    neighbours = {name: shard for name, shard in places(before).items() if name != "t0"}
    assert {name: shard for name, shard in places(after).items() if name != "t0"} == neighbours
    assert after.served["t0"] == grown[0]


def test_a_template_that_is_larger_than_a_shard_is_named_with_its_size_and_the_limit() -> None:
    bundle = assign([template("huge", HARD_LIMIT)], {})
    problem = bundle.problems["huge"]
    assert problem.code is Code.TOO_LARGE
    assert "template huge takes" in problem.message
    assert str(HARD_LIMIT)[:3] in problem.message
    assert bundle.served == {}


def test_a_template_that_grew_too_large_serves_its_last_good_revision() -> None:
    good = template("a", 100)
    bundle = assign([template("a", HARD_LIMIT, 1)], then(assign([good], {})))
    assert bundle.served == {"a": good}
    assert "last good revision" in bundle.problems["a"].message
    assert unpack_bundle(bundle.shards[0]) == [good]


def test_a_full_bundle_displaces_no_template() -> None:
    full = assign([template(f"t{n:02}", 120_000) for n in range(names.SHARDS)], {})
    assert full.problems == {}
    wanted = [template("a-new-one", 60_000), template("t00", 120_001, 1)] + [
        template(f"t{n:02}", 120_000) for n in range(1, names.SHARDS)
    ]
    after = assign(wanted, then(full))
    assert set(after.problems) == {"a-new-one"}
    assert set(after.served) == {f"t{n:02}" for n in range(names.SHARDS)}


def test_an_unreadable_shard_is_rewritten() -> None:
    one = template("a")
    assert read_shards({0: "no bundle", 1: "{}"}) == {}
    assert assign([one], read_shards({0: "no bundle"})).served == {"a": one}


def test_two_thousand_templates_are_packed_within_two_seconds_of_work() -> None:
    many = [template(f"t{n}", 1000) for n in range(2000)]
    start = process_time()
    bundle = assign(many, {})
    again = assign(many, read_shards(bundle.shards))
    assert process_time() - start < 2
    assert again.shards == bundle.shards


SMALL = 4096
SIZES = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=2), st.integers(0, SMALL // 2 + 200), max_size=40
)


@pytest.fixture(scope="module")
def small_shards() -> Iterator[None]:
    """Limits that a few short templates reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "HARD_LIMIT", SMALL)
        patch.setattr(bundle, "SOFT_LIMIT", SMALL // 4)
        yield


@settings(deadline=None)
@given(first=SIZES, second=SIZES)
def test_the_packing_rules_hold_for_any_sequence_of_edits(
    small_shards: None, first: dict[str, int], second: dict[str, int]
) -> None:
    before = assign([template(name, size) for name, size in first.items()], {})
    wanted = {name: template(name, size) for name, size in second.items()}
    after = assign(wanted.values(), then(before))
    assert all(len(text.encode()) <= SMALL for text in after.shards.values())
    assert 0 in after.shards
    assert {each.name: each for text in after.shards.values() for each in unpack_bundle(text)} == after.served
    assert {name for name in wanted if after.served.get(name) != wanted[name]} == set(after.problems)
    assert {name for name in before.served if name in wanted} <= set(after.served)
    unchanged = {name for name in wanted if before.served.get(name) == wanted[name]}
    assert {n: places(after)[n] for n in unchanged} == {n: places(before)[n] for n in unchanged}
    assert after.problems or assign(wanted.values(), then(after)).shards == after.shards
