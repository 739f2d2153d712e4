"""The sandbox as a process: mail server, inbox and store on one event loop, until SIGTERM or SIGINT.

Settings that cannot be read, a taken port and a database in use end it with one clear line and status 2. On
a signal it takes no more letters, answers those that wait for the disk, sends the open pages home and ends
with 0.
"""

import asyncio
import logging
import sqlite3
from pathlib import Path

import structlog

from postroom.letter.problems import Code, Problem, Rejected
from postroom.sandbox.app import create_app
from postroom.sandbox.arrivals import Arrivals
from postroom.sandbox.inbox import Inbox
from postroom.sandbox.mta import MailServer, Tally
from postroom.sandbox.schema import NewerDatabase
from postroom.sandbox.settings import SandboxSettings
from postroom.sandbox.store import AlreadyOpen, Limits, Store
from postroom.startup import listen, run_program, stop_signal
from postroom.web import Endpoint, web_server

log = structlog.get_logger("postroom.sandbox")


def main() -> None:
    """Run the sandbox; the process ends when it does."""
    # aiosmtpd warns of every stranger's odd command; the tally counts them.
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    run_program("sandbox", SandboxSettings, serve)


async def serve(settings: SandboxSettings) -> None:
    """Open the store, listen on both ports, and serve until a signal."""
    keep_letters, keep_bytes = settings.sandbox_keep_letters, settings.sandbox_keep_bytes
    limits = Limits(keep_letters, keep_bytes, settings.sandbox_keep_days)
    store = _open_store(settings.sandbox_database, limits)
    try:
        await _serve(settings, store, limits)
    finally:
        await asyncio.to_thread(store.close)


async def _serve(settings: SandboxSettings, store: Store, limits: Limits) -> None:
    arrivals, tally = Arrivals(), Tally()
    stopping = stop_signal()
    with listen(settings.sandbox_http, "POSTROOM_SANDBOX_HTTP") as listening:
        mail = MailServer(store, arrivals.tell, tally)
        smtp = await mail.start(listen(settings.sandbox_smtp, "POSTROOM_SANDBOX_SMTP"))
        inbox = Inbox(store, smtp, limits, arrivals, tally, settings.sandbox_studio)
        web = web_server(create_app(inbox, settings.sandbox_allowed_hosts), settings.sandbox_http)
        serving = asyncio.create_task(web.serve([listening]))
        announce(smtp, Endpoint(*listening.getsockname()[:2]))
        await stopping.wait()
        arrivals.close()
        await mail.stop()
        web.should_exit = True
        await serving
    log.info("sandbox closed", captured=tally.captured)


def _open_store(path: Path, limits: Limits) -> Store:
    try:
        return Store(path, limits)
    except (AlreadyOpen, NewerDatabase, OSError, sqlite3.Error) as error:
        raise Rejected(
            Problem(Code.SETTING_INVALID, "POSTROOM_SANDBOX_DATABASE", f"cannot open it: {error}")
        ) from None


def announce(smtp: Endpoint, http: Endpoint) -> None:
    """Say where the sandbox listens, now that it does."""
    log.info("sandbox ready", smtp=str(smtp), http=f"http://{http}/")


if __name__ == "__main__":
    main()
