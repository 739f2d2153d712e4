"""Faults between the operator and its API server: 429, 409, 410, silence, dropped connections.

Each test injects a fault with a proxy and counts the requests meanwhile, because a client that retries in a
hot loop makes an outage longer.
"""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.manifests import profile, template
from tests.cluster.operator_process import OperatedNamespace
from tests.cluster.proxy import Fault, FaultAnswer, ProxiedRequest, Proxy, RequestView

pytestmark = pytest.mark.apiserver
WATCH_SECONDS = 3
"""Instead of 45; a watch that is silent for 5 s longer is closed."""
SLACK_SECONDS = 5
CHILDREN = ("configmaps", "deployments", "networkpolicies", "services", "poddisruptionbudgets")
OFTEN_ENOUGH = 20.0
"""The allowed requests for each second over all kinds: ten kinds are watched, and each may be retried."""


@pytest.fixture
def proxy(world: OperatedNamespace) -> Iterator[Proxy]:
    """A proxy for the operator's connections; changes are visible to it through watches only."""
    proxy = Proxy(world.cluster)
    proxy.start()
    world.operator.stop()
    kubeconfig = world.cluster.write_kubeconfig(f"{world.office}-proxy", world.account.token, proxy.address)
    world.operator.environment |= {
        "KUBECONFIG": str(kubeconfig),
        "POSTROOM_RESYNC_SECONDS": "600",
        "POSTROOM_WATCH_SECONDS": str(WATCH_SECONDS),
    }
    world.operator.start()
    yield proxy
    world.operator.stop()
    proxy.stop()


def serves(world: OperatedNamespace, *names: str) -> bool:
    """Whether exactly these templates are live and report it."""
    ready = [world.condition("EmailTemplate", name).get("status") for name in names]
    return sorted(world.served()) == sorted(names) and set(ready) == {"True"}


def planted(world: OperatedNamespace) -> None:
    world.apply(profile(), template())
    world.until(lambda: serves(world, "welcome"))


def unharmed(world: OperatedNamespace) -> None:
    """Assert that the same process still runs and logged no internal error."""
    assert world.operator.running
    assert "internal error" not in world.operator.words
    assert world.operator.words.count("acquired the Lease; listing") <= 2


def calm(proxy: Proxy, since: float) -> None:
    """Whether the operator sent no more requests than allowed."""
    asked, seconds = len(proxy.seen(since)), time.monotonic() - since
    assert asked < 60 + OFTEN_ENOUGH * seconds, f"{asked} requests in {seconds:.1f} s"


def retried(proxy: Proxy, one: ProxiedRequest) -> float:
    """The times of repeated requests."""
    same = proxy.seen(path=one.request.path, method=one.request.method)
    return min((each.at for each in same if each.at > one.at), default=0.0)


def only(fault: Fault, when: Callable[[RequestView], bool], at_most: int) -> Callable[[RequestView], Fault]:
    """A fault for a number of requests of some kind, and none afterwards."""
    left = [at_most]

    def found(request: RequestView) -> Fault:
        answered = request.under_way and isinstance(fault, FaultAnswer) and not fault.event
        if left[0] == 0 or answered or not when(request):
            return None
        left[0] -= 1
        return fault

    return found


def test_the_proxy_passes_requests_on(world: OperatedNamespace, proxy: Proxy) -> None:
    planted(world)
    assert proxy.seen(kind="smtpprofiles", watch=True)[0].status == 200
    assert {each.status for each in proxy.records} <= {0, 200, 201, 404}
    unharmed(world)


@pytest.mark.parametrize("after", [1, None], ids=["with Retry-After", "without"])
def test_throttled_writes_are_retried_after_the_requested_delay(
    world: OperatedNamespace, proxy: Proxy, after: int | None
) -> None:
    fault = FaultAnswer(429, "TooManyRequests", retry_after=after)
    since = time.monotonic()
    proxy.fault = only(fault, lambda each: each.method == "PATCH" and each.kind in CHILDREN, 12)
    planted(world)
    refused = [each for each in proxy.seen(since) if each.status == 429]
    assert len(refused) == 12
    for one in refused:
        again = world.until(lambda one=one: retried(proxy, one))  # type: ignore[misc]
        assert again - one.at >= (after or 0.1) - 0.05
    calm(proxy, since)
    unharmed(world)


def test_watches_and_lists_beyond_the_limit_are_retried_later(world: OperatedNamespace, proxy: Proxy) -> None:
    planted(world)
    since = time.monotonic()
    reads = lambda each: each.method == "GET" and each.kind != "leases"  # noqa: E731
    proxy.fault = only(FaultAnswer(429, "TooManyRequests", 1), reads, 40)
    world.until(lambda: len([each for each in proxy.seen(since) if each.status == 429]) == 40)
    world.apply(template("other"))
    world.until(lambda: serves(world, "welcome", "other"))
    calm(proxy, since)
    unharmed(world)


@pytest.mark.parametrize(
    "kinds", [CHILDREN, ("emailtemplates", "smtpprofiles")], ids=["children", "statuses"]
)
def test_a_conflict_is_read_again(world: OperatedNamespace, proxy: Proxy, kinds: tuple[str, ...]) -> None:
    since = time.monotonic()
    fault = FaultAnswer(409, "Conflict")
    proxy.fault = only(fault, lambda each: each.method == "PATCH" and each.kind in kinds, 4)
    planted(world)
    world.until(lambda: len([each for each in proxy.seen(since) if each.status == 409]) == 4)
    world.until(lambda: serves(world, "welcome"))
    calm(proxy, since)
    unharmed(world)


@pytest.mark.parametrize("event", [True, False], ids=["in the stream", "as an answer"])
def test_an_expired_watch_starts_again_with_a_listing(
    world: OperatedNamespace, proxy: Proxy, event: bool
) -> None:
    planted(world)
    since = time.monotonic()
    proxy.fault = only(FaultAnswer(410, "Expired", event=event), lambda each: each.watch, 10)
    world.until(lambda: len(proxy.seen(since, watch=True)) > 10)
    world.apply(template("other"))
    world.until(lambda: serves(world, "welcome", "other"))
    assert [each for each in proxy.seen(since, kind="emailtemplates") if not each.request.watch]
    calm(proxy, since)
    unharmed(world)


def test_an_error_other_than_410_in_a_stream_stops_nothing(world: OperatedNamespace, proxy: Proxy) -> None:
    planted(world)
    since = time.monotonic()
    error = FaultAnswer(500, "InternalError", event=True)
    proxy.fault = only(error, lambda each: each.watch and each.kind == "emailtemplates", 2)
    world.until(lambda: world.operator.words.count("watch stream failed") == 2)
    world.apply(template("other"))
    world.until(lambda: serves(world, "welcome", "other"))
    calm(proxy, since)
    unharmed(world)


def test_a_change_during_silent_watches_is_noticed_soon_after_they_resume(
    world: OperatedNamespace, proxy: Proxy
) -> None:
    """Ten minutes of silence are 13 watches of 45 s; this is 13 watches of 3 s."""
    planted(world)
    since = time.monotonic()
    proxy.fault = lambda each: "silent" if each.watch else None
    world.apply(template("other"))
    time.sleep(13 * WATCH_SECONDS)
    assert not world.condition("EmailTemplate", "other"), "nothing but the watches tells of changes here"
    calm(proxy, since)
    proxy.fault = lambda _: None
    back = time.monotonic()
    world.until(lambda: serves(world, "welcome", "other"))
    assert time.monotonic() - back < WATCH_SECONDS + SLACK_SECONDS + 5.0
    unharmed(world)


def test_an_api_server_that_never_answers_is_survived(world: OperatedNamespace, proxy: Proxy) -> None:
    """It cannot renew its Lease, so that it exits, and its platform restarts it."""
    planted(world)
    since = time.monotonic()
    proxy.fault = lambda _: "silent"
    world.apply(template("other"))
    world.until(lambda: not world.operator.running)
    assert "lost the Lease; exiting" in world.operator.words
    world.operator.kill()
    world.operator.start()
    world.until(lambda: proxy.records[-1].at > since + 5.0)
    calm(proxy, since)
    proxy.fault = lambda _: None
    back = time.monotonic()
    world.until(lambda: serves(world, "welcome", "other"))
    assert time.monotonic() - back < 60.0
    unharmed(world)


def test_dropped_connections_are_opened_again(world: OperatedNamespace, proxy: Proxy) -> None:
    planted(world)
    since = time.monotonic()
    proxy.fault = only("drop", lambda _: True, 30)
    world.apply(template("other"))
    world.until(lambda: serves(world, "welcome", "other"))
    calm(proxy, since)
    unharmed(world)
