"""The port to Kafka: records from the topic of the profile, and dead letters to the dead-letter topic.

Failure: a broker that is unreachable stops records and is visible in `EventConsumer.connected`. A dead letter
that was not acknowledged is reported as False and published again later.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from postroom.letter.event import Record
from postroom.ports.ledger import DeadLetter

Partition = tuple[str, int]
"""Topic and partition number."""

PUBLISH_TIMEOUT_SECONDS = 30.0
"""The usual limit for the acknowledgement of a dead letter."""


class RecordReceiver(Protocol):
    """Receives the records and the rebalances of a consumer; all calls are on the event loop."""

    def assigned(self, partitions: Sequence[Partition]) -> None:
        """These partitions are assigned to this consumer from now on."""
        ...

    def received(self, records: Sequence[Record]) -> None:
        """The next records, in order within each partition."""
        ...

    async def revoked(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Settle the records in progress; return the offsets to commit before the partitions are revoked."""
        ...

    def lost(self, partitions: Sequence[Partition]) -> None:
        """These partitions were lost without a revocation: no offset of them may be committed."""
        ...


class EventConsumer(Protocol):
    """A member of the consumer group on the topic of the profile."""

    async def start(self, receiver: RecordReceiver) -> None:
        """Join the group and poll on a separate thread."""
        ...

    def pause(self) -> None:
        """Stop fetching; polling continues, so that the membership is kept."""
        ...

    def resume(self) -> None:
        """Continue fetching."""
        ...

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit these next offsets soon; a later call replaces an earlier one."""
        ...

    async def stop(self, offsets: Mapping[Partition, int]) -> None:
        """Commit, leave the group and stop. Without a reachable broker: stop after a short wait."""
        ...

    @property
    def connected(self) -> bool | None:
        """Whether a broker responds; None before the first response."""
        ...


class DeadLetterPublisher(Protocol):
    """A producer for the dead-letter topic."""

    async def publish(
        self, dead_letters: Sequence[DeadLetter], seconds: float = PUBLISH_TIMEOUT_SECONDS
    ) -> Sequence[bool]:
        """Publish and wait at most `seconds` for acknowledgements; True for each acknowledged dead letter."""
        ...
