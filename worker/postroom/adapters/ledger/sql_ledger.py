"""The clock of all who share a ledger: see ports.ledger.Ledger.now.

The ledger port in SQL: every call is a piece of work for the one writing thread.

What SQLite and PostgreSQL have in common; how each is opened, held and closed is in a file of its own.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from postroom.adapters.ledger import deliveries, leases, maintenance, outbox, shared_state
from postroom.adapters.ledger.database_writer import CommitDatabase, DatabaseWriter
from postroom.adapters.ledger.writer import WriterIdentity
from postroom.letter.event import Record
from postroom.letter.problems import Problem
from postroom.ports.ledger import (
    Claimed,
    DeadLetter,
    ExistingRow,
    Ledger,
    Letter,
    PendingDeadLetter,
    Recalled,
    Settlement,
    Update,
)
from postroom.ports.notifications import Notification, NotificationRule
from postroom.ports.world import Clock, LedgerHealth, Recovery


class LedgerClock:
    """Implements ports.world.Clock in the ledger's time; `here` is this machine's clock."""

    def __init__(self, here: Clock, ledger: Ledger) -> None:
        self._here = here
        self._ledger = ledger

    def now(self) -> datetime:
        """See the port."""
        return self._ledger.now(self._here.now())

    def monotonic(self) -> float:
        """See the port."""
        return self._here.monotonic()

    def random(self) -> float:
        """See the port."""
        return self._here.random()


log = structlog.get_logger("postroom.ledger")


class SqlLedger:
    """All of ports.ledger.Ledger but `lease_until`, `now`; its outbox of notices is ports.notices.Outbox."""

    def __init__(self, engine: Engine, database: CommitDatabase, writer: WriterIdentity, clean: bool) -> None:
        self.health = LedgerHealth()
        self._engine = engine
        self._writer = writer
        self._clean = clean
        self._commits = DatabaseWriter(engine, database, self.health)

    async def recover(self, now: datetime, resend: bool) -> Recovery:
        """See the port."""
        recalled, in_doubt = await self._commits.run(
            lambda c: deliveries.recover(c, self._writer, now, resend)
        )
        return Recovery(self._clean, recalled, in_doubt)

    async def claim(self, letters: Sequence[Letter], now: datetime) -> Sequence[deliveries.ClaimResult]:
        """See the port."""
        self.health.rows += len(letters)
        return await self._commits.run(lambda c: deliveries.claim(c, letters, self._writer, now))

    async def take_over(self, rows: Sequence[ExistingRow], now: datetime) -> Sequence[Claimed | None]:
        """See the port."""
        return await self._commits.run(lambda c: deliveries.take_over(c, rows, self._writer, now))

    async def fence(self, claimed: Sequence[Claimed], now: datetime) -> Collection[Claimed]:
        """See the port."""
        self.health.rows += len(claimed)
        return await self._commits.run(lambda c: deliveries.fence(c, claimed, self._writer, now))

    async def settle(self, batch: Sequence[Settlement], now: datetime) -> None:
        """See the port."""
        self.health.rows += len(batch)
        late = await self._commits.run(lambda c: deliveries.settle(c, batch, self._writer, now))
        self.health.late_settlements += late

    async def release(self, claimed: Sequence[Claimed]) -> None:
        """See the port."""
        await self._commits.run(lambda c: deliveries.release(c, claimed))

    async def add_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """See the port."""
        await self._commits.run(lambda c: deliveries.add_dead_letters(c, dead_letters, self._writer))

    async def claim_due(self, now: datetime, limit: int) -> Sequence[Recalled]:
        """See the port."""
        return await self._commits.run(lambda c: deliveries.claim_due(c, self._writer, now, limit))

    async def pending_dead_letters(self, limit: int) -> Sequence[PendingDeadLetter]:
        """See the port."""
        return await self._commits.run(lambda c: outbox.pending_dead_letters(c, self._writer, limit))

    async def delete_dead_letters(self, batch: Sequence[PendingDeadLetter]) -> None:
        """See the port."""
        await self._commits.run(lambda c: outbox.delete_dead_letters(c, [one.row for one in batch]))

    def announce(self, herald: NotificationRule) -> None:
        """See the port."""
        self._writer.notification_rules.append(herald)

    async def pending(self, destination: str, now: datetime, limit: int) -> Sequence[Notification]:
        """See the port."""
        return await self._commits.run(
            lambda c: outbox.pending_notifications(c, self._writer, destination, now, limit)
        )

    async def delivered(self, batch: Sequence[Notification]) -> None:
        """See the port."""
        await self._commits.run(lambda c: outbox.delete_notifications(c, batch))

    async def postpone(self, until: Sequence[tuple[Notification, datetime]]) -> None:
        """See the port."""
        await self._commits.run(lambda c: outbox.postpone_notifications(c, until))

    async def abandon(self, destinations: Collection[str]) -> int:
        """See the port."""
        return await self._commits.run(lambda c: outbox.drop_notifications(c, self._writer, destinations))

    async def mark_suspects(self, records: Sequence[Record]) -> Sequence[int]:
        """See the port."""
        return await self._commits.run(lambda c: outbox.mark_suspects(c, records))

    async def count_suspect_attempt(self, record: Record) -> int:
        """See the port."""
        return await self._commits.run(lambda c: outbox.count_suspect_attempt(c, record))

    async def clear_suspects(self, records: Sequence[Record]) -> None:
        """See the port."""
        await self._commits.run(lambda c: outbox.clear_suspects(c, records))

    async def update_shared(self, subjects: Sequence[str], change: Update) -> Sequence[str]:
        """See the port."""
        return await self._commits.run(
            lambda c: shared_state.update_shared(c, subjects, change, self._writer.worker_epoch)
        )

    async def prune(self, before: datetime, limit: int) -> int:
        """See the port."""
        return await self._commits.run(lambda c: maintenance.prune(c, self._writer, before, limit))

    async def expire_in_doubt(self, before: datetime, why: Problem, at: datetime) -> int:
        """See the port."""
        return await self._commits.run(
            lambda c: maintenance.expire_in_doubt(c, self._writer, before, why, at)
        )

    async def close(self, *, in_order: bool = True) -> None:
        """See the port. Where nothing can be written it gives up; the next start finds an unclean end."""
        try:
            await self._commits.finish(lambda c: leases.deregister(c, self._writer.worker_epoch, in_order))
        except DBAPIError as error:
            log.error("ledger closed without its last writes", reason=str(error.orig))
        finally:
            self._engine.dispose()
