"""What every test may rely on: the plugins in tests/fixtures, each with its own duty."""

from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent / "fixtures"
pytest_plugins = ["tests.fixtures.golden", "tests.fixtures.server_groups", "tests.fixtures.skip_policy"]


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Load the fixtures where tests run. The process that hands tests to others (`-n`) runs none, and those
    would wait until it had imported Kubernetes, Kafka and SQL."""
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        return
    names = [f"tests.fixtures.{path.stem}" for path in sorted(FIXTURES.glob("[a-z]*.py"))]
    # all of them first: they import each other
    pytest.register_assert_rewrite(*(name for name in names if not config.pluginmanager.has_plugin(name)))
    for name in names:
        config.pluginmanager.import_plugin(name)
