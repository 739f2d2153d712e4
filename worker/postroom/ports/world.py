"""Templates and time, as the programs ask for them."""

from datetime import datetime
from typing import Protocol

from postroom.letter.catalog import TemplateCatalog


class Templates(Protocol):
    """The live templates; `current` is cheap and may answer differently between two batches."""

    def current(self) -> TemplateCatalog:
        """The catalog to render with now; one batch uses one catalog throughout."""
        ...


class Clock(Protocol):
    """Wall time, aware UTC, monotonic seconds, and chance for jitter."""

    def now(self) -> datetime:
        """The wall clock."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def random(self) -> float:
        """A number in [0, 1)."""
        ...
