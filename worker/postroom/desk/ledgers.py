"""The ledgers that the desk works on: those of a data folder, files by name, or the one of a Secret.

Failure: `Trouble` when there is none, or when one cannot be used; then nothing was done to any.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from postroom.adapters.ledger.upkeep import SqlUpkeep
from postroom.connections import read_ledger
from postroom.desk.place import mounted
from postroom.letter.problems import Rejected
from postroom.local.folder import DataFolder
from postroom.local.trouble import Trouble
from postroom.ports.health import Unreachable
from postroom.ports.upkeep import Upkeep


@contextmanager
def opened(
    data: Path, files: Sequence[Path], connections: Path | None, namespace: str
) -> Iterator[Sequence[Upkeep]]:
    """Every ledger that is meant, open at once."""
    with ExitStack() as open_:
        try:
            yield [
                open_.enter_context(closing(each)) for each in _ledgers(data, files, connections, namespace)
            ]
        except Rejected as rejected:
            raise Trouble(str(rejected)) from None
        except Unreachable as unreachable:
            raise Trouble(f"The ledger's server does not answer: {unreachable}.") from None


def _ledgers(data: Path, files: Sequence[Path], connections: Path | None, namespace: str) -> Iterator[Upkeep]:
    if connections and not files:
        where = read_ledger(mounted(connections), namespace)
        yield SqlUpkeep.of_server(where.url, where.schema)
        return
    found = list(files) or DataFolder(data).ledgers()
    if not found:
        raise Trouble(
            f"There is no ledger in {data}.",
            "Name the data folder of `postroom up` with --data, a file with --ledger, or --connections.",
        )
    for path in found:
        if not path.exists():
            raise Trouble(f"There is no ledger {path}.")
        yield SqlUpkeep.of_file(path)
