"""`postroom letter --connections`: what became of a letter, from the ledger that workers share.

Input: what is looked for, and the folder of the connections Secret, which says where the ledger is. Output:
every row that fits. Failure: `Trouble` when the folder says nothing usable or the server is away. It works
where the Secret is mounted: in a worker's pod.
"""

from pathlib import Path

from postroom.adapters.ledger.reader import LetterView
from postroom.adapters.ledger.server_reader import ServerReader
from postroom.connections import Mounted, read_ledger
from postroom.letter.problems import Rejected
from postroom.local.trouble import Trouble
from postroom.mounted import read_folder
from postroom.ports.ledger import Unreachable


def find(wanted: str, folder: Path, namespace: str) -> list[LetterView]:
    """The letters that fit, oldest first; raises Trouble."""
    try:
        mounted = Mounted(read_folder(folder), folder, f"the Secret mounted at {folder}")
        where = read_ledger(mounted, namespace)
        with ServerReader(where.url, where.schema) as ledger:
            return list(ledger.find(wanted))
    except Rejected as rejected:
        raise Trouble(str(rejected)) from None
    except OSError as error:
        raise Trouble(f"{folder} cannot be read: {error}.") from None
    except Unreachable as unreachable:
        raise Trouble(f"The ledger's server does not answer: {unreachable}.") from None
