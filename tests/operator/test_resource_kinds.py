"""Who watches, who lists and who keeps objects know the same kinds, or some would be seen by chance only."""

from postroom_operator import handlers, resync, store
from postroom_operator.kubernetes import PLURALS
from postroom_operator.models import ResourceKind


def watched(kind: ResourceKind) -> tuple[str, str, str]:
    group, _, version = kind.api_version.rpartition("/")
    return group, version, PLURALS[kind]


def test_what_is_listed_is_watched_and_what_is_made_is_kept() -> None:
    for listed, seen in (
        (resync.OWN, handlers.OWN),
        (resync.MADE, handlers.MADE),
        (resync.KEDA, handlers.KEDA),
    ):
        assert tuple(map(watched, listed)) == seen
    assert watched(resync.NAMESPACE) == handlers.NAMESPACES
    assert sorted(each.kind for each in (*resync.MADE, *resync.KEDA)) == list(store.MADE)
