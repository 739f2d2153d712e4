"""Decide on suppression: (reasons, category) → Problem or None; and which replies are hard bounces.

A hard bounce, a complaint and a manual entry suppress every letter. An unsubscription suppresses all letters
except transactional ones such as a password reset or a receipt.
"""

import re
from collections.abc import Collection

from postroom.letter.problems import Code, Problem
from postroom.ports.ledger import SuppressionReason
from postroom.ports.relay import Reply, Stage

REASON_TEXTS = {
    SuppressionReason.HARD_BOUNCE: "its mailbox does not exist (hard_bounce)",
    SuppressionReason.COMPLAINT: "its owner complained (complaint)",
    SuppressionReason.MANUAL: "an operator added it (manual)",
    SuppressionReason.UNSUBSCRIBE: "its owner unsubscribed (unsubscribe)",
}
"""In the order of precedence."""


NO_MAILBOX = re.compile(r"5\.1\.(1|6|10)\b")
"""RFC 3463 §3.2: no such mailbox, moved without a new address; RFC 7505: the domain accepts no mail."""


def is_hard_bounce(reply: Reply) -> bool:
    """Whether the reply means that the address permanently does not exist."""
    concerns_letter = reply.stage in (Stage.RCPT, Stage.DATA, Stage.END_OF_DATA)
    return concerns_letter and 550 <= reply.code < 560 and NO_MAILBOX.match(reply.text) is not None


def suppression_problem(reasons: Collection[SuppressionReason], category: str) -> Problem | None:
    """Return the problem of a letter that one of these reasons suppresses; None if it may be sent."""
    for reason, text in REASON_TEXTS.items():
        if reason in reasons and (reason is not SuppressionReason.UNSUBSCRIBE or category != "Transactional"):
            way_out = "`postroom suppressions remove` removes it"
            return Problem(
                Code.SUPPRESSED, "recipient", f"the address is on the suppression list: {text}; {way_out}"
            )
    return None
