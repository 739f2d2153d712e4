"""Refuse a message whose id was accepted recently with another content, before a worker finds it.

Input: the identity of a message and the digest of its payload. Output: nothing when the message may be
published. Failure: `HttpProblem` 409 while a message of this id is being published; `Rejected` when the id
stands for another content. Only hashes are kept, in this process, for the most recent messages: a worker
finds duplicates of other gateways and older ones in the ledger, as `idempotency_mismatch`.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from postroom.http.problems import HttpProblem
from postroom.letter.problems import Code, Problem, Rejected

CAPACITY = 20_000
"""Messages that are remembered; each takes about 200 bytes."""
CONTENT_MISMATCH = Problem(
    Code.IDEMPOTENCY_MISMATCH,
    "message_id",
    "stands for another content, which was accepted; give a new message a new id",
)


class IdempotencyCache:
    """The messages that were accepted recently, and those that are being published."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._accepted: OrderedDict[bytes, bytes] = OrderedDict()
        self._in_flight: set[bytes] = set()

    @contextmanager
    def reserve(self, identity: bytes, content: bytes) -> Iterator[None]:
        """Reserve an identity while its message is published; remember it if the block succeeds."""
        if identity in self._in_flight:
            detail = "a message with this id is being published; repeat the request in a second"
            raise HttpProblem(409, detail, headers={"Retry-After": "1"})
        if self._accepted.get(identity, content) != content:
            raise Rejected(CONTENT_MISMATCH)
        self._in_flight.add(identity)
        try:
            yield
        finally:
            self._in_flight.discard(identity)
        self._accepted[identity] = content
        self._accepted.move_to_end(identity)
        if len(self._accepted) > self._capacity:
            self._accepted.popitem(last=False)
