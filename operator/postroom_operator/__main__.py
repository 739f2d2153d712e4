"""The operator's program: `postroom operator`. Wiring only.

It waits for the Lease, lists the cluster once, and then watches, reconciles and lists again until it is told
to end. It ends with status 1 when it loses the Lease, so that its platform starts it anew as one who waits.
"""

import asyncio
import contextlib
import sys

import structlog

from postroom.clock import SystemClock
from postroom.startup import listen, run_program, stop_signal
from postroom.web import web_server
from postroom_operator.adapters.access import find_access
from postroom_operator.adapters.kubernetes import KubernetesCluster
from postroom_operator.cluster import ClusterError, Ref
from postroom_operator.lease import Fenced, Lease, LeaseLost
from postroom_operator.metrics import Metrics
from postroom_operator.page import Health, Page
from postroom_operator.running import Running, Watched, first_of
from postroom_operator.settings import OperatorSettings

log = structlog.get_logger("postroom.operator")


def main() -> None:
    """Run until SIGTERM, or until the Lease is lost."""
    run_program("operator", OperatorSettings, serve)


async def serve(settings: OperatorSettings) -> None:
    """Run the operator with these settings."""
    clock, metrics, stopping = SystemClock(), Metrics(), stop_signal()
    access = find_access()
    async with (
        KubernetesCluster(access, metrics.requested, clock.random) as cluster,
        KubernetesCluster(access, metrics.requested, clock.random) as own_line,
    ):
        ref = Ref("coordination.k8s.io/v1", "Lease", settings.pod_namespace, settings.lease)
        # on connections of its own: a renewal must not queue behind everything else
        lease = Lease(own_line, ref, settings.holder, clock)
        running = Running(settings, Fenced(cluster, lease), clock)
        health = Health(clock.monotonic, settings.resync_seconds, lambda: running.queue.age)
        metrics.watch(lambda: len(running.queue), lambda: running.queue.age, lambda: lease.held)
        metrics.watch_objects(running.readiness)
        server = web_server(Page(health, metrics.registry), settings.operator_http)
        page = asyncio.create_task(server.serve([listen(settings.operator_http, "POSTROOM_OPERATOR_HTTP")]))
        lost: BaseException | None = None
        try:
            await first_of(_until(stopping), _lead(lease, running, Watched(access, metrics, health)))
        except* LeaseLost as group:
            lost = group.exceptions[0]
        finally:
            with contextlib.suppress(ClusterError):
                await lease.release()
            server.should_exit = True
            await page
    if lost is not None:
        log.error("the Lease is lost; ending", why=str(lost))
        sys.exit(1)


async def _until(stopping: asyncio.Event) -> None:
    await stopping.wait()


async def _lead(lease: Lease, running: Running, watched: Watched) -> None:
    await lease.acquire(lambda holder: log.info("another operator holds the Lease; waiting", holder=holder))
    log.info("holds the Lease; listing the cluster")
    watched.health.standby = False
    await first_of(lease.keep(), running.run(watched))


if __name__ == "__main__":
    main()
