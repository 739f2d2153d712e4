"""What a report about a letter means: (what it says, whose letter) → the state it proves, and who is
suppressed.

Source: RFC 3464 §2.3.3 (actions), RFC 3463 (status codes), RFC 5965 (complaints). A report is proof that
the relay had the letter, for nobody else knows its return path: whatever was in doubt is not any more.

| action or kind          | the letter is | the address is suppressed             |
|-------------------------|---------------|---------------------------------------|
| failed                  | bounced       | where there is no such mailbox        |
| delivered               | delivered     |                                       |
| relayed, expanded       | accepted      |                                       |
| delayed                 | accepted      |                                       |
| complaint               | accepted      | always                                |
| ignored, unparsed       | as it was     |                                       |
"""

from typing import assert_never

from postroom.letter.dsn import ReportEntry, ReportKind
from postroom.ports.bounces import ReportEffect
from postroom.ports.ledger import State, SuppressionReason

NO_MAILBOX = frozenset({"5.1.1", "5.1.3", "5.1.6", "5.1.10"})
"""RFC 3463 §3.2: no such mailbox, an address that is none, moved without a new address; RFC 7505: the
domain takes no mail. 5.1.2 (no such domain) is not among them: broken DNS says it too. Nor is 5.2.1
(disabled): it may be lifted, nor any 4.y.z that a relay gave up on, nor 5.7.z, which speaks of the sender."""


def interpret_report(said: ReportEntry, recipient: str, suppresses_bounces: bool) -> ReportEffect:
    """What one statement means for the letter to `recipient`."""
    match said.kind:
        case ReportKind.FAILED:
            hard = suppresses_bounces and said.status in NO_MAILBOX and _is_about(said, recipient)
            return ReportEffect(State.BOUNCED, SuppressionReason.HARD_BOUNCE if hard else None)
        case ReportKind.DELIVERED:
            return ReportEffect(State.DELIVERED)
        case ReportKind.RELAYED | ReportKind.EXPANDED | ReportKind.DELAYED:
            return ReportEffect(State.ACCEPTED)
        case ReportKind.COMPLAINT:
            return ReportEffect(State.ACCEPTED, SuppressionReason.COMPLAINT)
        case ReportKind.IGNORED | ReportKind.UNPARSED:
            return ReportEffect()
        case _:
            assert_never(said.kind)


def _is_about(said: ReportEntry, recipient: str) -> bool:
    """Whether the address that failed is the letter's own, and not one that it was forwarded to."""
    return not said.recipients or recipient.lower() in said.recipients
