"""The commands of one transaction, and what stands against sending it to this relay.

Envelope, content and capabilities in → the bytes of MAIL and RCPT, or a `Reply` in the relay's place: a
letter that needs what EHLO does not offer is not sent, and the reply names the extension. The codes are
those which a relay would use:

| what is missing                          | reply                  | source   |
|------------------------------------------|------------------------|----------|
| the letter is larger than SIZE announces | 552 5.3.4 after MAIL   | RFC 1870 |
| SMTPUTF8 for a non-ASCII address         | 553 5.6.7 after MAIL   | RFC 6531 |
| 8BITMIME for content that is not ASCII   | 554 5.6.3 after MAIL   | RFC 6152 |
| an address that would break the command  | 501 5.1.7 / 5.1.3      | RFC 5321 |
"""

import re

from postroom.adapters.smtp.capabilities import Capabilities
from postroom.ports.relay import Envelope, Reply, Stage

_BREAKING = re.compile(r"[\x00-\x20\x7f-\x9f<>\u2028\u2029\ud800-\udfff]")


def find_objection(envelope: Envelope, content: bytes, relay: Capabilities) -> Reply | None:
    """Why this letter can't be offered to this relay; None when it can."""
    if _BREAKING.search(envelope.sender):
        return Reply(Stage.MAIL, 501, "5.1.7 the sender's address is not fit for an SMTP command; not sent")
    if not envelope.recipient or _BREAKING.search(envelope.recipient):
        return Reply(
            Stage.RCPT, 501, "5.1.3 the recipient's address is not fit for an SMTP command; not sent"
        )
    if relay.size_limit is not None and len(content) > relay.size_limit:
        sizes = f"the letter has {len(content)} octets, the relay announces SIZE {relay.size_limit}"
        return Reply(Stage.MAIL, 552, f"5.3.4 {sizes}; not sent")
    if not relay.smtputf8 and _needs_smtputf8(envelope):
        return Reply(
            Stage.MAIL, 553, "5.6.7 the address needs SMTPUTF8, which the relay does not offer; not sent"
        )
    if not relay.eightbit and not content.isascii():
        text = "5.6.3 the content needs 8BITMIME, which the relay does not offer; not sent"
        return Reply(Stage.MAIL, 554, text)
    return None


def write_commands(envelope: Envelope, content: bytes, relay: Capabilities) -> tuple[bytes, bytes]:
    """MAIL and RCPT for a letter without objection, each with its CRLF."""
    mail = f"MAIL FROM:<{envelope.sender}>"
    if relay.size:
        mail += f" SIZE={len(content)}"
    if relay.eightbit and not content.isascii():
        mail += " BODY=8BITMIME"
    if relay.smtputf8 and _needs_smtputf8(envelope):
        mail += " SMTPUTF8"
    return f"{mail}\r\n".encode(), f"RCPT TO:<{envelope.recipient}>\r\n".encode()


def _needs_smtputf8(envelope: Envelope) -> bool:
    return envelope.smtputf8 or not (envelope.sender.isascii() and envelope.recipient.isascii())
