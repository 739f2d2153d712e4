"""The identity of a letter, and the hashes that are derived from it.

The identity is (profile, source, id, recipient). The ledger's index key, the Message-ID and the pseudonym of
an erased recipient are functions of it, equal on every attempt. `payload_digest` tells a repeated event from
another event with the same id. All results are stored, so the encodings below must never change.
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
        """The four parts, each preceded by its length, so that no two identities share an encoding."""
        p, s, i, r = self.profile, self.source, self.id, self.recipient
        return f"{len(p)}:{p}{len(s)}:{s}{len(i)}:{i}{len(r)}:{r}".encode()

    def hash64(self) -> int:
        """A key for a signed 64-bit column: 0 ≤ key < 2⁶³. Two identities may share a key."""
        return int.from_bytes(blake2b(self.encode(), digest_size=8).digest()) >> 1


PSEUDONYM_PREFIX = "erased:"
"""The prefix of a pseudonym. An address has an @, a pseudonym has none."""


def pseudonym(identity: Identity) -> str:
    """The text that replaces the recipient of a letter after erasure: a digest of the whole identity."""
    return PSEUDONYM_PREFIX + blake2b(identity.encode(), digest_size=16, person=b"erased").hexdigest()


def is_pseudonym(recipient: str) -> bool:
    """Whether `recipient` is a pseudonym, so that the person was erased."""
    return recipient.startswith(PSEUDONYM_PREFIX) and "@" not in recipient


def message_id(identity: Identity, domain: str) -> str:
    """The Message-ID with its angle brackets, `<40 hex digits@domain>` (RFC 5322 §3.6.4)."""
    digest = blake2b(identity.encode(), digest_size=20, person=b"message-id")
    return f"<{digest.hexdigest()}@{domain}>"


def payload_digest(event: Event) -> bytes:
    """A digest of 16 bytes of what decides the letter: type, data, language, reply address, files, revision.

    The order of keys does not count, nor do the event's topic, partition, offset and times: a publisher that
    retries writes the current time again.
    """
    files = [
        (file.filename, file.content_type, blake2b(file.content, digest_size=16).hexdigest())
        + ((file.content_id,) if file.content_id else ())
        for file in event.attachments
    ]
    content = (event.type, event.data, event.recipient, event.locale, event.reply_to, files, event.revision)
    return blake2b(_canonical(content).encode(), digest_size=16).digest()
