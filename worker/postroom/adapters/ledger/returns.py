"""Taking reports into a ledger by the side of its workers, on a file and on a server alike."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy.engine import Connection

from postroom.adapters.ledger import leases, reports
from postroom.adapters.ledger.beside import Beside
from postroom.adapters.ledger.reports import Scene
from postroom.adapters.ledger.rows import stamp
from postroom.adapters.ledger.schema import letter
from postroom.ports.notices import Herald
from postroom.ports.returns import House, Returned, Taken

T = TypeVar("T")


class SqlReturns(Beside):
    """Implements ports.returns.Returns."""

    def take(
        self, returned: Sequence[Returned], houses: Mapping[str, House], now: datetime
    ) -> Sequence[Taken]:
        """See the port."""
        return self._on_the_scene(houses, now, lambda scene: reports.take(scene, returned, houses))

    def sweep(self, houses: Mapping[str, House], now: datetime) -> Sequence[Taken]:
        """See the port."""
        ours = letter.c.profile.in_(sorted(houses))
        return self._on_the_scene(houses, now, lambda scene: reports.sweep(scene, ours))

    def _on_the_scene(self, houses: Mapping[str, House], now: datetime, work: Callable[[Scene], T]) -> T:
        def heralds(profile: str) -> Sequence[Herald]:
            return houses[profile].heralds

        def play(connection: Connection) -> T:
            alone = self._file is not None
            at = stamp(now) if alone else leases.now(connection)
            return work(Scene(connection, heralds, at, leases.EVERYBODY if alone else None))

        return self.do(play)
