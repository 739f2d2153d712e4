"""The sandbox as a process: mail server, inbox and store on one event loop, until SIGTERM or SIGINT.

Settings that cannot be read, a taken port and a database in use end it with one clear line and status 2. On
a signal it takes no more letters, answers those that wait for the disk, sends the open pages home and ends
with 0.
"""

import asyncio
import logging
import signal
import socket
import sys

import structlog
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from postroom.logs import configure
from postroom.sandbox.app import create_app
from postroom.sandbox.arrivals import Arrivals
from postroom.sandbox.inbox import Inbox
from postroom.sandbox.mta import MailServer, Tally
from postroom.sandbox.schema import NewerDatabase
from postroom.sandbox.settings import SandboxSettings
from postroom.sandbox.store import AlreadyOpen, Limits, Store
from postroom.web import Endpoint, web_server

log = structlog.get_logger("postroom.sandbox")


def main() -> None:
    """Run the sandbox; the process ends when it does."""
    try:
        settings = SandboxSettings()  # type: ignore[call-arg]
    except ValidationError as error:
        sys.stderr.writelines(map(_said, error.errors()))
        sys.exit(2)
    configure(settings.log_format)
    # aiosmtpd warns of every stranger's odd command; the tally counts them.
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    try:
        asyncio.run(serve(settings))
    except (AlreadyOpen, NewerDatabase, OSError) as error:
        sys.stderr.write(f"postroom sandbox: {error}\n")
        sys.exit(2)


async def serve(settings: SandboxSettings) -> None:
    """Open the store, listen on both ports, and serve until a signal."""
    limits = Limits(settings.sandbox_keep_letters, settings.sandbox_keep_bytes)
    store = Store(settings.sandbox_database, limits)
    try:
        await _serve(settings, store, limits)
    finally:
        await asyncio.to_thread(store.close)


async def _serve(settings: SandboxSettings, store: Store, limits: Limits) -> None:
    arrivals, tally = Arrivals(), Tally()
    with _bound(settings.sandbox_http) as listening:
        mail = MailServer(store, arrivals.tell, tally)
        smtp = await mail.start(settings.sandbox_smtp)
        inbox = Inbox(store, smtp, limits, arrivals, tally)
        web = web_server(create_app(inbox, settings.sandbox_allowed_hosts), settings.sandbox_http)
        stopping = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stopping.set)
        serving = asyncio.create_task(web.serve([listening]))
        announce(smtp, Endpoint(*listening.getsockname()[:2]))
        await stopping.wait()
        arrivals.close()
        await mail.stop()
        web.should_exit = True
        await serving
    log.info("sandbox closed", captured=tally.captured)


def announce(smtp: Endpoint, http: Endpoint) -> None:
    """Say where the sandbox listens, now that it does."""
    log.info("sandbox ready", smtp=str(smtp), http=f"http://{http}/")


def _bound(endpoint: Endpoint) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    try:
        return socket.create_server(endpoint, family=family, backlog=512)
    except OSError as error:
        raise OSError(f"cannot serve the inbox on {endpoint}: {error.strerror}") from None


def _said(error: ErrorDetails) -> str:
    name = "_".join(str(place) for place in error["loc"]).upper()
    return f"POSTROOM_{name.removeprefix('POSTROOM_')}: {error['msg']}\n"


if __name__ == "__main__":
    main()
