"""Which revision serves: the newest that passed, else the last good one, and of an event type only one."""

from postroom.letter.serving import Serving
from tests.letter.specimens import compiled

GOOD, BETTER = compiled("<p>Good {{ name }}</p>"), compiled("<p>Better {{ name }}</p>")


def test_a_good_edit_serves_and_a_bad_one_leaves_what_was_good() -> None:
    assert Serving().revision("a", BETTER, GOOD) is BETTER
    assert Serving().revision("a", None, GOOD) is GOOD
    assert Serving().revision("a", None, None) is None


def test_an_event_type_is_the_first_templates_that_asked_for_it() -> None:
    serving = Serving()
    assert serving.revision("old", None, GOOD) is GOOD
    assert serving.revision("new", BETTER, None) is None
    assert list(serving.taken("new", BETTER)) == [(0, "shop.test", "old")]
    assert serving.revision("old", BETTER, GOOD) is BETTER, "its own is no obstacle"


def test_who_does_not_serve_keeps_nothing_from_others() -> None:
    serving = Serving()
    both = compiled("<p>{{ name }}</p>", eventTypes=["shop.test", "shop.other"])
    other = compiled("<p>{{ name }}</p>", eventTypes=["shop.other"])
    assert serving.revision("first", GOOD, None) is GOOD
    assert serving.revision("second", both, None) is None
    assert serving.revision("third", other, None) is other
