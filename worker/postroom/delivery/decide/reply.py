"""What a relay's answer means: Result → Outcome.

Source: RFC 5321 §4.2.1 (4yz is transient, 5yz permanent), §4.5.3.1.10 (552 after RCPT means too many
recipients and is temporary), §3.8 and §4.3.2 (421 may come at any time, 554 in place of the greeting).
"""

from typing import assert_never

from postroom.delivery.outcome import Accepted, Deferred, HandedBack, InDoubt, Outcome, Refused, Unreachable
from postroom.letter.problems import Code, Problem
from postroom.ports.relay import Lost, Reply, Result, Stage, Withheld

BEFORE_THE_LETTER = frozenset({Stage.CONNECT, Stage.EHLO, Stage.TLS, Stage.AUTH})
"""Stages whose refusal speaks about the profile or the relay, not about one letter."""


LOGIN_WANTED = frozenset({530, 534, 535, 538})
"""RFC 4954 §6: the relay wants a login or TLS first. That is the profile's to mend, no letter's fault."""


def judge(result: Result) -> Outcome:
    """Say what the fact means for the letter."""
    match result:
        case Reply():
            return _answer(result)
        case Lost(dot_sent=True):
            return InDoubt(
                Problem(
                    Code.CONNECTION_LOST_AFTER_DOT,
                    "smtp.dot",
                    f"the letter was handed over and no answer came ({result.reason}); "
                    "one copy may have arrived",
                )
            )
        case Lost():
            problem = Problem(Code.RELAY_UNREACHABLE, f"smtp.{result.stage}", result.reason)
            return Unreachable(problem, result)
        case Withheld():
            return HandedBack()
        case _:
            assert_never(result)


def _answer(reply: Reply) -> Outcome:
    place = f"smtp.{reply.stage}"
    if reply.stage is Stage.DOT and 200 <= reply.code < 300:
        return Accepted(reply)
    said = f"the relay answered {reply.code} {reply.text}".rstrip()
    if reply.stage in BEFORE_THE_LETTER or reply.code in LOGIN_WANTED:
        lost = Lost(reply.stage, dot_sent=False, reason=said)
        return Unreachable(Problem(Code.RELAY_UNREACHABLE, place, said), lost)
    if is_temporary(reply):
        return Deferred(Problem(Code.RELAY_DEFERRED, place, said), reply)
    return Refused(Problem(Code.RELAY_REFUSED, place, said), reply)


def is_temporary(reply: Reply) -> bool:
    """Whether the same letter may pass later. Anything but a clear 5yz is worth another try."""
    if reply.code == 552 and reply.stage is Stage.RCPT:
        return True
    return not 500 <= reply.code < 600
