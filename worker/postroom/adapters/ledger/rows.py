"""How values stand in a row: times as seconds, text as UTF-8, keys in time order."""

from datetime import UTC, datetime

GENERATION_BITS = 10
SEQUENCE_BITS = 12


def stamp(moment_: datetime) -> float:
    """Aware time → seconds since 1970, UTC."""
    return moment_.timestamp()


def moment(seconds: float) -> datetime:
    """Seconds since 1970 → aware UTC time."""
    return datetime.fromtimestamp(seconds, UTC)


def legible(text: str) -> str:
    """Text that can be stored: what UTF-8 or PostgreSQL does not know becomes a question mark."""
    return text.encode(errors="replace").decode().replace("\0", "?")


def first_key(at: float) -> int:
    """The lowest key that a letter received at this time can have."""
    return int(at * 1000) << (GENERATION_BITS + SEQUENCE_BITS)


class RowKeys:
    """Time-ordered 63-bit keys: 41 bits of milliseconds, 10 of generation, 12 of sequence.

    Inserts land at the end of the table, whatever the identities are; two processes never make the same
    key as long as fewer than 1,024 live at once.
    """

    def __init__(self, generation: int) -> None:
        self._generation = (generation % (1 << GENERATION_BITS)) << SEQUENCE_BITS
        self._last = 0
        self._sequence = 0

    def next(self, at: float) -> int:
        """The next key; a clock that goes back or a full millisecond moves on into the next one."""
        millisecond = max(int(at * 1000), self._last)
        if millisecond == self._last:
            self._sequence += 1
            if self._sequence >> SEQUENCE_BITS:
                millisecond, self._sequence = millisecond + 1, 0
        else:
            self._sequence = 0
        self._last = millisecond
        return (millisecond << (GENERATION_BITS + SEQUENCE_BITS)) | self._generation | self._sequence
