"""A rehearsal: try a record where it can do no harm."""

from typing import Protocol


class Rehearsal(Protocol):
    """Renders a record in a process of its own."""

    async def survives(self, payload: bytes) -> bool:
        """Whether the process outlived this record; `payload` is a packed record."""
        ...

    async def close(self) -> None:
        """End the process."""
        ...
