"""A worker at work, looked at from outside: its page, its conditions, its figures."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from postroom.adapters.kafka.consumer import KafkaConsumer
from postroom.adapters.kafka.lag import BacklogMonitor
from postroom.adapters.metrics import Facts, Metrics
from postroom.adapters.templates import FolderTemplates
from postroom.delivery.decide.breaker import Phase
from postroom.delivery.programs.conditions import (
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
from postroom.delivery.programs.job import Job
from postroom.delivery.programs.opening import Means
from postroom.delivery.programs.report import Reporter
from postroom.delivery.programs.secrets import Secrets
from postroom.delivery.programs.status import page_of
from postroom.delivery.receive import Reception
from postroom.delivery.ways import Ways
from postroom.ports.ledger import Ledger
from postroom.ports.rehearsal import Rehearsal


class Inspected(Protocol):
    """What is looked at, besides the intake."""

    @property
    def job(self) -> Job: ...
    @property
    def secrets(self) -> Secrets: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def means(self) -> Means: ...
    @property
    def templates(self) -> FolderTemplates: ...
    @property
    def ways(self) -> Ways: ...
    @property
    def rehearsal(self) -> Rehearsal: ...


class Watch:
    """Implements status.Shown for a worker at work."""

    def __init__(
        self, parts: Inspected, events: KafkaConsumer, reception: Reception, backlog: BacklogMonitor | None
    ) -> None:
        """`backlog`: what is looked at while the profile is suspended, and nothing is received."""
        self._job, self._secrets = parts.job, parts.secrets
        self._ledger, self._templates, self._means = parts.ledger, parts.templates, parts.means
        self._events, self._reception, self._backlog = events, reception, backlog
        self._ways, self._rehearsal = parts.ways, parts.rehearsal
        self.metrics = Metrics(self._gauges, self._counters)
        self.registry = self.metrics.registry
        self.reporter = Reporter(self.metrics, parts.job.clock)
        self.draining = False

    def status(self) -> dict[str, Any]:
        """See the protocol."""
        conditions = self._conditions()
        return page_of(self._job, conditions, self._problems(conditions)) | {
            "templates": {one.name: one.revision for one in self._templates.current().templates.values()},
            "templates_problem": self._templates.problem,
            "fields_left_out": [*self._job.left_out, *self._templates.left_out],
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
            "kafka": kafka_condition(self._events.broker_health, self._job.profile.spec.suspend),
            "relay": relay_condition(self._job.exit),
            "circuit": circuit_condition(self._ways.own, self._ways.fallback),
            "templates": templates_condition(templates.problem, templates.ready.is_set()),
        } | dict(self._of_some())

    def _of_some(self) -> Iterator[tuple[str, Condition]]:
        """What not every profile has, or not at all times."""
        if self._rehearsal.last_error:
            yield "rehearsal", rehearsal_condition(self._rehearsal.last_error)
        if self._job.signing:
            yield "signing", self._job.signing.condition
        if self._job.returns:
            yield "bounces", self._job.returns.condition
        if self._means.courier:
            yield "status_events", status_events_condition(self._means.courier)
        if self._job.exit.fallback or self._job.exit.fallback_problem:
            yield "fallback", fallback_condition(self._job.exit, self._secrets.fallback_problems)
        if callbacks := self._job.callbacks:
            now = self._job.clock.now()
            troubles = [one.last_error(now) for one in callbacks]
            yield "callbacks", callbacks_condition(troubles, any(one.reached for one in callbacks))

    def _problems(self, conditions: Mapping[str, Condition]) -> list[str]:
        """Why this worker is not ready.

        A connections Secret that was deleted or spoilt since is no reason: the connections still work.
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

    def _gauges(self) -> Facts:
        reachable = self._ways.reachable
        return {
            "inflight_records": (
                self._reception.open_records,
                "Records received and not yet behind the watermark.",
            ),
            "consumer_lag_records": (
                None if self._backlog else self._events.lag,
                "Records on the assigned partitions that were not received yet; absent while unknown.",
            ),
            "suspended_lag_records": (
                self._backlog.records if self._backlog else None,
                "Records that wait for a suspended profile, on all partitions: each worker tells them.",
            ),
            "relay_reachable": (
                None if reachable is None else float(reachable),
                "Whether the relay answered last time; absent until a letter has gone to it.",
            ),
            "ledger_ok": (float(self._ledger.health.ok), "Whether the ledger takes writes."),
            "clock_ahead_seconds": (
                self._ledger.health.clock_ahead,
                "Seconds that this machine's clock is ahead of the ledger's, whose time is used.",
            ),
        } | self._ways_now()

    def _ways_now(self) -> dict[str, tuple[float | None, str]]:
        own = self._ways.own
        facts: dict[str, tuple[float | None, str]] = {
            "circuit_open": (
                float(own.breaker.phase is not Phase.CLOSED),
                "Whether the circuit of the relay is open, or waits for its probe's answer.",
            ),
            "circuit_failures": (
                own.breaker.circuit.failures,
                "Failures of the relay in a row, all workers'.",
            ),
        }
        if own.portion:
            meaning = "Letters in the period of limits.rate that are this worker's share."
            facts["rate_share"] = (own.portion.count, meaning)
        return facts

    def _counters(self) -> Facts:
        health, relay = self._ledger.health, self._job.exit.counters
        facts: dict[str, tuple[float | None, str]] = {
            "ledger_commits": (health.commits, "Transactions of the ledger."),
            "ledger_rows": (health.rows, "Rows claimed, fenced or settled."),
            "late_settlements": (
                health.late_settlements,
                "Settlements that came after somebody else took over.",
            ),
        }
        if self._ways.fallback:
            through = self._ways.fallback.letters
            facts["fallback_letters"] = (through, "Letters handed to the fallback's relay.")
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
