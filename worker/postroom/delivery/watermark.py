"""The watermark of one partition: how far its records are done, without a hole.

Contiguous over the records that were received, not over offsets: transactions and compaction leave
numbers out. An offset that never was received cannot be finished.
"""

from collections import deque


class Watermark:
    """Offsets received in order, finished in any order."""

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._open: set[int] = set()
        self._next: int | None = None

    def receive(self, offset: int) -> None:
        """A record came in."""
        self._order.append(offset)
        self._open.add(offset)

    def finish(self, offset: int) -> None:
        """A record is done; one that this assignment never received is none of its business."""
        self._open.discard(offset)

    def advance(self) -> int | None:
        """The offset to commit (the next to read), if it moved since the last call."""
        moved = False
        while self._order and self._order[0] not in self._open:
            self._next = self._order.popleft() + 1
            moved = True
        return self._next if moved else None

    @property
    def next(self) -> int | None:
        """The offset to commit, None while nothing is done."""
        return self._next

    @property
    def held(self) -> int:
        """Records received and not yet behind the watermark."""
        return len(self._order)

    @property
    def open(self) -> int:
        """Records received and not yet done."""
        return len(self._open)
