"""After an unclean exit: which record killed the worker?

The records that may have been in hand then are the first ones received now. Each is counted before it is
tried, durably, and tried in a process of its own; one that keeps killing goes to the dead-letter topic
after three attempts, and its neighbours pass.

A group is marked together, which is cheap. If the worker dies over a group, the next start finds the marks
and goes through those records one by one, each counted on its own before it is tried: only these tries,
and deaths in the separate process, speak against a record.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from postroom.delivery.outcome import Malformed
from postroom.letter.event import Record, pack
from postroom.letter.problems import Code, Problem
from postroom.ports.events import Partition
from postroom.ports.ledger import Ledger
from postroom.ports.rehearsal import Rehearsal

GROUP = 64
ATTEMPTS = 3


class Caution:
    """Sifts the first records after an unclean exit; later ones pass untouched."""

    def __init__(self, ledger: Ledger, rehearsal: Rehearsal, records: int) -> None:
        """`records`: how many of each partition may have been in hand; 0 after an orderly exit."""
        self._ledger = ledger
        self._rehearsal = rehearsal
        self._left: defaultdict[Partition, int] = defaultdict(lambda: records)
        self._turn = asyncio.Lock()

    def concerns(self, records: Sequence[Record]) -> bool:
        """Whether any of these may have been in hand when the worker died."""
        return any(self._left[one.topic, one.partition] > 0 for one in records)

    async def sift(self, records: Sequence[Record]) -> tuple[list[Record], list[Malformed]]:
        """Split a batch into those that may go on and those that kill; one batch at a time, in order."""
        safe: list[Record] = []
        poisonous: list[Malformed] = []
        async with self._turn:
            for start in range(0, len(records), GROUP):
                for record, harmless in await self._sift_group(records[start : start + GROUP]):
                    if harmless:
                        safe.append(record)
                    else:
                        poisonous.append(Malformed(record, (_poison(),)))
            for record in records:
                self._left[record.topic, record.partition] -= 1
            if all(left <= 0 for left in self._left.values()):
                await self._rehearsal.close()
        return safe, poisonous

    async def _sift_group(self, group: Sequence[Record]) -> list[tuple[Record, bool]]:
        counts = await self._ledger.suspect(group)
        verdicts = [
            (record, count == 0 and await self._rehearsal.survives(pack(record)))
            for record, count in zip(group, counts, strict=True)
        ]
        await self._ledger.absolve([record for record, harmless in verdicts if harmless])
        return [(record, harmless or await self._try_alone(record)) for record, harmless in verdicts]

    async def _try_alone(self, record: Record) -> bool:
        while await self._ledger.accuse(record) <= ATTEMPTS:
            if await self._rehearsal.survives(pack(record)):
                await self._ledger.absolve([record])
                return True
        await self._ledger.absolve([record])
        return False


def _poison() -> Problem:
    return Problem(
        Code.POISON,
        "record",
        f"a process that rendered this record died or hung {ATTEMPTS} times, so it is not tried again; "
        "look at its template and data, then publish it anew",
    )
