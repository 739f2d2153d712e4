"""`postroom sandbox`: the process with mail server, inbox and store on one event loop.

Invalid settings, a port in use or a database in use end it with one error line and status 2. On SIGTERM and
SIGINT it accepts no more letters, replies to those that are being stored, closes the open event streams and
ends with status 0.
"""

import asyncio
import logging
import sqlite3
from pathlib import Path

import structlog

from postroom.http.endpoint import Endpoint
from postroom.http.server import web_server
from postroom.letter.problems import Code, Problem, Rejected
from postroom.sandbox.app import create_sandbox_app
from postroom.sandbox.inbox import Inbox, Subscriptions
from postroom.sandbox.mta import CaptureStats, MailServer
from postroom.sandbox.settings import SandboxSettings
from postroom.sandbox.store import DatabaseInUse, DatabaseTooNew, LetterStore, RetentionLimits
from postroom.startup import listen, run_program, stop_signal

log = structlog.get_logger("postroom.sandbox")


def main() -> None:
    """Run the sandbox until SIGTERM or SIGINT; settings that are invalid end it with status 2."""
    # aiosmtpd logs a warning for every unknown command of a client; the metrics count them.
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    run_program("sandbox", SandboxSettings, serve)


async def serve(settings: SandboxSettings) -> None:
    """Open the store, listen on both ports, and serve until SIGTERM or SIGINT; raises Rejected."""
    keep_letters, keep_bytes = settings.sandbox_keep_letters, settings.sandbox_keep_bytes
    limits = RetentionLimits(keep_letters, keep_bytes, settings.sandbox_keep_days)
    store = _open_store(settings.sandbox_database, limits)
    try:
        await _serve(settings, store, limits)
    finally:
        await asyncio.to_thread(store.close)


async def _serve(settings: SandboxSettings, store: LetterStore, limits: RetentionLimits) -> None:
    subscriptions, stats = Subscriptions(), CaptureStats()
    stopping = stop_signal()
    with listen(settings.sandbox_http, "POSTROOM_SANDBOX_HTTP") as listening:
        mail = MailServer(store, subscriptions.publish, stats)
        smtp = await mail.start(listen(settings.sandbox_smtp, "POSTROOM_SANDBOX_SMTP"))
        inbox = Inbox(store, smtp, limits, subscriptions, stats, settings.sandbox_studio)
        web = web_server(create_sandbox_app(inbox, settings.sandbox_allowed_hosts), settings.sandbox_http)
        serving = asyncio.create_task(web.serve([listening]))
        log_ready(smtp, Endpoint(*listening.getsockname()[:2]))
        await stopping.wait()
        subscriptions.close()
        await mail.stop()
        web.should_exit = True
        await serving
    log.info("sandbox stopped", captured=stats.captured)


def _open_store(path: Path, limits: RetentionLimits) -> LetterStore:
    try:
        return LetterStore(path, limits)
    except (DatabaseInUse, DatabaseTooNew, OSError, sqlite3.Error) as error:
        raise Rejected(
            Problem(Code.SETTING_INVALID, "POSTROOM_SANDBOX_DATABASE", f"cannot open it: {error}")
        ) from None


def log_ready(smtp: Endpoint, http: Endpoint) -> None:
    """Log the endpoints, once both accept connections."""
    log.info("sandbox ready", smtp=str(smtp), http=f"http://{http}/")


if __name__ == "__main__":
    main()
