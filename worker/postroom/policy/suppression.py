"""What the suppression list holds back: (reasons, category) → Problem; and what fills it.

A mailbox that does not exist, a complaint and a person's word stop everything. Whoever unsubscribed asked for
no more newsletters: what they asked for themselves (a password reset, a receipt) still comes.
"""

import re
from collections.abc import Collection

from postroom.letter.problems import Code, Problem
from postroom.ports.ledger import SuppressionReason
from postroom.ports.relay import Reply, Stage

REASON_TEXTS = {
    SuppressionReason.HARD_BOUNCE: "its mailbox does not exist (hard_bounce)",
    SuppressionReason.COMPLAINT: "its owner complained (complaint)",
    SuppressionReason.MANUAL: "somebody put it there (manual)",
    SuppressionReason.UNSUBSCRIBE: "its owner unsubscribed (unsubscribe)",
}
"""In the order of what is said first."""


NO_MAILBOX = re.compile(r"5\.1\.(1|6|10)\b")
"""RFC 3463 §3.2: no such mailbox, moved without a new address; RFC 7505: the domain takes no mail."""


def is_hard_bounce(reply: Reply) -> bool:
    """Whether the answer says that the address itself is no good, now and later."""
    of_the_letter = reply.stage in (Stage.RCPT, Stage.DATA, Stage.END_OF_DATA)
    return of_the_letter and 550 <= reply.code < 560 and NO_MAILBOX.match(reply.text) is not None


def suppression_problem(reasons: Collection[SuppressionReason], category: str) -> Problem | None:
    """The problem of a letter that may not be sent for one of these reasons."""
    for reason, said in REASON_TEXTS.items():
        if reason in reasons and (reason is not SuppressionReason.UNSUBSCRIBE or category != "Transactional"):
            way_out = "`postroom suppressions remove` takes it off"
            return Problem(
                Code.SUPPRESSED, "recipient", f"the address is on the suppression list: {said}; {way_out}"
            )
    return None
