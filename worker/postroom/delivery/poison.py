"""Find records that kill the worker: the first records after an unclean exit → safe and poisonous records.

The records that were being processed when the worker died are the first that it receives after the restart.
Each is marked durably before it is rendered in a separate process (`IsolatedRenderer`). A record that kills
this process three times goes to the dead-letter topic; its neighbours are delivered.

Records are marked in groups, which is cheap. If the worker dies while it tries a group, the next start finds
the marks and tries these records one by one, with a durable count before each attempt. Only these attempts,
and deaths of the separate process, count against a record.

Failure: while no separate process starts, nothing is counted and records wait; the start is retried with
growing delays. Records that were not tried when the worker stops are received and tried at the next start.
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
"""A failed process start is retried after RECHECK_SECONDS, doubled each time up to this limit."""


class PoisonFilter:
    """Filters the first records after an unclean exit; later records are not tried."""

    def __init__(self, ledger: Ledger, renderer: IsolatedRenderer, records: int) -> None:
        """`records`: how many of each partition may have been in progress; 0 after a clean exit."""
        self._ledger = ledger
        self._renderer = renderer
        self._left: defaultdict[Partition, int] = defaultdict(lambda: records)
        self._turn = asyncio.Lock()
        self._stopping = asyncio.Event()
        self.gave_up = False
        """Whether the worker stopped before all records were tried; these are received again."""

    def applies_to(self, records: Sequence[Record]) -> bool:
        """Whether any of these records may have been in progress when the worker died."""
        return any(self._left[record.topic, record.partition] > 0 for record in records)

    async def filter(self, records: Sequence[Record]) -> tuple[list[Record], list[Malformed]]:
        """Split a batch into safe and poisonous records; batches are processed one at a time, in order.

        Records that were not tried before `stop` are in neither list.
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
                await self._renderer.close()
        return safe, poisonous

    def stop(self) -> None:
        """Stop waiting for a process to start, because the worker stops."""
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
                and await self._renderer.renders_safely(pack_record(record)),
            )
            for record, count in zip(group, counts, strict=True)
        ]
        await self._ledger.clear_suspects([record for record, harmless in together if harmless])
        alone = [(record, harmless or await self._render_alone(record)) for record, harmless in together]
        return [(record, harmless) for record, harmless in alone if harmless is not None]

    async def _render_alone(self, record: Record) -> bool | None:
        """Whether the record is safe; None if the worker stops before it could be tried."""
        while await self._ready():
            harmless = await self._ledger.count_suspect_attempt(record) <= MAX_ATTEMPTS
            if not harmless or await self._renderer.renders_safely(pack_record(record)):
                await self._ledger.clear_suspects([record])
                return harmless
        return None

    async def _ready(self) -> bool:
        """Wait until the isolated renderer is ready; False if the worker stops first."""
        wait = RECHECK_SECONDS
        while not self.gave_up and not await self._renderer.ready():
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
        f"a process that rendered this record died or hung {MAX_ATTEMPTS} times, so it is not retried; "
        "check its template and data, then publish the event again",
    )
