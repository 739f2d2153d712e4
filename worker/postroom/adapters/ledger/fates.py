"""What became of letters, as heralds are told it: of a settlement, or of a row whose worker died."""

import json
from datetime import datetime
from typing import Any

from postroom.adapters.ledger.rows import moment
from postroom.letter.identity import Identity
from postroom.ports.ledger import Settlement, State
from postroom.ports.notices import Fate


def is_news(one: Settlement) -> bool:
    """Whether a settlement says something new: a letter that goes on waiting untried was told of before."""
    return one.state is not State.DEFERRED or one.attempt is not None or one.claimed.from_topic


def fate_of(one: Settlement, now: datetime) -> Fate:
    """What a settlement made of its letter."""
    carried = one.claimed.letter
    event = carried.event
    return Fate(
        row=one.claimed.row,
        identity=carried.identity,
        event_type=event.type,
        state=one.state,
        at=now,
        tries=one.tries,
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


def fate_of_row(row: Any, state: State, code: str, at: float) -> Fate:
    """What became of a letter whose worker died; `row` is all of it, as it was."""
    return Fate(
        row=row.row,
        identity=Identity(row.profile, row.source, row.event_id, row.recipient),
        event_type=row.event_type,
        state=state,
        at=moment(at),
        tries=row.tries,
        code=code,
        due=moment(at) if state is State.DEFERRED else None,
        template=row.template or "",
        revision=row.revision or "",
        message_id=row.message_id or "",
        user_id=row.user_id,
        request_id=row.request_id,
        metadata=json.loads(row.metadata) if row.metadata else {},
    )
