"""After an unclean exit: which record killed the worker?

The records that may have been in hand then are the first ones received now. Each is counted before it is
tried, durably, and tried in a process of its own; one that keeps killing goes to the dead-letter topic
after three attempts, and its neighbours pass.

A group is marked together, which is cheap. If the worker dies over a group, the next start finds the marks
and goes through those records one by one, each counted on its own before it is tried: only these tries,
and deaths in the separate process, speak against a record.

Nothing is counted while there is no such process. Where none starts, records wait, and it is tried again,
later each time; what the worker has not tried when it ends comes again in its next life, to be tried there.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence

from postroom.letter.event import Record, pack_record
from postroom.letter.problems import Code, Problem
from postroom.policy.outcomes import Malformed
from postroom.ports.kafka import Partition
from postroom.ports.ledger import Ledger
from postroom.ports.world import IsolatedRenderer

GROUP_RECORDS = 64
MAX_ATTEMPTS = 3
RECHECK_SECONDS = 1.0
MAX_RECHECK_SECONDS = 60.0
"""How soon a process that does not start is started again: each time twice as late, up to this."""


class PoisonFilter:
    """Sifts the first records after an unclean exit; later ones pass untouched."""

    def __init__(self, ledger: Ledger, rehearsal: IsolatedRenderer, records: int) -> None:
        """`records`: how many of each partition may have been in hand; 0 after an orderly exit."""
        self._ledger = ledger
        self._rehearsal = rehearsal
        self._left: defaultdict[Partition, int] = defaultdict(lambda: records)
        self._turn = asyncio.Lock()
        self._stopping = asyncio.Event()
        self.gave_up = False
        """Whether records went back untried, since the worker ended first."""

    def applies_to(self, records: Sequence[Record]) -> bool:
        """Whether any of these may have been in hand when the worker died."""
        return any(self._left[one.topic, one.partition] > 0 for one in records)

    async def filter(self, records: Sequence[Record]) -> tuple[list[Record], list[Malformed]]:
        """Split a batch into those that may go on and those that kill; one batch at a time, in order.

        What could not be tried before `stop` is in neither.
        """
        safe: list[Record] = []
        poisonous: list[Malformed] = []
        async with self._turn:
            for start in range(0, len(records), GROUP_RECORDS):
                for record, harmless in await self._filter_group(records[start : start + GROUP_RECORDS]):
                    if harmless:
                        safe.append(record)
                    else:
                        poisonous.append(Malformed(record, (_poison_problem(),)))
            for record in records:
                self._left[record.topic, record.partition] -= 1
            if all(left <= 0 for left in self._left.values()):
                await self._rehearsal.close()
        return safe, poisonous

    def stop(self) -> None:
        """Wait for no process any more: the worker ends."""
        self._stopping.set()

    async def _filter_group(self, group: Sequence[Record]) -> list[tuple[Record, bool]]:
        if not await self._ready():
            return []
        counts = await self._ledger.mark_suspects(group)
        together = [
            (
                record,
                count == 0
                and await self._ready()
                and await self._rehearsal.renders_safely(pack_record(record)),
            )
            for record, count in zip(group, counts, strict=True)
        ]
        await self._ledger.clear_suspects([record for record, harmless in together if harmless])
        alone = [(record, harmless or await self._render_alone(record)) for record, harmless in together]
        return [(record, harmless) for record, harmless in alone if harmless is not None]

    async def _render_alone(self, record: Record) -> bool | None:
        """Whether it is harmless; None when there is nothing to try it in."""
        while await self._ready():
            harmless = await self._ledger.count_suspect_attempt(record) <= MAX_ATTEMPTS
            if not harmless or await self._rehearsal.renders_safely(pack_record(record)):
                await self._ledger.clear_suspects([record])
                return harmless
        return None

    async def _ready(self) -> bool:
        """Wait for a process to try records in; False when the worker ends before there is one."""
        wait = RECHECK_SECONDS
        while not self.gave_up and not await self._rehearsal.ready():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()
            self.gave_up = self._stopping.is_set()
            wait = min(2 * wait, MAX_RECHECK_SECONDS)
        return not self.gave_up


def _poison_problem() -> Problem:
    return Problem(
        Code.POISON,
        "record",
        f"a process that rendered this record died or hung {MAX_ATTEMPTS} times, so it is not tried again; "
        "look at its template and data, then publish it anew",
    )
