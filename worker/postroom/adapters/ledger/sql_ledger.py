"""The ledger port in SQL, as far as SQLite and PostgreSQL have it in common.

Each call is a piece of work for the database writer, which commits queued calls in groups. `sqlite` and
`postgres` open, own and close the database. Also the clock that counts in the ledger's time.
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
    """A clock in the ledger's time (see ports.ledger.Ledger.now); `here` is the clock of this machine."""

    def __init__(self, here: Clock, ledger: Ledger) -> None:
        self._here = here
        self._ledger = ledger

    def now(self) -> datetime:
        """The time of the ledger."""
        return self._ledger.now(self._here.now())

    def monotonic(self) -> float:
        """The monotonic clock of this machine."""
        return self._here.monotonic()

    def random(self) -> float:
        """A random number of this machine."""
        return self._here.random()


log = structlog.get_logger("postroom.ledger")


class SqlLedger:
    """Implements ports.ledger.Ledger without `lease_until` and `now`, and NotificationOutbox."""

    def __init__(self, engine: Engine, database: CommitDatabase, writer: WriterIdentity, clean: bool) -> None:
        self.health = LedgerHealth()
        self._engine = engine
        self._writer = writer
        self._clean = clean
        self._commits = DatabaseWriter(engine, database, self.health)

    async def recover(self, now: datetime, resend: bool) -> Recovery:
        """Recover what dead workers had recalled."""
        recalled, in_doubt = await self._commits.run(
            lambda c: deliveries.recover(c, self._writer, now, resend)
        )
        return Recovery(self._clean, recalled, in_doubt)

    async def claim(self, letters: Sequence[Letter], now: datetime) -> Sequence[deliveries.ClaimResult]:
        """Claim letters: a result for each, in order."""
        self.health.rows += len(letters)
        return await self._commits.run(lambda c: deliveries.claim(c, letters, self._writer, now))

    async def take_over(self, rows: Sequence[ExistingRow], now: datetime) -> Sequence[Claimed | None]:
        """Claim rows whose owner is dead."""
        return await self._commits.run(lambda c: deliveries.take_over(c, rows, self._writer, now))

    async def fence(self, claimed: Sequence[Claimed], now: datetime) -> Collection[Claimed]:
        """Move owned rows to `sending`; returns these claims."""
        self.health.rows += len(claimed)
        return await self._commits.run(lambda c: deliveries.fence(c, claimed, self._writer, now))

    async def settle(self, batch: Sequence[Settlement], now: datetime) -> None:
        """End attempts; late settlements are counted in `health`."""
        self.health.rows += len(batch)
        late = await self._commits.run(lambda c: deliveries.settle(c, batch, self._writer, now))
        self.health.late_settlements += late

    async def release(self, claimed: Sequence[Claimed]) -> None:
        """Give up claims whose content never left."""
        await self._commits.run(lambda c: deliveries.release(c, claimed))

    async def add_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Put records that become no letters into the outbox."""
        await self._commits.run(lambda c: deliveries.add_dead_letters(c, dead_letters, self._writer))

    async def claim_due(self, now: datetime, limit: int) -> Sequence[Recalled]:
        """Claim letters whose time has come."""
        return await self._commits.run(lambda c: deliveries.claim_due(c, self._writer, now, limit))

    async def pending_dead_letters(self, limit: int) -> Sequence[PendingDeadLetter]:
        """The oldest dead letters of the outbox."""
        return await self._commits.run(lambda c: outbox.pending_dead_letters(c, self._writer, limit))

    async def delete_dead_letters(self, batch: Sequence[PendingDeadLetter]) -> None:
        """Delete dead letters that the broker acknowledged."""
        await self._commits.run(lambda c: outbox.delete_dead_letters(c, [letter.row for letter in batch]))

    def announce(self, rule: NotificationRule) -> None:
        """Apply this notification rule from now on."""
        self._writer.notification_rules.append(rule)

    async def pending(self, destination: str, now: datetime, limit: int) -> Sequence[Notification]:
        """The notifications of a destination whose time has come."""
        return await self._commits.run(
            lambda c: outbox.pending_notifications(c, self._writer, destination, now, limit)
        )

    async def delivered(self, batch: Sequence[Notification]) -> None:
        """Delete notifications that arrived or were given up."""
        await self._commits.run(lambda c: outbox.delete_notifications(c, batch))

    async def postpone(self, until: Sequence[tuple[Notification, datetime]]) -> None:
        """Set when each notification is due again."""
        await self._commits.run(lambda c: outbox.postpone_notifications(c, until))

    async def abandon(self, destinations: Collection[str]) -> int:
        """Delete the notifications to all other destinations."""
        return await self._commits.run(lambda c: outbox.drop_notifications(c, self._writer, destinations))

    async def mark_suspects(self, records: Sequence[Record]) -> Sequence[int]:
        """Mark records before they are rendered in isolation; returns the counts found."""
        return await self._commits.run(lambda c: outbox.mark_suspects(c, records))

    async def count_suspect_attempt(self, record: Record) -> int:
        """Count an attempt at one marked record alone."""
        return await self._commits.run(lambda c: outbox.count_suspect_attempt(c, record))

    async def clear_suspects(self, records: Sequence[Record]) -> None:
        """Delete the marks of harmless records."""
        await self._commits.run(lambda c: outbox.clear_suspects(c, records))

    async def update_shared(self, subjects: Sequence[str], change: Update) -> Sequence[str]:
        """Change shared states; returns their texts."""
        return await self._commits.run(
            lambda c: shared_state.update_shared(c, subjects, change, self._writer.worker_epoch)
        )

    async def prune(self, before: datetime, limit: int) -> int:
        """Delete letters behind the dedupe window."""
        return await self._commits.run(lambda c: maintenance.prune(c, self._writer, before, limit))

    async def expire_in_doubt(self, before: datetime, why: Problem, at: datetime) -> int:
        """Fail letters that stayed in doubt for too long."""
        return await self._commits.run(
            lambda c: maintenance.expire_in_doubt(c, self._writer, before, why, at)
        )

    async def close(self, *, in_order: bool = True) -> None:
        """Commit the queued work and deregister; if that fails, the next start finds an unclean end."""
        try:
            await self._commits.finish(lambda c: leases.deregister(c, self._writer.worker_epoch, in_order))
        except DBAPIError as error:
            log.error(
                "last ledger writes failed; the next start counts this end as unclean", reason=str(error.orig)
            )
        finally:
            self._engine.dispose()
