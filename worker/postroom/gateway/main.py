"""Look messages up in the ledgers of a folder, beside the workers that write them.

Read-only connections; a look reads whole tables, about a second a million letters, since a ledger has no
index on message ids on purpose.

`postroom gateway`: the HTTP intake as a process, configured by its environment (gateway/settings.py).

It ends in order on SIGTERM and SIGINT: no new requests, acknowledgements on the way are waited for. The
connections Secret is read at start: after a change of it, start the gateway anew.
"""

import asyncio
import sqlite3
from pathlib import Path

import structlog
from confluent_kafka import KafkaException

from postroom.adapters.ledger.reader import FileLedgerReader, LetterView
from postroom.clock import SystemClock
from postroom.connections import ConnectionsSecret, KafkaConnection, read_kafka
from postroom.gateway.app import GatewayMetrics, Services, create_gateway_app
from postroom.gateway.host import HostGuard
from postroom.gateway.intake import MessageIntake, new_message_id
from postroom.gateway.profiles import TemplateStore
from postroom.gateway.publisher import KafkaPublisher
from postroom.gateway.settings import GatewaySettings
from postroom.gateway.status import AttemptStatus, LetterStatus
from postroom.http.endpoint import Endpoint
from postroom.http.server import web_server
from postroom.letter.problems import Code, Problem, Rejected
from postroom.secret_files import read_folder
from postroom.startup import listen, run_program, stop_signal


class LedgerStatusReader:
    """Implements gateway.status.Letters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, message_id: str) -> list[LetterStatus]:
        """See the port."""
        found: list[LetterView] = []
        for path in sorted(self._folder.glob("*.sqlite")):
            try:
                with FileLedgerReader(path) as ledger:
                    found += ledger.find(message_id)
            except sqlite3.Error:  # being created at this very moment
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
        doubts=letter.in_doubt_count,
        attempts=tuple(
            AttemptStatus(
                attempt.at,
                attempt.result,
                attempt.stage,
                attempt.code,
                attempt.text,
                attempt.relay(letter.profile) or None,
            )
            for attempt in letter.attempts
        ),
    )


def main() -> None:
    """Serve until a signal asks to end; what cannot start ends with status 2."""
    run_program("gateway", GatewaySettings, serve)


async def serve(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    log = structlog.get_logger("gateway")
    publisher = open_publisher(settings)
    store = TemplateStore(settings.bundles)
    intake = MessageIntake(store.router, publisher, SystemClock().now, new_message_id)
    status_reader = LedgerStatusReader(settings.gateway_ledgers) if settings.gateway_ledgers else None
    services = Services(intake, GatewayMetrics(), GatewayReadiness(store, publisher).problem, status_reader)
    server = web_server(
        HostGuard(create_gateway_app(services), settings.gateway_allowed_hosts), settings.gateway_http
    )
    stopping = stop_signal()
    with listen(settings.gateway_http, "POSTROOM_GATEWAY_HTTP") as listening:
        log.info("gateway serves", address=f"http://{Endpoint(*listening.getsockname()[:2])}")
        serving = asyncio.create_task(server.serve([listening]))
        await stopping.wait()
        server.should_exit = True
        await serving
    await publisher.close()
    log.info("gateway has ended")


def open_publisher(settings: GatewaySettings) -> KafkaPublisher:
    """The producer, by the connections Secret or by the brokers' names; raises Rejected."""
    kafka, source = KafkaConnection(settings.bootstrap_servers or ""), "POSTROOM_BOOTSTRAP_SERVERS"
    if settings.connections is not None:
        source = f"the Secret mounted at {settings.connections}"
        kafka = read_kafka(ConnectionsSecret(read_folder(settings.connections), settings.connections, source))
    try:
        return KafkaPublisher(kafka, settings.gateway_ack_seconds)
    except KafkaException as failure:
        raise Rejected(Problem(Code.SETTING_INVALID, source, failure.args[0].str())) from None


class GatewayReadiness:
    """Whether a message would be accepted now."""

    def __init__(self, store: TemplateStore, publisher: KafkaPublisher) -> None:
        self._store = store
        self._publisher = publisher

    async def problem(self) -> str | None:
        """None, or why not."""
        if not self._store.router().entries:
            return "no profile has live templates yet"
        if not await self._publisher.is_reachable():
            return "the broker does not answer"
        return None
