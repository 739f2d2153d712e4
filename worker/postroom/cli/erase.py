"""`postroom erase`: everything of one address, in ledgers and inbox; what Kafka keeps is said, not hidden.

In: an address and where to look. Out: what was removed. Letters in a worker's hand are looked at again for a
while, since they are settled in a moment.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from postroom.adapters.ledger.administration import LedgerAdministration
from postroom.cli.environment import Environment
from postroom.letter.address import normalize_address
from postroom.letter.problems import Rejected
from postroom.letter.profile import dead_letter_topic
from postroom.local import http_client
from postroom.local.errors import UserError
from postroom.ports.ledger import ErasureResult

RETRY_SECONDS = 15.0
RETRY_DELAY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What an erasure came to."""

    ledgers: ErasureResult
    inbox: int | None
    """Letters in the sandbox's inbox; None where no inbox was asked."""
    topics: Sequence[str]
    """Topics that may hold events of this person until their retention removes them."""
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        names = [each.name for each in fields(ErasureResult)]
        figures = {name: getattr(self.ledgers, name) for name in names}
        return {"dry_run": self.dry_run, **figures, "inbox": self.inbox, "topics": list(self.topics)}

    def lines(self) -> Iterator[str]:
        """As a person reads it."""
        found, verb = self.ledgers, "would be erased" if self.dry_run else "erased"
        letters, answers = _count(found.letters, "letter"), _count(found.attempts, "answer")
        yield f"{letters} in the ledger {verb}; {found.withdrawn} of them waited to be sent"
        yield f"{answers} of relays and {_count(found.reports, 'report')} that came back {verb}"
        dead_letters, notifications = (
            _count(found.dead_letters, "dead letter"),
            _count(found.notifications, "notification"),
        )
        yield f"{dead_letters} and {notifications} in the outbox {verb}"
        if found.suppressions:
            kept = "they stay in force without the address"
            yield f"{_count(found.suppressions, 'entry', 'entries')} of the suppression list {verb}: {kept}"
        if self.inbox is None:
            yield "no inbox was looked into: --inbox names one"
        else:
            yield f"{_count(self.inbox, 'letter')} in the inbox {verb}"
        if found.in_progress:
            yield f"{_count(found.in_progress, 'letter')} in progress: run the command again later"
        if self.topics:
            yield (
                "Kafka removes records by retention alone; until then these topics may hold events of this "
                f"person: {', '.join(self.topics)}"
            )


def parse_address(text: str) -> str:
    """The address as letters have it; raises Trouble."""
    try:
        return str(normalize_address(text))
    except Rejected as rejected:
        raise UserError(f"{text} is no address: {rejected.problems[0].message}.") from None


def erase_address(
    ledgers: Sequence[LedgerAdministration], address: str, now: datetime, dry_run: bool
) -> ErasureResult:
    """Erase in each ledger, again while letters are under way."""
    end, total = time.monotonic() + RETRY_SECONDS, ErasureResult()
    while True:
        found = sum((each.erase(address, now, dry_run) for each in ledgers), ErasureResult())
        total = replace(total, in_progress=0) + found
        if dry_run or not found.in_progress or time.monotonic() > end:
            return total
        time.sleep(RETRY_DELAY_SECONDS)


def erase_in_inbox(inbox: str | None, address: str, dry_run: bool) -> int | None:
    """Erase in the sandbox's inbox; raises Trouble where it does not answer."""
    if not inbox:
        return None
    try:
        answer = http_client.post(
            f"{inbox.rstrip('/')}/api/v1/erasures", {"address": address, "dry_run": dry_run}
        )
    except http_client.RequestFailed as reason:
        raise UserError(f"The inbox is not there: {reason}.", "The ledgers are done; run it again.") from None
    if not answer.ok:
        raise UserError(f"The inbox refused: {answer.detail}.", "The ledgers are done; run it again.")
    return int(answer.body["letters"])


def topics_with_events(place: Environment) -> list[str]:
    """Where Kafka keeps events, as far as it is known here."""
    try:
        return [each for topic in place.topics for each in (topic, dead_letter_topic(topic))]
    except UserError:
        return []


def _count(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
