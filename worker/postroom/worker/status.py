"""The status of a running worker: /statusz, conditions, readiness problems and metrics."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from postroom.adapters.kafka.consumer import KafkaConsumer
from postroom.adapters.kafka.lag import BacklogMonitor
from postroom.adapters.metrics import GaugeValues, WorkerMetrics
from postroom.adapters.templates import FolderTemplates
from postroom.delivery.consumer import BatchConsumer
from postroom.delivery.router import RelayRouter
from postroom.policy.circuit_breaker import Phase
from postroom.ports.ledger import Ledger
from postroom.ports.world import IsolatedRenderer
from postroom.worker.conditions import (
    NOT_CONNECTED,
    Condition,
    callbacks_condition,
    circuit_condition,
    fallback_condition,
    kafka_condition,
    ledger_condition,
    rehearsal_condition,
    relay_condition,
    secrets_condition,
    status_events_condition,
    templates_condition,
)
from postroom.worker.config import WorkerConfig
from postroom.worker.resources import Resources
from postroom.worker.secrets import SecretWatcher
from postroom.worker.status_server import build_status
from postroom.worker.telemetry import Reporter


class InspectedWorker(Protocol):
    """The parts of a worker that its status reads."""

    @property
    def config(self) -> WorkerConfig: ...
    @property
    def secrets(self) -> SecretWatcher: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def resources(self) -> Resources: ...
    @property
    def templates(self) -> FolderTemplates: ...
    @property
    def router(self) -> RelayRouter: ...
    @property
    def rehearsal(self) -> IsolatedRenderer: ...


class WorkerStatus:
    """The StatusSource of a running worker."""

    def __init__(
        self,
        parts: InspectedWorker,
        events: KafkaConsumer,
        reception: BatchConsumer,
        backlog: BacklogMonitor | None,
    ) -> None:
        """`backlog`: the source of the lag while the profile is suspended and nothing is received."""
        self._config, self._secrets = parts.config, parts.secrets
        self._ledger, self._templates, self._resources = parts.ledger, parts.templates, parts.resources
        self._events, self._reception, self._backlog = events, reception, backlog
        self._router, self._rehearsal = parts.router, parts.rehearsal
        self.metrics = WorkerMetrics(self._gauges, self._counters)
        self.registry = self.metrics.registry
        self.reporter = Reporter(self.metrics, parts.config.clock)
        self.draining = False

    def status(self) -> dict[str, Any]:
        conditions = self._conditions()
        return build_status(self._config, conditions, self._problems(conditions)) | {
            "templates": {one.name: one.revision for one in self._templates.current().templates.values()},
            "templates_problem": self._templates.problem,
            "fields_left_out": [*self._config.left_out, *self._templates.left_out],
            "partitions": [f"{topic}/{number}" for topic, number in self._reception.partitions],
            "inflight_records": self._reception.open_records,
            "lag": self._backlog.records if self._backlog else self._events.lag,
            "letters": dict(self.reporter.totals),
            "last_refusal": self.reporter.last_refusal,
            "clock_ahead": round(self._ledger.health.clock_ahead, 1),
        }

    def _conditions(self) -> dict[str, Condition]:
        templates = self._templates
        return {
            "secrets": secrets_condition(self._secrets.problems, self._secrets.later_problems),
            "ledger": ledger_condition(self._ledger.health),
            "kafka": kafka_condition(self._events.broker_health, self._config.profile.spec.suspend),
            "relay": relay_condition(self._config.exit),
            "circuit": circuit_condition(self._router.own, self._router.fallback),
            "templates": templates_condition(templates.problem, templates.ready.is_set()),
        } | dict(self._optional_conditions())

    def _optional_conditions(self) -> Iterator[tuple[str, Condition]]:
        """Yield the conditions that only some profiles have."""
        if self._rehearsal.last_error:
            yield "rehearsal", rehearsal_condition(self._rehearsal.last_error)
        if self._config.signing:
            yield "signing", self._config.signing.condition
        if self._config.returns:
            yield "bounces", self._config.returns.condition
        if self._resources.courier:
            yield "status_events", status_events_condition(self._resources.courier)
        if self._config.exit.fallback or self._config.exit.fallback_problem:
            yield "fallback", fallback_condition(self._config.exit, self._secrets.fallback_problems)
        if callbacks := self._config.callbacks:
            now = self._config.clock.now()
            troubles = [one.last_error(now) for one in callbacks]
            yield "callbacks", callbacks_condition(troubles, any(one.reached for one in callbacks))

    def _problems(self, conditions: Mapping[str, Condition]) -> list[str]:
        """Why this worker is not ready.

        A connections Secret that was deleted or became invalid is no problem: the connections still work.
        """
        problems = ["draining"] if self.draining else []
        problems += [f"secrets: {each.field}: {each.message}" for each in self._secrets.relay_problems]
        for name in ("ledger", "kafka", "templates", "rehearsal", "signing", "bounces"):
            each = conditions.get(name)
            if each is None:
                continue
            if each.ok is False or each == NOT_CONNECTED:
                problems.append(f"{name}: {each.message}")
        return problems

    def _gauges(self) -> GaugeValues:
        reachable = self._router.reachable
        return {
            "inflight_records": (
                self._reception.open_records,
                "Records received and not yet finished.",
            ),
            "consumer_lag_records": (
                None if self._backlog else self._events.lag,
                "Records on the assigned partitions that were not received yet; absent while unknown.",
            ),
            "suspended_lag_records": (
                self._backlog.records if self._backlog else None,
                "Records that wait for a suspended profile, on all partitions; do not sum over workers.",
            ),
            "relay_reachable": (
                None if reachable is None else float(reachable),
                "Whether the last connection to the relay succeeded; absent before the first letter.",
            ),
            "ledger_ok": (float(self._ledger.health.ok), "Whether the ledger takes writes."),
            "clock_ahead_seconds": (
                self._ledger.health.clock_ahead,
                "Seconds by which this machine's clock is ahead of the ledger's.",
            ),
        } | self._route_gauges()

    def _route_gauges(self) -> dict[str, tuple[float | None, str]]:
        own = self._router.own
        facts: dict[str, tuple[float | None, str]] = {
            "circuit_open": (
                float(own.breaker.phase is not Phase.CLOSED),
                "Whether the circuit of the relay is open or half-open.",
            ),
            "circuit_failures": (
                own.breaker.circuit.failures,
                "Consecutive failures of the relay, counted over all workers.",
            ),
        }
        if own.rate_share:
            meaning = "This worker's share of limits.rate, in letters per period."
            facts["rate_share"] = (own.rate_share.count, meaning)
        return facts

    def _counters(self) -> GaugeValues:
        health, relay = self._ledger.health, self._config.exit.counters
        facts: dict[str, tuple[float | None, str]] = {
            "ledger_commits": (health.commits, "Transactions of the ledger."),
            "ledger_rows": (health.rows, "Rows claimed, fenced or settled."),
            "late_settlements": (
                health.late_settlements,
                "Settlements that came after another worker took over the letter.",
            ),
        }
        if self._router.fallback:
            through = self._router.fallback.letters
            facts["fallback_letters"] = (through, "Letters given to the fallback's relay.")
        if relay is not None:
            facts |= {
                "relay_connects": (relay.connects, "SMTP connections opened."),
                "relay_connect_failures": (
                    relay.connect_failures,
                    "SMTP connections that could not be opened.",
                ),
                "relay_letters": (relay.letters, "Letters offered to the relay."),
                "relay_pipelined": (relay.pipelined, "Letters whose envelope was pipelined."),
            }
        return facts
