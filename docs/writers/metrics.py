"""The page of the metrics: what each program serves at /metrics, read from instances with test doubles."""

import re
from collections.abc import Iterator
from unittest.mock import MagicMock

from prometheus_client import generate_latest

from postroom.adapters.metrics import BounceMetrics
from postroom.bounces.server import BounceStats
from postroom.gateway.app import GatewayMetrics
from postroom.sandbox import app
from postroom.worker.status import WorkerStatus
from postroom_operator.metrics import OperatorMetrics
from writers.tables import Words, table

INTRODUCTION = """\
Each program serves these at `/metrics` in Prometheus' text format. The chart's `metrics.serviceMonitor`
scrapes the operator; `metrics.podMonitor` scrapes workers and bounce intakes and adds the profile's name as
the label `postroom_dev_profile`. The sandbox's metrics are on the port of its inbox, which is [reachable
from its own namespace only](cluster-objects.md#network). [](alerts.md) lists what to alert on. An unknown
value has no sample; it is never reported as 0.
"""
FAMILY = re.compile(r"^# HELP (\S+) (.*)\n# TYPE \S+ (\S+)$", re.MULTILINE)


def metrics(_: Words) -> str:
    """Every metric of worker, gateway, sandbox and operator."""
    worker = generate_latest(
        WorkerStatus(MagicMock(), MagicMock(), MagicMock(), MagicMock()).metrics.registry
    )
    counted = OperatorMetrics()
    counted.register_gauges(float, float, float)
    counted.record_resync(0)
    counted.register_objects(list)
    operator = generate_latest(counted.registry).decode()
    sandbox = bytes(app.metrics(MagicMock()).body)
    lines = ["# Metrics\n", INTRODUCTION]
    served = {
        "Worker": worker.decode(),
        "Bounce intake": generate_latest(BounceMetrics(BounceStats(), int, bool).registry).decode(),
        "Gateway": GatewayMetrics().exposition().decode(),
        "Sandbox": sandbox.decode(),
        "Operator": operator,
    }
    for program, text in served.items():
        lines += [f"## {program}\n", table(("Metric", "Type", "Meaning"), families(text))]
    return "\n".join(lines)


def families(exposition: str) -> Iterator[tuple[str, str, str]]:
    """The metrics of an exposition, without the creation times that the client library adds."""
    for found in FAMILY.finditer(exposition):
        if not found[1].endswith("_created"):
            yield f"`{found[1]}`", found[3], found[2]
