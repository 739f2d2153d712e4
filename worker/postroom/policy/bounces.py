"""Interpret a bounce report: (report entry, recipient) → the state it proves and the suppression it causes.

Source: RFC 3464 §2.3.3 (actions), RFC 3463 (status codes), RFC 5965 (complaints). A report proves that the
relay accepted the letter, because only the relay received its return path. It therefore ends any doubt.

| action or kind          | state proven  | the address is suppressed             |
|-------------------------|---------------|---------------------------------------|
| failed                  | bounced       | if the mailbox does not exist         |
| delivered               | delivered     | no                                    |
| relayed, expanded       | accepted      | no                                    |
| delayed                 | accepted      | no                                    |
| complaint               | accepted      | always                                |
| ignored, unparsed       | none          | no                                    |
"""

from typing import assert_never

from postroom.letter.dsn import ReportEntry, ReportKind
from postroom.ports.bounces import ReportEffect
from postroom.ports.ledger import State, SuppressionReason

NO_MAILBOX = frozenset({"5.1.1", "5.1.3", "5.1.6", "5.1.10"})
"""RFC 3463 §3.2: no such mailbox, bad address syntax, moved without a new address; RFC 7505: the domain
accepts no mail. Not included: 5.1.2 (no such domain), which broken DNS also causes; 5.2.1 (disabled), which
may be temporary; 4.y.z after the relay stopped retrying; 5.7.z, which concerns the sender."""


def interpret_report(entry: ReportEntry, recipient: str, suppresses_bounces: bool) -> ReportEffect:
    """Return the effect of one report entry on the letter to `recipient`."""
    match entry.kind:
        case ReportKind.FAILED:
            hard = suppresses_bounces and entry.status in NO_MAILBOX and _is_about(entry, recipient)
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
            assert_never(entry.kind)


def _is_about(entry: ReportEntry, recipient: str) -> bool:
    """Whether the failed address is the letter's recipient, and not an address that it was forwarded to."""
    return not entry.recipients or recipient.lower() in entry.recipients
