"""Replaying dead letters: which may go back to their topic, and the way there.

In: chosen dead letters. Out: for each whether it was published, or why not. A replay has the dead letter's
own replay id, so that the ledger lets it open its letter once: to replay twice sends nothing twice.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from postroom.adapters.kafka.republishing import republish
from postroom.adapters.kafka.rereading import Reader, Unreadable
from postroom.desk.deadletters import Choice, DeadLetter, read, who
from postroom.desk.place import Place
from postroom.letter.problems import Code
from postroom.letter.profile import dead_letter_topic
from postroom.local.trouble import Trouble
from postroom.ports.ledger import REPLAYS_KEPT


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one dead letter; `why_not` is empty where it was done."""

    dead_letter: DeadLetter
    why_not: str = ""


def find(place: Place, choice: Choice) -> list[DeadLetter]:
    """The chosen dead letters of all topics, oldest first; raises Trouble."""
    try:
        with Reader(place.kafka) as reader:
            found = [one for topic in place.topics for one in _of(reader, topic) if choice.takes(one)]
    except Unreadable as reason:
        raise Trouble(f"The dead letters cannot be read: {reason}.") from None
    return sorted(found, key=lambda one: one.at)


def _of(reader: Reader, topic: str) -> Iterator[DeadLetter]:
    for one in read(reader.records(dead_letter_topic(topic)), topic):
        yield _whole(reader, one) if one.omitted else one


def _whole(reader: Reader, one: DeadLetter) -> DeadLetter:
    """With its content from its own topic, where that still has it."""
    was = reader.record(one.record.topic, one.record.partition, one.record.offset)
    return one if was is None else replace(one, record=was, omitted=False, who=who(was))


UNTIL_ASKED: dict[str, str] = {
    Code.TOO_OLD_TO_DEDUPLICATE: "it may have been sent before, and nobody remembers",
    Code.EXPIRED: "its time has passed",
    Code.UNDECIDED: "a copy of it may have arrived",
}
"""Why dead letters with these codes are not replayed, unless somebody insists."""


def why_not(one: DeadLetter, now: datetime, insisted: Collection[str] = ()) -> str:
    """Why a dead letter should not be replayed; empty where it may. `insisted` are codes to be overlooked."""
    if one.omitted or one.record.value is None:
        return "its content is on no topic any more"
    if now - one.at > REPLAYS_KEPT:
        return f"it is older than {REPLAYS_KEPT.days} days, for which replays are remembered"
    if one.code == Code.IDEMPOTENCY_MISMATCH:
        return "its id belongs to another letter; publish it under a new id"
    why = UNTIL_ASKED.get(one.code)
    return f"{why}; --insist {one.code} replays it all the same" if why and one.code not in insisted else ""


def publish(place: Place, wanted: Sequence[DeadLetter]) -> list[Fate]:
    """Put replays on their topics; one Fate each."""
    reasons = republish(place.kafka, [one.as_replay() for one in wanted])
    return [Fate(one, reason) for one, reason in zip(wanted, reasons, strict=True)]
