"""The revision of each template: the newest valid one, else the last valid one; one template for an event
type.
"""

from postroom.letter.bundle import RevisionChoice
from tests.letter.factories import compiled

GOOD, BETTER = compiled("<p>Good {{ name }}</p>"), compiled("<p>Better {{ name }}</p>")


def test_a_valid_edit_is_used_and_an_invalid_one_keeps_the_last_revision() -> None:
    assert RevisionChoice().choose("a", BETTER, GOOD) is BETTER
    assert RevisionChoice().choose("a", None, GOOD) is GOOD
    assert RevisionChoice().choose("a", None, None) is None


def test_the_first_template_gets_an_event_type() -> None:
    serving = RevisionChoice()
    assert serving.choose("old", None, GOOD) is GOOD
    assert serving.choose("new", BETTER, None) is None
    assert list(serving.conflicts("new", BETTER)) == [(0, "shop.test", "old")]
    assert serving.choose("old", BETTER, GOOD) is BETTER, "its own is no obstacle"


def test_a_template_that_is_not_used_blocks_no_event_type() -> None:
    serving = RevisionChoice()
    both = compiled("<p>{{ name }}</p>", eventTypes=["shop.test", "shop.other"])
    other = compiled("<p>{{ name }}</p>", eventTypes=["shop.other"])
    assert serving.choose("first", GOOD, None) is GOOD
    assert serving.choose("second", both, None) is None
    assert serving.choose("third", other, None) is other
