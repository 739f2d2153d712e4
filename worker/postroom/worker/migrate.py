"""`postroom migrate`: the ledger's schema, made or brought forward before the worker starts.

Exit status 0 when it is done, and also when there is no usable connections Secret yet: a pod whose first
container fails says less of what it waits for than a worker that runs, and the worker migrates as well
before it opens the ledger. 1 when PostgreSQL was not reached in time (a wrong password may be one that is
about to be changed: it is tried again as well), when it refuses, and when the ledger needs a newer release;
2 when a setting is missing or wrong. One line says which.
"""

import asyncio
import sys

import structlog

from postroom.adapters.ledger.migrations import migrate
from postroom.connections import ConnectionsSecret, LedgerAddress, read_ledger
from postroom.delivery.settings import MigrateSettings
from postroom.letter.problems import Rejected
from postroom.ports.world import LedgerUnavailable
from postroom.secret_files import read_folder
from postroom.startup import run_program

RETRY_SECONDS = 2.0

log = structlog.get_logger("postroom.migrate")


def main() -> None:
    """Migrate once."""
    run_program("migrate", MigrateSettings, run)


async def run(settings: MigrateSettings) -> None:
    """Migrate, or say why that is for later; ends the process with 1 when it failed."""
    try:
        found = read_folder(settings.connections)
        mounted = ConnectionsSecret(
            found, settings.connections, f"the Secret mounted at {settings.connections}"
        )
        ledger = read_ledger(mounted, settings.namespace)
    except (Rejected, OSError) as error:
        log.warning("not migrated yet: the worker waits for its Secret and migrates then", reason=str(error))
        return
    try:
        log.info("ledger", done=await _reach(ledger, settings.migrate_seconds))
    except LedgerUnavailable as unreachable:
        _fail(f"PostgreSQL did not let us in within {settings.migrate_seconds:g} s: {unreachable}")
    except Rejected as rejected:
        _fail(str(rejected))


async def _reach(ledger: LedgerAddress, seconds: float) -> str:
    """Migrate; raises what PostgreSQL said last once the seconds are over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        try:
            return await asyncio.to_thread(migrate, ledger.url, ledger.schema)
        except LedgerUnavailable as unreachable:
            if loop.time() + RETRY_SECONDS > end:
                raise
            log.warning("PostgreSQL does not let us in; trying again", reason=str(unreachable))
            await asyncio.sleep(RETRY_SECONDS)


def _fail(why: str) -> None:
    log.error("not migrated", reason=why)
    sys.exit(1)
