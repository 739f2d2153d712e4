"""`postroom gateway`: the HTTP intake as a process, configured by its environment (gateway/settings.py).

It ends in order on SIGTERM and SIGINT: no new requests, acknowledgements on the way are waited for.
"""

import asyncio
import signal
import sys

import structlog

from postroom.adapters.clock import SystemClock
from postroom.gateway.app import Desk, build
from postroom.gateway.host import HostGuard
from postroom.gateway.ids import new_id
from postroom.gateway.intake import Intake
from postroom.gateway.meter import Meter
from postroom.gateway.programs.ledgers import LedgerFolder
from postroom.gateway.publish import KafkaPublisher
from postroom.gateway.settings import GatewaySettings, read_settings
from postroom.gateway.shelf import Shelf
from postroom.letter.problems import Rejected
from postroom.logs import configure
from postroom.web import web_server


def main() -> None:
    """Serve until a signal asks to end; settings that cannot be read end it with status 2."""
    try:
        settings = read_settings()
    except Rejected as rejected:
        sys.stderr.writelines(f"{problem.field} {problem.message}\n" for problem in rejected.problems)
        sys.exit(2)
    configure(settings.log_format)
    asyncio.run(serve(settings))


async def serve(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    log = structlog.get_logger("gateway")
    publisher = KafkaPublisher(settings.bootstrap_servers, settings.gateway_ack_seconds)
    shelf = Shelf(settings.bundles)
    intake = Intake(shelf.directory, publisher, SystemClock().now, new_id)
    letters = LedgerFolder(settings.gateway_ledgers) if settings.gateway_ledgers else None
    desk = Desk(intake, Meter(), Readiness(shelf, publisher).reason, letters)
    server = web_server(HostGuard(build(desk), settings.gateway_allowed_hosts), settings.gateway_http)
    loop = asyncio.get_running_loop()
    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, setattr, server, "should_exit", True)
    log.info("gateway serves", address=f"http://{settings.gateway_http}")
    await server.serve()
    await publisher.close()
    log.info("gateway has ended")


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
