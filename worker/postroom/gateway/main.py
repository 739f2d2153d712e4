"""`postroom gateway`: the process that serves the HTTP API, configured by its environment (settings.py).

On SIGTERM and SIGINT it stops accepting requests, waits for outstanding acknowledgements and ends with
status 0. It reads the connections Secret only at start: restart the gateway after a change of it.
"""

import asyncio
import sqlite3
from pathlib import Path

import structlog
from confluent_kafka import KafkaException

from postroom.adapters.ledger.reader import AttemptView, FileLedgerReader, LetterView
from postroom.clock import SystemClock
from postroom.connections import ConnectionsSecret, KafkaConnection, read_kafka
from postroom.gateway.app import (
    AttemptStatus,
    GatewayMetrics,
    LetterStatus,
    Services,
    create_gateway_app,
)
from postroom.gateway.intake import MessageIntake, new_message_id
from postroom.gateway.profiles import TemplateStore
from postroom.gateway.publisher import KafkaPublisher
from postroom.gateway.settings import GatewaySettings
from postroom.http.endpoint import Endpoint
from postroom.http.server import web_server
from postroom.letter.problems import Code, Problem, Rejected
from postroom.secret_files import read_folder
from postroom.startup import listen, run_program, stop_signal


def main() -> None:
    """Run the gateway until SIGTERM or SIGINT; settings that are invalid end it with status 2."""
    run_program("gateway", GatewaySettings, serve)


async def serve(settings: GatewaySettings) -> None:
    """Listen and serve until SIGTERM or SIGINT; raises Rejected when the gateway cannot start."""
    log = structlog.get_logger("gateway")
    publisher = open_publisher(settings)
    store = TemplateStore(settings.bundles)
    intake = MessageIntake(store.router, publisher, SystemClock().now, new_message_id)
    status_reader = LedgerStatusReader(settings.gateway_ledgers) if settings.gateway_ledgers else None
    readiness = GatewayReadiness(store, publisher)
    services = Services(intake, GatewayMetrics(), readiness.unready_reason, status_reader)
    app = create_gateway_app(services, settings.gateway_allowed_hosts)
    server = web_server(app, settings.gateway_http)
    stopping = stop_signal()
    with listen(settings.gateway_http, "POSTROOM_GATEWAY_HTTP") as listening:
        log.info("gateway ready", address=f"http://{Endpoint(*listening.getsockname()[:2])}")
        serving = asyncio.create_task(server.serve([listening]))
        await stopping.wait()
        server.should_exit = True
        await serving
    await publisher.close()
    log.info("gateway stopped")


def open_publisher(settings: GatewaySettings) -> KafkaPublisher:
    """Connect a producer by the connections Secret or the bootstrap servers; raises Rejected."""
    kafka, source = KafkaConnection(settings.bootstrap_servers or ""), "POSTROOM_BOOTSTRAP_SERVERS"
    if settings.connections is not None:
        source = f"the Secret mounted at {settings.connections}"
        kafka = read_kafka(ConnectionsSecret(read_folder(settings.connections), settings.connections, source))
    try:
        return KafkaPublisher(kafka, settings.gateway_ack_seconds)
    except KafkaException as failure:
        raise Rejected(Problem(Code.SETTING_INVALID, source, failure.args[0].str())) from None


class GatewayReadiness:
    """Checks whether a message would be accepted."""

    def __init__(self, store: TemplateStore, publisher: KafkaPublisher) -> None:
        self._store = store
        self._publisher = publisher

    async def unready_reason(self) -> str | None:
        """None while the gateway is ready, else the reason why not."""
        if not self._store.router().entries:
            return "no profile has live templates yet"
        if not await self._publisher.is_reachable():
            return "the broker does not answer"
        return None


class LedgerStatusReader:
    """Reads the state of letters from the SQLite ledgers in a folder, while the workers write them.

    A lookup reads whole tables, about a second for a million letters: a ledger has no index on message ids.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, message_id: str) -> list[LetterStatus]:
        """The letters of a message id in all ledgers; a ledger that cannot be read yet is left out."""
        found: list[LetterView] = []
        for path in sorted(self._folder.glob("*.sqlite")):
            try:
                with FileLedgerReader(path) as ledger:
                    found += ledger.find(message_id)
            except sqlite3.Error:  # a worker is creating the file
                continue
        return [_letter_status(letter) for letter in found if letter.event_id == message_id]


def _letter_status(letter: LetterView) -> LetterStatus:
    return LetterStatus(
        id=letter.event_id,
        profile=letter.profile,
        event_type=letter.event_type,
        state=letter.state,
        code=letter.code,
        reason=letter.reason,
        template=letter.template,
        revision=letter.revision,
        message_id=letter.message_id,
        received=letter.received,
        updated=letter.updated,
        due=letter.due,
        in_doubt_count=letter.in_doubt_count,
        attempts=tuple(_attempt_status(attempt, letter.profile) for attempt in letter.attempts),
    )


def _attempt_status(attempt: AttemptView, profile: str) -> AttemptStatus:
    relay = attempt.relay(profile) or None
    return AttemptStatus(attempt.at, attempt.result, attempt.stage, attempt.code, attempt.text, relay)
