"""A rehearsal: try a record where it can do no harm."""

from typing import Protocol


class Rehearsal(Protocol):
    """Renders a record in a process of its own."""

    last_error: str
    """Why no process starts; empty while one does."""

    async def ready(self) -> bool:
        """Have a process to try records in; False when none starts, which speaks against no record."""
        ...

    async def survives(self, payload: bytes) -> bool:
        """Whether the process, once it is ready, outlived this record; `payload` is a packed record."""
        ...

    async def close(self) -> None:
        """End the process."""
        ...
