"""The ledger port in SQL: every call is a piece of work for the one writing thread.

What SQLite and PostgreSQL have in common; how each is opened, held and closed is in a file of its own.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from postroom.adapters.ledger import (
    accords,
    claims,
    deadletters,
    leases,
    notices,
    parked,
    pruning,
    settlements,
)
from postroom.adapters.ledger.commit import Database, GroupCommit
from postroom.adapters.ledger.holder import Holder
from postroom.letter.event import Record
from postroom.letter.problems import Problem
from postroom.ports.accord import Change
from postroom.ports.ledger import (
    Claimed,
    DeadLetter,
    Existing,
    Health,
    Letter,
    Recalled,
    Recovery,
    Settlement,
    Waiting,
)
from postroom.ports.notices import Herald, Notice

log = structlog.get_logger("postroom.ledger")


class SqlLedger:
    """All of ports.ledger.Ledger but `lease_until`, `now`; its outbox of notices is ports.notices.Outbox."""

    def __init__(self, engine: Engine, database: Database, holder: Holder, clean: bool) -> None:
        self.health = Health()
        self._engine = engine
        self._holder = holder
        self._clean = clean
        self._writer = GroupCommit(engine, database, self.health)

    async def recover(self, now: datetime, resend: bool) -> Recovery:
        """See the port."""
        recalled, in_doubt = await self._writer.run(
            lambda c: settlements.recover(c, self._holder, now, resend)
        )
        return Recovery(self._clean, recalled, in_doubt)

    async def claim(self, letters: Sequence[Letter], now: datetime) -> Sequence[claims.Answer]:
        """See the port."""
        self.health.rows += len(letters)
        return await self._writer.run(lambda c: claims.claim(c, letters, self._holder, now))

    async def take_over(self, rows: Sequence[Existing], now: datetime) -> Sequence[Claimed | None]:
        """See the port."""
        return await self._writer.run(lambda c: claims.take_over(c, rows, self._holder, now))

    async def fence(self, claimed: Sequence[Claimed], now: datetime) -> Collection[Claimed]:
        """See the port."""
        self.health.rows += len(claimed)
        return await self._writer.run(lambda c: claims.fence(c, claimed, self._holder, now))

    async def settle(self, batch: Sequence[Settlement], now: datetime) -> None:
        """See the port."""
        self.health.rows += len(batch)
        late = await self._writer.run(lambda c: settlements.settle(c, batch, self._holder, now))
        self.health.late_settlements += late

    async def release(self, claimed: Sequence[Claimed]) -> None:
        """See the port."""
        await self._writer.run(lambda c: settlements.release(c, claimed))

    async def bury(self, dead_letters: Sequence[DeadLetter]) -> None:
        """See the port."""
        await self._writer.run(lambda c: settlements.bury(c, dead_letters, self._holder))

    async def due(self, now: datetime, limit: int) -> Sequence[Recalled]:
        """See the port."""
        return await self._writer.run(lambda c: settlements.due(c, self._holder, now, limit))

    async def waiting(self, limit: int) -> Sequence[Waiting]:
        """See the port."""
        return await self._writer.run(lambda c: deadletters.waiting(c, self._holder, limit))

    async def published(self, batch: Sequence[Waiting]) -> None:
        """See the port."""
        await self._writer.run(lambda c: deadletters.published(c, [one.row for one in batch]))

    def announce(self, herald: Herald) -> None:
        """See the port."""
        self._holder.heralds.append(herald)

    async def pending(self, destination: str, now: datetime, limit: int) -> Sequence[Notice]:
        """See the port."""
        return await self._writer.run(lambda c: notices.pending(c, self._holder, destination, now, limit))

    async def delivered(self, batch: Sequence[Notice]) -> None:
        """See the port."""
        await self._writer.run(lambda c: notices.delivered(c, batch))

    async def postpone(self, until: Sequence[tuple[Notice, datetime]]) -> None:
        """See the port."""
        await self._writer.run(lambda c: notices.postpone(c, until))

    async def abandon(self, destinations: Collection[str]) -> int:
        """See the port."""
        return await self._writer.run(lambda c: notices.abandon(c, self._holder, destinations))

    async def suspect(self, records: Sequence[Record]) -> Sequence[int]:
        """See the port."""
        return await self._writer.run(lambda c: deadletters.mark(c, records))

    async def accuse(self, record: Record) -> int:
        """See the port."""
        return await self._writer.run(lambda c: deadletters.accuse(c, record))

    async def absolve(self, records: Sequence[Record]) -> None:
        """See the port."""
        await self._writer.run(lambda c: deadletters.absolve(c, records))

    async def agree(self, subjects: Sequence[str], change: Change) -> Sequence[str]:
        """See the port."""
        return await self._writer.run(lambda c: accords.agree(c, subjects, change, self._holder.generation))

    async def prune(self, before: datetime, limit: int) -> int:
        """See the port."""
        return await self._writer.run(lambda c: pruning.prune(c, self._holder, before, limit))

    async def retire(self, before: datetime, why: Problem, at: datetime) -> int:
        """See the port."""
        return await self._writer.run(lambda c: parked.retire(c, self._holder, before, why, at))

    async def close(self, *, in_order: bool = True) -> None:
        """See the port. Where nothing can be written it gives up; the next start finds an unclean end."""
        try:
            await self._writer.finish(lambda c: leases.sign_off(c, self._holder.generation, in_order))
        except DBAPIError as error:
            log.error("ledger closed without its last writes", reason=str(error.orig))
        finally:
            self._engine.dispose()
