"""The program `postroom operator`. Wiring only.

It waits for the Lease, lists the cluster once, and then watches, reconciles and lists again until SIGTERM. It
exits with status 1 when it loses the Lease, so that Kubernetes starts it again as a standby.
"""

import asyncio
import contextlib
import sys

import structlog

from postroom.clock import SystemClock
from postroom.http.server import web_server
from postroom.startup import listen, run_program, stop_signal
from postroom_operator.health import HealthApp, OperatorHealth
from postroom_operator.kubernetes import KubernetesCluster, find_credentials
from postroom_operator.lease import Lease, LeaseFencedCluster, LeaseLost
from postroom_operator.metrics import OperatorMetrics
from postroom_operator.models import ClusterError, Ref
from postroom_operator.operator import Operator, RunContext, run_until_first_ends
from postroom_operator.settings import OperatorSettings

log = structlog.get_logger("postroom.operator")


def main() -> None:
    """Run until SIGTERM, or until the Lease is lost."""
    run_program("operator", OperatorSettings, serve)


async def serve(settings: OperatorSettings) -> None:
    """Run the operator with these settings."""
    clock, metrics, stopping = SystemClock(), OperatorMetrics(), stop_signal()
    credentials = find_credentials()
    async with (
        KubernetesCluster(credentials, metrics.count_request, clock.random) as cluster,
        KubernetesCluster(credentials, metrics.count_request, clock.random) as lease_cluster,
    ):
        ref = Ref("coordination.k8s.io/v1", "Lease", settings.pod_namespace, settings.lease)
        # with connections of its own: a renewal must not wait behind other requests
        lease = Lease(lease_cluster, ref, settings.holder, clock)
        operator = Operator(settings, LeaseFencedCluster(cluster, lease), clock)
        health = OperatorHealth(clock.monotonic, settings.resync_seconds, lambda: operator.queue.oldest_age)
        metrics.register_gauges(
            lambda: len(operator.queue), lambda: operator.queue.oldest_age, lambda: lease.held
        )
        metrics.register_objects(operator.readiness)
        server = web_server(HealthApp(health, metrics.registry), settings.operator_http)
        serving = asyncio.create_task(
            server.serve([listen(settings.operator_http, "POSTROOM_OPERATOR_HTTP")])
        )
        lost: BaseException | None = None
        try:
            await run_until_first_ends(
                _until(stopping), _lead(lease, operator, RunContext(credentials, metrics, health))
            )
        except* LeaseLost as group:
            lost = group.exceptions[0]
        finally:
            with contextlib.suppress(ClusterError):
                await lease.release()
            server.should_exit = True
            await serving
    if lost is not None:
        log.error("lost the Lease; exiting", reason=str(lost))
        sys.exit(1)


async def _until(stopping: asyncio.Event) -> None:
    await stopping.wait()


async def _lead(lease: Lease, operator: Operator, run_context: RunContext) -> None:
    await lease.acquire(lambda holder: log.info("another operator holds the Lease; waiting", holder=holder))
    log.info("acquired the Lease; listing the cluster")
    run_context.health.standby = False
    await run_until_first_ends(lease.keep(), operator.run(run_context))


if __name__ == "__main__":
    main()
