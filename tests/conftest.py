"""What every test may rely on: the fixtures in tests/fixtures, and one policy for layers that cannot run."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.layers import MARKERS, in_ci

FIXTURES = Path(__file__).parent / "fixtures"
pytest_plugins = [f"tests.fixtures.{path.stem}" for path in sorted(FIXTURES.glob("[a-z]*.py"))]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.CallInfo[None], None]:
    """In CI, turn the skip of a layered test into a failure: nothing is left out unseen."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    layered = any(item.get_closest_marker(marker) for marker in MARKERS)
    if in_ci() and layered and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped, and in CI that is a failure: {reason}"
