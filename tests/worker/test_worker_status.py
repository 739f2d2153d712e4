"""Worker metrics with an unknown value have no sample, instead of 0."""

from unittest.mock import MagicMock

import pytest

from postroom.worker.status import WorkerStatus


def figures(parts: MagicMock, lag: int | None = 0, waiting: MagicMock | None = None) -> dict[str, float]:
    """What Prometheus gets of a worker, by metric; counters and histograms of letters have none yet."""
    events = MagicMock(lag=lag)
    registry = WorkerStatus(parts, events, MagicMock(), waiting).metrics.registry
    return {sample.name: sample.value for family in registry.collect() for sample in family.samples}


@pytest.mark.parametrize(("reachable", "shown"), [(None, None), (False, 0.0), (True, 1.0)])
def test_a_relay_that_no_letter_has_gone_to_is_not_told_to_be_away(
    reachable: bool | None, shown: float | None
) -> None:
    parts = MagicMock()
    parts.router.reachable = reachable
    assert figures(parts).get("postroom_relay_reachable") == shown


@pytest.mark.parametrize("lag", [None, 0, 7])
def test_a_lag_that_nobody_can_tell_is_not_told_to_be_none(lag: int | None) -> None:
    found = figures(MagicMock(), lag)
    assert found.get("postroom_consumer_lag_records") == lag
    assert "postroom_suspended_lag_records" not in found


@pytest.mark.parametrize("lag", [None, 0, 7])
def test_what_waits_for_a_suspended_profile_is_a_figure_of_its_own_for_each_worker_tells_all_of_it(
    lag: int | None,
) -> None:
    found = figures(MagicMock(), waiting=MagicMock(records=lag))
    assert found.get("postroom_suspended_lag_records") == lag
    assert "postroom_consumer_lag_records" not in found
