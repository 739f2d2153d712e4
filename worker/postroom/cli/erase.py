"""`postroom erase`: remove a person's data from ledgers and the inbox, and report what Kafka still retains.

Input: an address, open ledgers, the inbox's address. Output: an `ErasureReport`. A letter that a worker is
sending cannot be erased; the erasure is retried for `RETRY_SECONDS`, because such a letter is settled within
moments. Failure: `UserError` when the inbox does not answer.
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
AFTER_LEDGERS = "The ledgers are done; run the command again."


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """The result of an erasure."""

    ledgers: ErasureResult
    inbox: int | None
    """Letters in the sandbox's inbox; None when no inbox is configured."""
    topics: Sequence[str]
    """Topics that may hold events of this person until Kafka's retention removes them."""
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        counts = {field.name: getattr(self.ledgers, field.name) for field in fields(ErasureResult)}
        return {"dry_run": self.dry_run, **counts, "inbox": self.inbox, "topics": list(self.topics)}

    def lines(self) -> Iterator[str]:
        """Yield the report as lines of text."""
        found, verb = self.ledgers, "would be erased" if self.dry_run else "erased"
        letters, replies = _count(found.letters, "letter"), _count(found.attempts, "reply", "replies")
        yield f"{letters} in the ledger {verb}; {found.withdrawn} of them were waiting to be sent"
        yield f"{replies} of relays and {_count(found.reports, 'report')} {verb}"
        dead_letters = _count(found.dead_letters, "dead letter")
        yield f"{dead_letters} and {_count(found.notifications, 'notification')} in the outbox {verb}"
        if found.suppressions:
            kept = "they stay in effect without the address"
            yield f"{_count(found.suppressions, 'entry', 'entries')} of the suppression list {verb}: {kept}"
        if self.inbox is None:
            yield "no inbox was searched; --inbox names one"
        else:
            yield f"{_count(self.inbox, 'letter')} in the inbox {verb}"
        if found.in_progress:
            yield f"{_count(found.in_progress, 'letter')} in progress: run the command again later"
        if self.topics:
            yield (
                "Kafka removes records only by retention; until then these topics may hold events of this "
                f"person: {', '.join(self.topics)}"
            )


def parse_address(text: str) -> str:
    """Normalize an address as letters have it; raises UserError."""
    try:
        return str(normalize_address(text))
    except Rejected as rejected:
        raise UserError(f"{text} is not an address: {rejected.problems[0].message}.") from None


def erase_address(
    ledgers: Sequence[LedgerAdministration], address: str, now: datetime, dry_run: bool
) -> ErasureResult:
    """Erase an address in each ledger; retries while workers are sending its letters."""
    deadline, total = time.monotonic() + RETRY_SECONDS, ErasureResult()
    while True:
        found = sum((ledger.erase(address, now, dry_run) for ledger in ledgers), ErasureResult())
        total = replace(total, in_progress=0) + found
        if dry_run or not found.in_progress or time.monotonic() > deadline:
            return total
        time.sleep(RETRY_DELAY_SECONDS)


def erase_in_inbox(inbox: str | None, address: str, dry_run: bool) -> int | None:
    """Erase an address in the sandbox's inbox; raises UserError when the inbox does not answer."""
    if not inbox:
        return None
    try:
        answer = http_client.post(
            f"{inbox.rstrip('/')}/api/v1/erasures", {"address": address, "dry_run": dry_run}
        )
    except http_client.RequestFailed as error:
        raise UserError(f"The inbox cannot be reached: {error}.", AFTER_LEDGERS) from None
    if not answer.ok:
        raise UserError(f"The inbox rejected the request: {answer.detail}.", AFTER_LEDGERS)
    return int(answer.body["letters"])


def topics_with_events(environment: Environment) -> list[str]:
    """Return the topics that hold events, as far as they are known."""
    try:
        return [name for topic in environment.topics for name in (topic, dead_letter_topic(topic))]
    except UserError:
        return []


def _count(count: int, singular: str, plural: str = "") -> str:
    return f"{count} {singular if count == 1 else plural or singular + 's'}"
