"""`postroom bounces`: the mail server of the return paths, until SIGTERM.

In: settings from the environment, the profiles that ask for bounces. Out: exit status 0 after the reports
under way are kept, 2 with one clear line when it cannot start. Ledgers and keys are waited for; meanwhile
their senders are told 451, and /readyz says what is missing.
"""

import asyncio
import logging
from typing import Any

import structlog

from postroom.adapters.metrics import BounceMetrics
from postroom.bounces.ledgers import BounceLedgers, read_profiles
from postroom.bounces.server import BounceHandler, BounceSession, BounceStats
from postroom.clock import SystemClock
from postroom.delivery.settings import BounceSettings
from postroom.http.endpoint import Endpoint
from postroom.http.server import web_server
from postroom.letter.problems import Code, Problem, Rejected
from postroom.smtpd import SmtpServer
from postroom.startup import listen, run_program, stop_signal
from postroom.worker.config import log_unknown_fields
from postroom.worker.status_server import StatusServer, status_pages

log = structlog.get_logger("postroom.bounces")


def main() -> None:
    """Run the intake; the process ends when it does."""
    # aiosmtpd warns of every stranger's odd command; the tally counts them
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    run_program("bounces", BounceSettings, serve)


class BounceStatus:
    """Implements status.Shown."""

    def __init__(self, ledgers: BounceLedgers, stats: BounceStats, server: SmtpServer) -> None:
        self.registry = BounceMetrics(stats, server.count_sessions, lambda: not ledgers.problems).registry
        self._offices = ledgers

    def status(self) -> dict[str, Any]:
        """See the protocol."""
        names = sorted({name for office in self._offices.ledgers for name in office.source.houses})
        told = {"profiles": names, "complaints_at": self._offices.complaint_address}
        return told | {"fields_left_out": self._offices.left_out, "problems": self._offices.problems}


async def serve(settings: BounceSettings) -> None:
    """Listen on both ports, and serve until a signal."""
    stopping = stop_signal()
    ledgers, stats = open_bounce_ledgers(settings), BounceStats()
    server = SmtpServer(BounceHandler(ledgers.find, stats), BounceSession)
    with listen(settings.bounces_http, "POSTROOM_BOUNCES_HTTP") as listening:
        pages = status_pages(StatusServer(BounceStatus(ledgers, stats, server)))
        web = web_server(pages, settings.bounces_http)
        serving = asyncio.create_task(web.serve([listening]))
        parts = [asyncio.create_task(part) for part in ledgers.parts(SystemClock(), stats)]
        smtp = Endpoint(*await server.start(listen(settings.bounces_smtp, "POSTROOM_BOUNCES_SMTP")))
        log.info("bounces ready", smtp=str(smtp), http=str(Endpoint(*listening.getsockname()[:2])))
        waiting = asyncio.create_task(stopping.wait())
        done, _ = await asyncio.wait([waiting, *parts], return_when=asyncio.FIRST_COMPLETED)
        await server.stop()
        web.should_exit = True
        await serving
        for part in (waiting, *parts):
            part.cancel()
        await asyncio.gather(waiting, *parts, return_exceptions=True)
        for part in done - {waiting}:
            part.result()
    log.info("bounces closed", reports=stats.reports.total())


def open_bounce_ledgers(settings: BounceSettings) -> BounceLedgers:
    """The ledgers and keys of the profiles; raises Rejected where there is nothing to take reports for."""
    profiles = read_profiles(settings.bounces_profiles)
    if not profiles:
        said = (
            f"no SmtpProfile in {settings.bounces_profiles} has spec.bounces. Name the folder of one that has"
        )
        raise Rejected(Problem(Code.SETTING_INVALID, "POSTROOM_BOUNCES_PROFILES", said))
    ledgers = BounceLedgers(profiles, settings)
    if not ledgers.ledgers:
        said = f"{settings.bounces_ledgers} holds no ledger (*.sqlite). Start the worker first"
        raise Rejected(Problem(Code.SETTING_INVALID, "POSTROOM_BOUNCES_LEDGERS", said))
    log_unknown_fields(ledgers.left_out)
    return ledgers
