"""What a relay's answer means: Result → Outcome.

Source: RFC 5321 §4.2.1 (4yz is transient, 5yz permanent), §4.5.3.1.10 (552 after RCPT means too many
recipients and is temporary), §3.8 and §4.3.2 (421 may come at any time, 554 in place of the greeting).

A relay may also speak of itself where it was asked about a letter: it closes (421), it is full (452 to MAIL;
RFC 3463 X.3.1), it takes nothing now (X.3.2), it was sent too much (454 to the content, as Amazon SES does).
That is an outage by another name, and an outage uses up no attempts.
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
"""Stages whose refusal speaks about the profile or the relay, not about one letter."""

_FIELDS = {
    HoldReason.CIRCUIT: "spec.circuitBreaker",
    HoldReason.RATE: "spec.limits.rate",
    HoldReason.RECIPIENT_RATE: "spec.limits.perRecipientRate",
}

LOGIN_WANTED = frozenset({530, 534, 535, 538})
"""RFC 4954 §6: the relay wants a login or TLS first. That is the profile's to mend, no letter's fault."""

CLOSING = 421
THROTTLED = 454
FULL = 452
STATE_OF_THE_RELAY = re.compile(r"4\.3\.[12]\b")


def classify_reply(result: Result) -> Outcome:
    """Say what the fact means for the letter."""
    match result:
        case Reply():
            return _classify_answer(result)
        case Lost(end_of_data_sent=True):
            return InDoubt(
                Problem(
                    Code.CONNECTION_LOST_AT_END_OF_DATA,
                    "smtp.dot",
                    f"the letter was handed over and no answer came ({result.reason}); "
                    "one copy may have arrived",
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


def _classify_answer(reply: Reply) -> Outcome:
    place = f"smtp.{reply.stage}"
    if reply.stage is Stage.END_OF_DATA and 200 <= reply.code < 300:
        return Accepted(reply)
    said = f"the relay answered {reply.code} {reply.text}".rstrip()
    if reply.stage in BEFORE_THE_LETTER or reply.code in LOGIN_WANTED:
        lost = Lost(reply.stage, end_of_data_sent=False, reason=said)
        return RelayUnreachable(Problem(Code.RELAY_UNREACHABLE, place, said), lost)
    if is_temporary(reply):
        return Deferred(Problem(Code.RELAY_DEFERRED, place, said), reply, is_of_relay(reply))
    return RelayRefused(Problem(Code.RELAY_REFUSED, place, said), reply)


def is_temporary(reply: Reply) -> bool:
    """Whether the same letter may pass later. Anything but a clear 5yz is worth another try."""
    if reply.code == 552 and reply.stage is Stage.RCPT:
        return True
    return not 500 <= reply.code < 600


def is_of_relay(reply: Reply) -> bool:
    """Whether a temporary answer says something of the relay and nothing of the letter."""
    match reply:
        case Reply(code=code) if code == CLOSING:
            return True
        case Reply(code=code, stage=Stage.DATA | Stage.END_OF_DATA) if code == THROTTLED:
            return True
        case Reply(code=code, stage=Stage.MAIL) if code == FULL:
            return True
        case _:
            return STATE_OF_THE_RELAY.match(reply.text) is not None
