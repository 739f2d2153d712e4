"""`postroom migrate`: the ledger's schema, made or brought forward before the worker starts.

Exit status 0 when it is done, and also when there is no usable connections Secret yet: a pod whose first
container fails says less of what it waits for than a worker that runs, and the worker migrates as well
before it opens the ledger. 1 when PostgreSQL was not reached in time, or refuses; one line says which.
"""

import asyncio
import sys

import structlog

from postroom.adapters.ledger.migrations import migrate
from postroom.connections import LedgerConnection, Mounted, read_ledger
from postroom.delivery.settings import MigrateSettings
from postroom.letter.problems import Rejected
from postroom.mounted import read_folder
from postroom.ports.ledger import Unreachable
from postroom.startup import begin

RETRY_SECONDS = 2.0

log = structlog.get_logger("postroom.migrate")


def main() -> None:
    """Migrate once."""
    begin("migrate", MigrateSettings, run)


async def run(settings: MigrateSettings) -> None:
    """Migrate, or say why that is for later; ends the process with 1 when it failed."""
    try:
        found = read_folder(settings.connections)
        mounted = Mounted(found, settings.connections, f"the Secret mounted at {settings.connections}")
        ledger = read_ledger(mounted, settings.namespace)
    except (Rejected, OSError) as error:
        log.warning("not migrated yet: the worker waits for its Secret and migrates then", reason=str(error))
        return
    try:
        async with asyncio.timeout(settings.migrate_seconds):
            log.info("ledger", done=await _reach(ledger))
    except TimeoutError:
        _fail(f"PostgreSQL was not reached within {settings.migrate_seconds:g} s; see the lines above")
    except Rejected as rejected:
        _fail(str(rejected))


async def _reach(ledger: LedgerConnection) -> str:
    while True:
        try:
            return await asyncio.to_thread(migrate, ledger.url, ledger.schema)
        except Unreachable as unreachable:
            log.warning("PostgreSQL does not answer; trying again", reason=str(unreachable))
            await asyncio.sleep(RETRY_SECONDS)


def _fail(why: str) -> None:
    log.error("not migrated", reason=why)
    sys.exit(1)
