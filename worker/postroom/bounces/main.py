"""`postroom bounces`: run the mail server of the return paths until SIGTERM.

Input: settings from the environment and the profiles with spec.bounces. Exit status 0 after the reports in
progress are stored, 2 with one log line if it cannot start. It waits for missing ledgers and keys; meanwhile
senders get 451, and /readyz reports what is missing.
"""

import asyncio
import logging
from typing import Any

import structlog

from postroom.adapters.metrics import BounceMetrics
from postroom.bounces.ledgers import BounceLedgers, read_profiles
from postroom.bounces.server import BounceHandler, BounceSession, BounceStats
from postroom.clock import SystemClock
from postroom.http.endpoint import Endpoint
from postroom.http.server import web_server
from postroom.letter.problems import Code, Problem, Rejected
from postroom.smtpd import SmtpServer
from postroom.startup import listen, run_program, stop_signal
from postroom.worker.config import log_unknown_fields
from postroom.worker.settings import BounceSettings
from postroom.worker.status import StatusServer, status_pages

log = structlog.get_logger("postroom.bounces")


def main() -> None:
    """Run the intake; the process ends when it does."""
    # aiosmtpd logs every invalid command; the metrics count them
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    run_program("bounces", BounceSettings, serve)


class BounceStatus:
    """The StatusSource of the bounce intake."""

    def __init__(self, ledgers: BounceLedgers, stats: BounceStats, server: SmtpServer) -> None:
        self.registry = BounceMetrics(stats, server.count_sessions, lambda: not ledgers.problems).registry
        self._ledgers = ledgers

    def status(self) -> dict[str, Any]:
        names = sorted({name for ledger in self._ledgers.ledgers for name in ledger.source.configs})
        status = {"profiles": names, "complaints_at": self._ledgers.complaint_address}
        return status | {"unknown_fields": self._ledgers.unknown_fields, "problems": self._ledgers.problems}


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
        message = (
            f"no SmtpProfile in {settings.bounces_profiles} has spec.bounces. Name the folder of one that has"
        )
        raise Rejected(Problem(Code.SETTING_INVALID, "POSTROOM_BOUNCES_PROFILES", message))
    ledgers = BounceLedgers(profiles, settings)
    if not ledgers.ledgers:
        message = f"{settings.bounces_ledgers} holds no ledger (*.sqlite). Start the worker first"
        raise Rejected(Problem(Code.SETTING_INVALID, "POSTROOM_BOUNCES_LEDGERS", message))
    log_unknown_fields(ledgers.unknown_fields)
    return ledgers
