"""What a worker's figures say while nobody knows them: nothing, and not 0."""

from unittest.mock import MagicMock

import pytest

from postroom.delivery.programs.watch import Watch


def figures(parts: MagicMock) -> dict[str, float]:
    """What Prometheus gets of a worker, by metric; counters and histograms of letters have none yet."""
    registry = Watch(parts, MagicMock(), MagicMock()).metrics.registry
    return {sample.name: sample.value for family in registry.collect() for sample in family.samples}


@pytest.mark.parametrize(("reachable", "shown"), [(None, None), (False, 0.0), (True, 1.0)])
def test_a_relay_that_no_letter_has_gone_to_is_not_told_to_be_away(
    reachable: bool | None, shown: float | None
) -> None:
    parts = MagicMock()
    parts.ways.reachable = reachable
    assert figures(parts).get("postroom_relay_reachable") == shown
