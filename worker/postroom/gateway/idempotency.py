"""Messages that came lately: the same id with another content is refused at once, not later by a worker.

In: a message's identity and the digest of what its recipient would read. Out: nothing when it may go to the
broker; a `Refusal` when the same id is on its way there (409), or stands for another content (422). Kept are
hashes alone, in this process and for the last messages: what came to another gateway, or long ago, a worker
finds in the ledger, as `idempotency_mismatch`.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from postroom.gateway.problem import Refusal, refused
from postroom.letter.problems import Code, Problem

CAPACITY = 20_000
"""Messages that are remembered; each takes about 200 bytes."""


class IdempotencyCache:
    """What was accepted lately, and what is on its way to the broker."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._accepted: OrderedDict[bytes, bytes] = OrderedDict()
        self._in_flight: set[bytes] = set()

    @contextmanager
    def reserve(self, identity: bytes, content: bytes) -> Iterator[None]:
        """Hold an identity while its message is handed over; it is remembered only if that went well."""
        if identity in self._in_flight:
            detail = "a message with this id is being handed to the broker; repeat the request in a second"
            raise Refusal(409, detail, headers={"Retry-After": "1"})
        if self._accepted.get(identity, content) != content:
            raise refused([CONTENT_MISMATCH])
        self._in_flight.add(identity)
        try:
            yield
        finally:
            self._in_flight.discard(identity)
        self._accepted[identity] = content
        self._accepted.move_to_end(identity)
        if len(self._accepted) > self._capacity:
            self._accepted.popitem(last=False)


CONTENT_MISMATCH = Problem(
    Code.IDEMPOTENCY_MISMATCH,
    "message_id",
    "stands for another content, which was accepted; give a new message a new id",
)
