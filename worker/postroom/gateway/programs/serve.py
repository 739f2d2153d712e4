"""`postroom gateway`: the HTTP intake as a process, configured by its environment (gateway/settings.py).

It ends in order on SIGTERM and SIGINT: no new requests, acknowledgements on the way are waited for. The
connections Secret is read at start: after a change of it, start the gateway anew.
"""

import asyncio

import structlog
from confluent_kafka import KafkaException

from postroom.clock import SystemClock
from postroom.connections import KafkaConnection, Mounted, read_kafka
from postroom.gateway.app import Desk, build
from postroom.gateway.host import HostGuard
from postroom.gateway.ids import new_id
from postroom.gateway.intake import Intake
from postroom.gateway.meter import Meter
from postroom.gateway.programs.ledgers import LedgerFolder
from postroom.gateway.publish import KafkaPublisher
from postroom.gateway.settings import GatewaySettings
from postroom.gateway.shelf import Shelf
from postroom.letter.problems import Code, Problem, Rejected
from postroom.mounted import read_folder
from postroom.startup import listen, run_program, stop_signal
from postroom.web import Endpoint, web_server


def main() -> None:
    """Serve until a signal asks to end; what cannot start ends with status 2."""
    run_program("gateway", GatewaySettings, serve)


async def serve(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    log = structlog.get_logger("gateway")
    publisher = open_publisher(settings)
    shelf = Shelf(settings.bundles)
    intake = Intake(shelf.directory, publisher, SystemClock().now, new_id)
    letters = LedgerFolder(settings.gateway_ledgers) if settings.gateway_ledgers else None
    desk = Desk(intake, Meter(), Readiness(shelf, publisher).reason, letters)
    server = web_server(HostGuard(build(desk), settings.gateway_allowed_hosts), settings.gateway_http)
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
        kafka = read_kafka(Mounted(read_folder(settings.connections), settings.connections, source))
    try:
        return KafkaPublisher(kafka, settings.gateway_ack_seconds)
    except KafkaException as failure:
        raise Rejected(Problem(Code.SETTING_INVALID, source, failure.args[0].str())) from None


class Readiness:
    """Whether a message would be accepted now."""

    def __init__(self, shelf: Shelf, publisher: KafkaPublisher) -> None:
        self._shelf = shelf
        self._publisher = publisher

    async def reason(self) -> str | None:
        """None, or why not."""
        if not self._shelf.directory().rooms:
            return "no profile has live templates yet"
        if not await self._publisher.reachable():
            return "the broker does not answer"
        return None
