"""How values stand in a row: times as seconds, text as UTF-8, keys in time order.

What became of letters, as heralds are told it: of a settlement, or of a row whose worker died.

Whose letters a statement is about, where a database holds those of several profiles.
"""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, literal, true

from postroom.adapters.ledger.schema import letter
from postroom.letter.identity import Identity
from postroom.ports.ledger import Settlement, State
from postroom.ports.notifications import LetterTransition

EPOCH_BITS = 10
SEQUENCE_BITS = 12


def stamp(moment_: datetime) -> float:
    """Aware time → seconds since 1970, UTC."""
    return moment_.timestamp()


def moment(seconds: float) -> datetime:
    """Seconds since 1970 → aware UTC time."""
    return datetime.fromtimestamp(seconds, UTC)


def storable(text: str) -> str:
    """Text that can be stored: what UTF-8 or PostgreSQL does not know becomes a question mark."""
    return text.encode(errors="replace").decode().replace("\0", "?")


def first_key(at: float) -> int:
    """The lowest key that a letter received at this time can have."""
    return int(at * 1000) << (EPOCH_BITS + SEQUENCE_BITS)


class RowKeys:
    """Time-ordered 63-bit keys: 41 bits of milliseconds, 10 of worker_epoch, 12 of sequence.

    Inserts land at the end of the table, whatever the identities are; two processes never make the same
    key as long as fewer than 1,024 live at once.
    """

    def __init__(self, worker_epoch: int) -> None:
        self._worker_epoch = (worker_epoch % (1 << EPOCH_BITS)) << SEQUENCE_BITS
        self._last = 0
        self._sequence = 0

    def next(self, at: float) -> int:
        """The next key; a clock that goes back or a full millisecond moves on into the next one."""
        millisecond = max(int(at * 1000), self._last)
        if millisecond == self._last:
            self._sequence += 1
            if self._sequence >> SEQUENCE_BITS:
                millisecond, self._sequence = millisecond + 1, 0
        else:
            self._sequence = 0
        self._last = millisecond
        return (millisecond << (EPOCH_BITS + SEQUENCE_BITS)) | self._worker_epoch | self._sequence


def is_notifiable(one: Settlement) -> bool:
    """Whether a settlement says something new: a letter that goes on waiting untried was told of before."""
    return one.state is not State.DEFERRED or one.attempt is not None or one.claimed.from_topic


def transition_of_settlement(one: Settlement, now: datetime) -> LetterTransition:
    """What a settlement made of its letter."""
    carried = one.claimed.letter
    event = carried.event
    return LetterTransition(
        row=one.claimed.row,
        identity=carried.identity,
        event_type=event.type,
        state=one.state,
        at=now,
        attempts=one.attempts,
        code=one.problem.code.value if one.problem else "",
        reply=f"{one.attempt.code} {one.attempt.text}" if one.attempt and one.attempt.code else "",
        due=one.due,
        template=carried.template,
        revision=carried.revision,
        message_id=carried.message_id,
        user_id=event.user_id,
        request_id=event.request_id,
        metadata=event.metadata,
    )


def transition_of_row(row: Any, state: State, code: str, at: float) -> LetterTransition:
    """What became of a letter whose worker died; `row` is all of it, as it was."""
    return LetterTransition(
        row=row.row,
        identity=Identity(row.profile, row.source, row.event_id, row.recipient),
        event_type=row.event_type,
        state=state,
        at=moment(at),
        attempts=row.attempts,
        code=code,
        due=moment(at) if state is State.DEFERRED else None,
        template=row.template or "",
        revision=row.revision or "",
        message_id=row.message_id or "",
        user_id=row.user_id,
        request_id=row.request_id,
        metadata=json.loads(row.metadata) if row.metadata else {},
    )


def profile_filter(profile: Any) -> ColumnElement[bool]:
    """Letters of this profile (a text, or a parameter); of every profile where it is None."""
    if profile is None:
        return true()
    wanted = literal(profile) if isinstance(profile, str) else profile
    return wanted.is_(None) | (letter.c.profile == wanted)
