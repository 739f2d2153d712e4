"""The status of a worker: facts that its parts report → conditions, /statusz, readiness and metrics.

`*_condition`: one Condition for each dependency. `ok` is None while the state is unknown; a reason is one
CamelCase word that does not depend on details; the message is for people and contains no personal data.
`status_pages`: /healthz, /readyz, /metrics and /statusz of a `StatusSource`: first one that reports what the
worker waits for, then the `WorkerStatus` of the running worker.

A worker is ready while it can receive events and settle them. An unreachable relay does not affect readiness:
letters wait in the ledger, and another pod would use the same relay.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette import routing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from postroom.adapters.kafka.broker_health import BrokerHealth
from postroom.adapters.kafka.consumer import KafkaConsumer
from postroom.adapters.kafka.lag import BacklogMonitor
from postroom.adapters.metrics import GaugeValues, WorkerMetrics
from postroom.delivery.consumer import BatchConsumer
from postroom.delivery.router import Route
from postroom.letter.address import mask_addresses
from postroom.letter.problems import Code, Problem
from postroom.policy.circuit_breaker import Phase
from postroom.ports.notifications import StatusEventPublisher
from postroom.ports.world import LedgerHealth
from postroom.worker.relays import RelaySelection
from postroom.worker.telemetry import Reporter

if TYPE_CHECKING:
    from postroom.worker.config import WorkerConfig
    from postroom.worker.main import WorkerParts


@dataclass(frozen=True, slots=True)
class Condition:
    """The state of one dependency of a worker."""

    ok: bool | None
    reason: str
    message: str = ""


NOT_YET = Condition(None, "NotYet", "the worker waits for an earlier dependency")
NOT_CONNECTED = Condition(None, "NotConnectedYet", "not connected yet")


def to_json(conditions: Mapping[str, Condition]) -> dict[str, dict[str, Any]]:
    """Convert conditions to the JSON of /statusz."""
    return {name: asdict(condition) for name, condition in conditions.items()}


def reason_of(code: Code) -> str:
    """Convert a problem code to a reason: secret_key_missing → SecretKeyMissing."""
    return "".join(word.capitalize() for word in code.value.split("_"))


def refused_condition(problems: Sequence[Problem]) -> Condition:
    """Build a failed condition from at least one problem."""
    return Condition(False, reason_of(problems[0].code), _problem_text(problems))


def _problem_text(problems: Sequence[Problem]) -> str:
    return "; ".join(f"{problem.field}: {problem.message}" for problem in problems)


def secrets_condition(problems: Sequence[Problem], later: Sequence[Problem]) -> Condition:
    """The mounted Secrets; `later`: problems that matter only once delivery is allowed."""
    if problems:
        return refused_condition(problems)
    if later:
        message = f"not needed while letters go to the sandbox; required for delivery: {_problem_text(later)}"
        return Condition(True, "MissingForDelivery", message)
    return Condition(True, "Complete")


def ledger_condition(health: LedgerHealth) -> Condition:
    """The open ledger."""
    if health.ok:
        return Condition(True, "Reachable")
    return Condition(False, "LedgerUnreachable", health.reason)


def kafka_condition(health: BrokerHealth, suspended: bool) -> Condition:
    """The brokers and the topic."""
    if suspended:
        return Condition(None, "Suspended", "a suspended profile reads no events")
    if health.auth_error:
        message = f"Kafka authentication failed: {health.auth_error}. Correct the connections Secret"
        return Condition(False, "AuthenticationFailed", message)
    if health.connected is False:
        reason = f": {health.transport_error}" if health.transport_error else ""
        return Condition(False, "BrokerUnreachable", f"no broker answers{reason}")
    if health.acl_error:
        needs = f"Read on topic {health.topic} and on group {health.group}"
        return Condition(False, "NotAuthorized", f"{health.acl_error}. The Kafka user needs {needs}")
    if health.topic_missing:
        message = f"topic {health.topic} does not exist yet; the worker waits for it"
        return Condition(False, "TopicMissing", message)
    if health.connected is None:
        return NOT_CONNECTED
    return Condition(True, "Connected")


def relay_condition(selection: RelaySelection) -> Condition:
    """The relay, by the result of the last connection."""
    reachable = selection.relay.reachable
    if selection.mode == "Log":
        return Condition(True, "LogOnly", "letters are logged, none is sent")
    if reachable is None:
        return Condition(None, "NotAttempted", f"no letter was sent to {selection.where} yet")
    if reachable:
        return Condition(True, "Reachable")
    message = f"{selection.where} failed at the last attempt: {selection.relay.last_error}"
    return Condition(False, "RelayUnreachable", message)


def circuit_condition(own: Route, fallback: Route | None) -> Condition:
    """The circuit of the profile's relay, which all its workers share."""
    phase = own.breaker.phase
    if phase is Phase.CLOSED:
        return Condition(True, "Closed")
    state = f"letters are sent through {fallback.via}" if fallback and fallback.open else "letters wait"
    message = f"{state} until the relay answers again; the last failure: {own.breaker.circuit.reason}"
    return Condition(False, "Probing" if phase is Phase.HALF_OPEN else "Open", mask_addresses(message))


def fallback_condition(selection: RelaySelection, missing: Sequence[Problem]) -> Condition:
    """The fallback that the profile names."""
    problems = [selection.fallback_problem] if selection.fallback_problem else missing
    if problems:
        return refused_condition(problems)
    return Condition(True, "Ready", f"{selection.fallback.profile} takes over" if selection.fallback else "")


def status_events_condition(publisher: StatusEventPublisher) -> Condition:
    """The producer of status events."""
    if publisher.last_error is None:
        return Condition(None, "NotAttempted", "no status event was published yet")
    if publisher.last_error:
        return Condition(False, "NotPublished", f"status events wait in the ledger: {publisher.last_error}")
    return Condition(True, "Published")


def callbacks_condition(failures: Iterable[tuple[str, str] | None], reached: bool) -> Condition:
    """The callbacks, from the reason and message of each that fails.

    `reached`: whether any of them has accepted a notification.
    """
    found = [failure for failure in failures if failure]
    if found:
        return Condition(False, found[0][0], "; ".join(message for _, message in found))
    if not reached:
        return Condition(None, "NotAttempted", "no notification was sent yet")
    return Condition(True, "Called")


def renderer_condition(error: str) -> Condition:
    """The isolated renderer, which does not start."""
    message = (
        "after an unclean exit, the records that may have caused it wait to be rendered in a separate "
        f"process, which does not start: {error}. The start is retried; see the worker's log"
    )
    return Condition(False, "RendererNotStarted", message)


def templates_condition(problem: str, read: bool) -> Condition:
    """The bundles of compiled templates."""
    if problem:
        return Condition(False, "BundleUnreadable", problem)
    return Condition(True, "Live") if read else Condition(None, "NotReadYet")


class StatusSource(Protocol):
    """The source of the pages: a running worker, a waiting worker or the bounce intake."""

    registry: CollectorRegistry

    def status(self) -> Mapping[str, Any]:
        """Return the content of /statusz; `problems` is empty if the program is ready."""
        ...


class StatusServer:
    """Holds the current source of the pages; a worker replaces it when it starts running."""

    def __init__(self, source: StatusSource) -> None:
        self.source = source


def status_pages(server: StatusServer) -> Starlette:
    """The pages as an ASGI application."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        problems = server.source.status()["problems"]
        return JSONResponse({"ready": not problems, "problems": problems}, 503 if problems else 200)

    async def statusz(_: Request) -> Response:
        return JSONResponse(dict(server.source.status()))

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(server.source.registry), media_type=CONTENT_TYPE_LATEST)

    pages = (healthz, readyz, statusz, metrics)
    return Starlette(routes=[routing.Route(f"/{page.__name__}", page) for page in pages])


def build_status(
    config: "WorkerConfig", conditions: Mapping[str, Condition], problems: list[str]
) -> dict[str, Any]:
    """Build the fields of /statusz that every worker has; a running worker adds its own."""
    return {
        "profile": config.policy.profile,
        "mode": config.relay_selection.mode,
        "guarded": config.relay_selection.guarded,
        "suspended": config.profile.spec.suspend,
        "pod": config.settings.pod,
        "profile_hash": config.settings.profile_hash,
        "unknown_fields": list(config.unknown_fields),
        "problems": problems,
        "conditions": to_json(conditions),
        "templates": {},
        "templates_problem": "",
        "partitions": [],
        "inflight_records": 0,
        "lag": None,
        "letters": {},
        "last_refusal": "",
        "clock_ahead": 0.0,
    }


class WorkerStatus:
    """The StatusSource of a running worker."""

    def __init__(
        self,
        parts: "WorkerParts",
        events: KafkaConsumer,
        consumer: BatchConsumer,
        backlog: BacklogMonitor | None,
    ) -> None:
        """`backlog`: the source of the lag while the profile is suspended and nothing is received."""
        self._config, self._secrets = parts.config, parts.secrets
        self._ledger, self._templates, self._resources = parts.ledger, parts.templates, parts.resources
        self._events, self._consumer, self._backlog = events, consumer, backlog
        self._router, self._renderer = parts.router, parts.renderer
        self.metrics = WorkerMetrics(self._gauges, self._counters)
        self.registry = self.metrics.registry
        self.reporter = Reporter(self.metrics, parts.config.clock)
        self.draining = False

    def status(self) -> dict[str, Any]:
        conditions = self._conditions()
        return build_status(self._config, conditions, self._problems(conditions)) | {
            "templates": {
                template.name: template.revision for template in self._templates.current().templates.values()
            },
            "templates_problem": self._templates.problem,
            "unknown_fields": [*self._config.unknown_fields, *self._templates.unknown_fields],
            "partitions": [f"{topic}/{number}" for topic, number in self._consumer.partitions],
            "inflight_records": self._consumer.open_records,
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
            "relay": relay_condition(self._config.relay_selection),
            "circuit": circuit_condition(self._router.own, self._router.fallback),
            "templates": templates_condition(templates.problem, templates.ready.is_set()),
        } | dict(self._optional_conditions())

    def _optional_conditions(self) -> Iterator[tuple[str, Condition]]:
        """Yield the conditions that only some profiles have."""
        if self._renderer.last_error:
            yield "renderer", renderer_condition(self._renderer.last_error)
        if self._config.signing:
            yield "signing", self._config.signing.condition
        if self._config.returns:
            yield "bounces", self._config.returns.condition
        if self._resources.status_events:
            yield "status_events", status_events_condition(self._resources.status_events)
        if self._config.relay_selection.fallback or self._config.relay_selection.fallback_problem:
            yield (
                "fallback",
                fallback_condition(self._config.relay_selection, self._secrets.fallback_problems),
            )
        if callbacks := self._config.callbacks:
            now = self._config.clock.now()
            troubles = [callback.last_error(now) for callback in callbacks]
            yield "callbacks", callbacks_condition(troubles, any(callback.reached for callback in callbacks))

    def _problems(self, conditions: Mapping[str, Condition]) -> list[str]:
        """Why this worker is not ready.

        A connections Secret that was deleted or became invalid is no problem: the connections still work.
        """
        problems = ["draining"] if self.draining else []
        problems += [
            f"secrets: {problem.field}: {problem.message}" for problem in self._secrets.relay_problems
        ]
        for name in ("ledger", "kafka", "templates", "renderer", "signing", "bounces"):
            condition = conditions.get(name)
            if condition is None:
                continue
            if condition.ok is False or condition == NOT_CONNECTED:
                problems.append(f"{name}: {condition.message}")
        return problems

    def _gauges(self) -> GaugeValues:
        reachable = self._router.reachable
        return {
            "inflight_records": (
                self._consumer.open_records,
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
        health, relay = self._ledger.health, self._config.relay_selection.counters
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
