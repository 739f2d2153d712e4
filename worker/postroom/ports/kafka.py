"""Events: records in from the profile's topics, dead letters out."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from postroom.letter.event import Record
from postroom.ports.ledger import DeadLetter

Partition = tuple[str, int]
"""Topic and partition number."""

PUBLISH_TIMEOUT_SECONDS = 30.0
"""How long a dead letter may take to be acknowledged, when nobody is in a hurry."""


class RecordReceiver(Protocol):
    """What the event source calls, all on the program's event loop."""

    def assigned(self, partitions: Sequence[Partition]) -> None:
        """These partitions are ours from now on."""
        ...

    def received(self, records: Sequence[Record]) -> None:
        """The next records, in order within each partition."""
        ...

    async def revoked(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Bring what is under way to a decision; returns the offsets to commit before they go."""
        ...

    def lost(self, partitions: Sequence[Partition]) -> None:
        """These partitions went without warning: nothing of them may be committed any more."""
        ...


class EventConsumer(Protocol):
    """A consumer-group membership on the profile's topic."""

    async def start(self, receiver: RecordReceiver) -> None:
        """Join the group and begin to poll, on a thread of its own."""
        ...

    def pause(self) -> None:
        """Stop fetching (polling goes on, so the membership lives)."""
        ...

    def resume(self) -> None:
        """Fetch again."""
        ...

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit next-offsets soon; a later call supersedes an earlier one."""
        ...

    async def stop(self, offsets: Mapping[Partition, int]) -> None:
        """Commit for good and leave the group; where no broker answers, neither, and soon."""
        ...

    @property
    def connected(self) -> bool | None:
        """Whether a broker answers; None before the first sign."""
        ...


class DeadLetterPublisher(Protocol):
    """The producer to the dead-letter topic."""

    async def publish(
        self, dead_letters: Sequence[DeadLetter], patience: float = PUBLISH_TIMEOUT_SECONDS
    ) -> Sequence[bool]:
        """Publish and wait for the acknowledgements, so many seconds at most; True for each that came."""
        ...
