"""The child process of the isolated renderer: read packed records, render each, answer an empty frame.

Input: the profile's manifest and the folder of bundles as arguments; frames with records on standard input.
Output: an empty frame when ready and after every record, whatever its result: the parent looks at death and
time only.
"""

import contextlib
import resource
import sys
from pathlib import Path

from postroom import logs
from postroom.adapters.templates import FolderTemplates
from postroom.delivery.context import DeliveryPolicy
from postroom.delivery.parse import parse_record
from postroom.delivery.render import render_one
from postroom.isolated_process import read_frame, write_frame
from postroom.letter.event import Record, unpack_record
from postroom.letter.problems import Rejected
from postroom.ports.ledger import State
from postroom.worker.profile_config import delivery_policy, read_profile

MEMORY_BYTES = 512 * 1024 * 1024
CPU_SECONDS = 600


def main() -> None:
    """Serve until standard input ends."""
    logs.configure_logging("json")  # standard output is for answers
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    policy = delivery_policy(read_profile(Path(sys.argv[1])), State.CAPTURED)
    templates = FolderTemplates(Path(sys.argv[2]))
    templates.refresh()
    with contextlib.suppress(BrokenPipeError):  # the worker has ended
        write_frame(sys.stdout.buffer, b"")
        while (payload := read_frame(sys.stdin.buffer)) is not None:
            _render(unpack_record(payload), templates, policy)
            write_frame(sys.stdout.buffer, b"")


def _render(record: Record, templates: FolderTemplates, policy: DeliveryPolicy) -> None:
    # an ordinary invalid record is rejected by the pipeline
    with contextlib.suppress(Rejected):
        render_one(parse_record(record, policy.profile), templates.current(), policy, record.timestamp)


if __name__ == "__main__":
    main()
