"""Which letter is this, and is it the same letter? Hashes that hold for ever.

The identity of a letter is (profile, source, id, recipient). From it follow a key for the ledger's
index and the Message-ID, the same on every attempt; from an event's content follows a digest that
tells a repeated event from another one under the same id. All of them are stored, so none of the
encodings below may change.
"""

import json
from dataclasses import dataclass
from hashlib import blake2b

from postroom.letter.event import Event

_canonical = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, check_circular=False, separators=(",", ":")
).encode


@dataclass(frozen=True, slots=True)
class Identity:
    """One letter: the profile's name, the event's source and id, the normalized recipient."""

    profile: str
    source: str
    id: str
    recipient: str

    def encode(self) -> bytes:
        """The four parts, each behind its length, so that no two identities share an encoding."""
        p, s, i, r = self.profile, self.source, self.id, self.recipient
        return f"{len(p)}:{p}{len(s)}:{s}{len(i)}:{i}{len(r)}:{r}".encode()

    def hash64(self) -> int:
        """A key that fits a signed 64-bit column: 0 ≤ key < 2⁶³. A match is a hint, never a proof."""
        return int.from_bytes(blake2b(self.encode(), digest_size=8).digest()) >> 1


PSEUDONYM_PREFIX = "erased:"
"""What begins the recipient of a letter whose person was erased; no address begins like it and has no @."""


def pseudonym(identity: Identity) -> str:
    """What stands for the recipient once the person is erased: the whole identity's digest."""
    return PSEUDONYM_PREFIX + blake2b(identity.encode(), digest_size=16, person=b"erased").hexdigest()


def is_pseudonym(recipient: str) -> bool:
    """Whether this stands for a person who was erased."""
    return recipient.startswith(PSEUDONYM_PREFIX) and "@" not in recipient


def message_id(identity: Identity, domain: str) -> str:
    """The Message-ID with its angle brackets, `<40 hex digits@domain>` (RFC 5322 §3.6.4)."""
    digest = blake2b(identity.encode(), digest_size=20, person=b"message-id")
    return f"<{digest.hexdigest()}@{domain}>"


def payload_digest(event: Event) -> bytes:
    """16 bytes over what the recipient would read: type, data, language, reply address, files, revision.

    The order of keys does not matter, nor does where and when the event was published. Times are left
    out too: a publisher that tries again writes `now` again.
    """
    files = [
        (file.filename, file.content_type, blake2b(file.content, digest_size=16).hexdigest())
        + ((file.content_id,) if file.content_id else ())
        for file in event.attachments
    ]
    content = (event.type, event.data, event.recipient, event.locale, event.reply_to, files, event.revision)
    return blake2b(_canonical(content).encode(), digest_size=16).digest()
