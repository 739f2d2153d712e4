"""Return paths: every letter's own envelope sender, so that what comes back is known by its address (VERP).

`b+<tag>.<signature>@<domain>`, 40 characters before the @, the same in any case of its letters, and the
same on every attempt. The tag is the letter's identity in 13 bytes: the key that the ledger looks it up by,
and a check against another identity of the same key. The signature is an HMAC-SHA-256 over the tag, cut to
80 bits: nobody but the profile makes an address that is taken, and nobody can make one letter's into
another's.
"""

import hmac
import re
from base64 import b32decode, b32encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated

from pydantic import AfterValidator, Field

from postroom.letter.address import ADDRESS_OCTETS, DomainText
from postroom.letter.identity import VEIL, Identity, veil
from postroom.letter.reading.spec import ObjectName, SecretKey, Spec

LEAST_CHARACTERS = 32
"""Of a key: what `openssl rand -base64 32` writes has 44."""
MOST_KEYS = 8
WAY_OUT = "make one with: openssl rand -base64 32"

_HASH_BYTES, _CHECK_BYTES, _SIGNATURE_BYTES = 8, 5, 10
_LOCAL = re.compile(r"b\+([a-z2-7]{21})\.([a-z2-7]{16})")
_LOCAL_CHARACTERS = 40
_CONTEXT, _COMPLAINTS = b"postroom return path v1\0", b"complaints\0"


def _leaves_room(domain: str) -> str:
    most = ADDRESS_OCTETS - _LOCAL_CHARACTERS - 1
    if len(domain) > most:
        raise ValueError(f"is {len(domain)} characters long; the addresses below it leave room for {most}")
    return domain


class ReturnKeyRef(Spec):
    """A Secret in the same namespace and the key that holds what return paths are signed with."""

    name: ObjectName
    key: SecretKey = "bounces.key"


class Bounces(Spec):
    """Where reports about letters come back to."""

    domain: Annotated[DomainText, Field(max_length=200), AfterValidator(_leaves_room)]
    secret_ref: ReturnKeyRef


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of a domain's return paths: the first signs, all are honoured."""

    domain: str
    keys: Sequence[bytes]

    def path_of(self, identity: Identity) -> str:
        """The envelope sender of this letter."""
        tag = tag_of(identity)
        return f"b+{_text(tag)}.{_text(_signature(tag, self.keys[0]))}@{self.domain}"

    def complaints_at(self, profile: str) -> str:
        """Where mail providers may send complaints about any letter of this profile (`namespace/name`)."""
        tag = _tag_of_profile(profile)
        return f"c+{_text(tag)}.{_text(_signature(_COMPLAINTS + tag, self.keys[0]))}@{self.domain}"

    def takes_complaints(self, address: str, profile: str) -> bool:
        """Whether this is that address, by any of the keys."""
        rings = (Keyring(self.domain, [key]) for key in self.keys)
        return address.lower().rstrip(".") in {ring.complaints_at(profile) for ring in rings}

    def read(self, address: str) -> bytes | None:
        """The tag in a return path of ours; None for every other address."""
        local, _, domain = address.lower().rpartition("@")
        found = _LOCAL.fullmatch(local)
        if found is None or domain.rstrip(".") != self.domain:
            return None
        tag, signature = _bytes(found[1]), _bytes(found[2])
        holds = [hmac.compare_digest(signature, _signature(tag, key)) for key in self.keys]
        return tag if any(holds) else None


def tag_of(identity: Identity) -> bytes:
    """What stands for the letter in its return path."""
    return identity.hash64().to_bytes(_HASH_BYTES) + _check(veil(identity))


def hash_in(tag: bytes) -> int:
    """The ledger's key of the letter: a hint, as Identity.hash64 is."""
    return int.from_bytes(tag[:_HASH_BYTES])


def is_of(tag: bytes, found: Identity) -> bool:
    """Whether the letter that was found is the tag's, also where its person was erased since."""
    hidden = found.recipient if found.recipient.startswith(VEIL) else veil(found)
    return _check(hidden) == tag[_HASH_BYTES:]


def read_keys(text: str) -> tuple[bytes, ...]:
    """The keys in a Secret's text, with white space between; raises ValueError with the rule."""
    words = text.split()
    if len(words) > MOST_KEYS:
        raise ValueError(f"holds {len(words)} keys; at most {MOST_KEYS} are honoured side by side")
    for number, word in enumerate(words, 1):
        if len(word) < LEAST_CHARACTERS:
            rule = f"of less than {LEAST_CHARACTERS} characters"
            raise ValueError(f"has a key, number {number}, {rule}; {WAY_OUT}")
    return tuple(word.encode() for word in words)


def paths_in(text: str) -> Iterator[str]:
    """What looks like a return path in running text."""
    yield from _IN_TEXT.findall(text)


_IN_TEXT = re.compile(r"\bb\+[a-z2-7]{21}\.[a-z2-7]{16}@[a-z0-9.-]{1,253}", re.IGNORECASE)


def _tag_of_profile(profile: str) -> bytes:
    return blake2b(profile.encode(), digest_size=_HASH_BYTES + _CHECK_BYTES, person=b"complaints").digest()


def _check(hidden: str) -> bytes:
    return bytes.fromhex(hidden.removeprefix(VEIL)[: 2 * _CHECK_BYTES])


def _signature(tag: bytes, key: bytes) -> bytes:
    return hmac.digest(key, _CONTEXT + tag, "sha256")[:_SIGNATURE_BYTES]


def _text(content: bytes) -> str:
    return b32encode(content).decode().rstrip("=").lower()


def _bytes(text: str) -> bytes:
    return b32decode(text.upper() + "=" * (-len(text) % 8))
