"""Classify a relay's result: Result → Outcome.

Source: RFC 5321 §4.2.1 (4yz is transient, 5yz permanent), §4.5.3.1.10 (552 after RCPT means too many
recipients and is temporary), §3.8 and §4.3.2 (421 may come at any time, 554 in field of the greeting).

Some replies to a letter concern the relay itself: it closes (421), is full (452 to MAIL; RFC 3463 X.3.1),
accepts nothing now (X.3.2) or throttles (454 to the content, as Amazon SES does). These count as an outage
and not against the letter's `maxAttempts`.
"""

import re
from typing import assert_never

from postroom.letter.problems import Code, Problem
from postroom.policy.outcomes import (
    Accepted,
    Deferred,
    InDoubt,
    NotAttempted,
    Outcome,
    RelayRefused,
    RelayUnreachable,
    Released,
)
from postroom.ports.relay import HoldReason, Lost, NotSent, Postponed, Reply, Result, Stage

BEFORE_THE_LETTER = frozenset({Stage.CONNECT, Stage.EHLO, Stage.TLS, Stage.AUTH})
"""Stages whose rejection concerns the profile or the relay, not one letter."""

_FIELDS = {
    HoldReason.CIRCUIT: "spec.circuitBreaker",
    HoldReason.RATE: "spec.limits.rate",
    HoldReason.RECIPIENT_RATE: "spec.limits.perRecipientRate",
}

LOGIN_WANTED = frozenset({530, 534, 535, 538})
"""RFC 4954 §6: the relay requires authentication or TLS first. The profile must be corrected."""

CLOSING = 421
THROTTLED = 454
FULL = 452
STATE_OF_THE_RELAY = re.compile(r"4\.3\.[12]\b")


def classify_reply(result: Result) -> Outcome:
    """Return what a result means for the letter."""
    match result:
        case Reply():
            return _classify_smtp_reply(result)
        case Lost(end_of_data_sent=True):
            return InDoubt(
                Problem(
                    Code.CONNECTION_LOST_AT_END_OF_DATA,
                    "smtp.end_of_data",
                    f"the letter was sent and no reply arrived ({result.reason}); "
                    "the relay may have accepted one copy",
                )
            )
        case Lost():
            problem = Problem(Code.RELAY_UNREACHABLE, f"smtp.{result.stage}", result.reason)
            return RelayUnreachable(problem, result)
        case NotSent():
            return Released()
        case Postponed():
            return _not_attempted(result)
        case _:
            assert_never(result)


def _not_attempted(result: Postponed) -> NotAttempted:
    code = Code.CIRCUIT_OPEN if result.hold_reason is HoldReason.CIRCUIT else Code.RATE_LIMITED
    return NotAttempted(Problem(code, _FIELDS[result.hold_reason], result.reason), result.seconds)


def _classify_smtp_reply(reply: Reply) -> Outcome:
    field = f"smtp.{reply.stage}"
    if reply.stage is Stage.END_OF_DATA and 200 <= reply.code < 300:
        return Accepted(reply)
    description = f"the relay answered {reply.code} {reply.text}".rstrip()
    if reply.stage in BEFORE_THE_LETTER or reply.code in LOGIN_WANTED:
        lost = Lost(reply.stage, end_of_data_sent=False, reason=description)
        return RelayUnreachable(Problem(Code.RELAY_UNREACHABLE, field, description), lost)
    if is_temporary(reply):
        return Deferred(Problem(Code.RELAY_DEFERRED, field, description), reply, is_of_relay(reply))
    return RelayRefused(Problem(Code.RELAY_REFUSED, field, description), reply)


def is_temporary(reply: Reply) -> bool:
    """Whether a retry may succeed: every reply except a clear 5yz."""
    if reply.code == 552 and reply.stage is Stage.RCPT:
        return True
    return not 500 <= reply.code < 600


def is_of_relay(reply: Reply) -> bool:
    """Whether a temporary reply concerns the relay and not the letter."""
    match reply:
        case Reply(code=code) if code == CLOSING:
            return True
        case Reply(code=code, stage=Stage.DATA | Stage.END_OF_DATA) if code == THROTTLED:
            return True
        case Reply(code=code, stage=Stage.MAIL) if code == FULL:
            return True
        case _:
            return STATE_OF_THE_RELAY.match(reply.text) is not None
