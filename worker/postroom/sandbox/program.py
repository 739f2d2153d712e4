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
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from pydantic import ValidationError

from postroom.sandbox.app import create_app
from postroom.sandbox.arrivals import Arrivals
from postroom.sandbox.inbox import Inbox
from postroom.sandbox.mta import MailServer, Tally
from postroom.sandbox.schema import NewerDatabase
from postroom.sandbox.settings import Endpoint, SandboxSettings
from postroom.sandbox.store import AlreadyOpen, Limits, Store

log = structlog.get_logger("postroom.sandbox")


class WebServer(uvicorn.Server):
    """uvicorn without its own signal handling: this program has one for all its parts."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def main() -> None:
    """Run the sandbox; the process ends when it does."""
    # aiosmtpd reports every stranger's odd command; uvicorn every request.
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        asyncio.run(serve(SandboxSettings()))  # type: ignore[call-arg]
    except ValidationError as error:
        for item in error.errors():
            name = "_".join(str(place) for place in item["loc"]).upper()
            sys.stderr.write(f"POSTROOM_SANDBOX_{name}: {item['msg']}\n")
        sys.exit(2)
    except (AlreadyOpen, NewerDatabase, OSError) as error:
        sys.stderr.write(f"postroom sandbox: {error}\n")
        sys.exit(2)


async def serve(settings: SandboxSettings) -> None:
    """Open the store, listen on both ports, and serve until a signal."""
    limits = Limits(settings.keep_letters, settings.keep_bytes)
    store = Store(settings.database, limits)
    try:
        await _serve(settings, store, limits)
    finally:
        await asyncio.to_thread(store.close)


async def _serve(settings: SandboxSettings, store: Store, limits: Limits) -> None:
    arrivals, tally = Arrivals(), Tally()
    with _bound(settings.http) as listening:
        mail = MailServer(store, arrivals.tell, tally)
        smtp = await mail.start(settings.smtp)
        inbox = Inbox(store, smtp, limits, arrivals, tally)
        web = WebServer(_web_config(inbox, settings))
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


def _web_config(inbox: Inbox, settings: SandboxSettings) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(inbox, settings.allowed_hosts),
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
