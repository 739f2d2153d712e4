"""`postroom migrate`: create or upgrade the ledger's schema before the worker starts.

Exit status 0: done, or there is no usable connections Secret yet; then the worker, which also migrates before
it opens the ledger, waits for it and reports what is missing. Exit status 1: PostgreSQL was not reachable in
time (a wrong password is retried too, because it may be about to change), it rejected the migration, or the
ledger needs a newer release. Exit status 2: a setting is missing or invalid. One log line states the reason.
"""

import asyncio
import sys

import structlog

from postroom.adapters.ledger.migrations import migrate
from postroom.connections import ConnectionsSecret, LedgerAddress, read_ledger
from postroom.letter.problems import Rejected
from postroom.ports.world import LedgerUnavailable
from postroom.secret_files import read_folder
from postroom.startup import run_program
from postroom.worker.settings import MigrateSettings

RETRY_SECONDS = 2.0

log = structlog.get_logger("postroom.migrate")


def main() -> None:
    """Migrate once."""
    run_program("migrate", MigrateSettings, run)


async def run(settings: MigrateSettings) -> None:
    """Migrate, or log reason the worker will do it; exits with status 1 on failure."""
    try:
        found = read_folder(settings.connections)
        mounted = ConnectionsSecret(
            found, settings.connections, f"the Secret mounted at {settings.connections}"
        )
        ledger = read_ledger(mounted, settings.namespace)
    except (Rejected, OSError) as error:
        log.warning("not migrated: connections Secret not usable; the worker will migrate", reason=str(error))
        return
    try:
        log.info("ledger", done=await _migrate_with_retries(ledger, settings.migrate_seconds))
    except LedgerUnavailable as unreachable:
        _fail(f"PostgreSQL was not reachable within {settings.migrate_seconds:g} s: {unreachable}")
    except Rejected as rejected:
        _fail(str(rejected))


async def _migrate_with_retries(ledger: LedgerAddress, seconds: float) -> str:
    """Migrate with retries; raises the last error when the time is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        try:
            return await asyncio.to_thread(migrate, ledger.url, ledger.schema)
        except LedgerUnavailable as unreachable:
            if loop.time() + RETRY_SECONDS > end:
                raise
            log.warning("PostgreSQL not reachable; retrying", reason=str(unreachable))
            await asyncio.sleep(RETRY_SECONDS)


def _fail(reason: str) -> None:
    log.error("not migrated", reason=reason)
    sys.exit(1)
