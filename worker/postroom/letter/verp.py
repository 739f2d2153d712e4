"""Return paths (VERP): a signed envelope sender for each letter, which identifies the letter in a report.

`b+<tag>.<signature>@<domain>`, with 40 characters before the @. It is the same on every attempt, and its case
does not matter. The tag holds 13 bytes: the ledger's key of the letter, and a check that tells apart two
identities with the same key. The signature is an HMAC-SHA-256 over the tag, cut to 80 bits, so that only the
profile's keys make a valid address and one letter's address cannot be changed into another's. An address that
was not made with one of the keys gives None.
"""

import hmac
import re
from base64 import b32decode, b32encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from postroom.letter.identity import PSEUDONYM_PREFIX, Identity, pseudonym

MIN_KEY_CHARACTERS = 32
"""`openssl rand -base64 32` writes 44."""
MAX_KEYS = 8
NEW_KEY_COMMAND = "make one with: openssl rand -base64 32"
LOCAL_PART_CHARACTERS = 40

_HASH_BYTES = 8
_CHECK_BYTES = 5
_SIGNATURE_BYTES = 10
_LOCAL_PART = re.compile(r"b\+([a-z2-7]{21})\.([a-z2-7]{16})")
_PATH_IN_TEXT = re.compile(r"\bb\+[a-z2-7]{21}\.[a-z2-7]{16}@[a-z0-9.-]{1,253}", re.IGNORECASE)
_CONTEXT = b"postroom return path v1\0"
_COMPLAINT_CONTEXT = b"complaints\0"


@dataclass(frozen=True, slots=True)
class ReturnPathKeys:
    """The keys of a domain's return paths: the first signs, all are accepted."""

    domain: str
    keys: Sequence[bytes]

    def return_path(self, identity: Identity) -> str:
        """The envelope sender of the letter."""
        tag = letter_tag(identity)
        return f"b+{_encode(tag)}.{_encode(_signature(tag, self.keys[0]))}@{self.domain}"

    def complaint_address(self, profile: str) -> str:
        """The address for mail providers' complaints about letters of the profile (`namespace/name`)."""
        return self._complaint_address(profile, self.keys[0])

    def is_complaint_address(self, address: str, profile: str) -> bool:
        """Whether `address` is the profile's complaint address, made with any of the keys."""
        valid = {self._complaint_address(profile, key) for key in self.keys}
        return address.lower().rstrip(".") in valid

    def _complaint_address(self, profile: str, key: bytes) -> str:
        tag = _profile_tag(profile)
        return f"c+{_encode(tag)}.{_encode(_signature(_COMPLAINT_CONTEXT + tag, key))}@{self.domain}"

    def read_tag(self, address: str) -> bytes | None:
        """The tag of a return path that one of the keys signed; None for every other address."""
        local, _, domain = address.lower().rpartition("@")
        found = _LOCAL_PART.fullmatch(local)
        if found is None or domain.rstrip(".") != self.domain:
            return None
        tag, signature = _decode(found[1]), _decode(found[2])
        matches = [hmac.compare_digest(signature, _signature(tag, key)) for key in self.keys]
        return tag if any(matches) else None


def letter_tag(identity: Identity) -> bytes:
    """The tag that identifies the letter in its return path."""
    return identity.hash64().to_bytes(_HASH_BYTES) + _check(pseudonym(identity))


def hash_of_tag(tag: bytes) -> int:
    """The ledger's key of the letter, as `Identity.hash64` gives it. Two letters may share a key."""
    return int.from_bytes(tag[:_HASH_BYTES])


def tag_matches(tag: bytes, found: Identity) -> bool:
    """Whether the tag is of this letter, also when its recipient was erased since."""
    erased = found.recipient.startswith(PSEUDONYM_PREFIX)
    return _check(found.recipient if erased else pseudonym(found)) == tag[_HASH_BYTES:]


def read_return_path_keys(text: str) -> tuple[bytes, ...]:
    """Parse the keys in a Secret's text, separated by white space. Raises ValueError with the rule."""
    words = text.split()
    if len(words) > MAX_KEYS:
        raise ValueError(f"holds {len(words)} keys; at most {MAX_KEYS} are accepted")
    for number, word in enumerate(words, 1):
        if len(word) < MIN_KEY_CHARACTERS:
            rule = f"of less than {MIN_KEY_CHARACTERS} characters"
            raise ValueError(f"has a key, number {number}, {rule}; {NEW_KEY_COMMAND}")
    return tuple(word.encode() for word in words)


def find_return_paths(text: str) -> Iterator[str]:
    """Every text that has the form of a return path; the signature is not checked."""
    yield from _PATH_IN_TEXT.findall(text)


def _profile_tag(profile: str) -> bytes:
    return blake2b(profile.encode(), digest_size=_HASH_BYTES + _CHECK_BYTES, person=b"complaints").digest()


def _check(erased_recipient: str) -> bytes:
    return bytes.fromhex(erased_recipient.removeprefix(PSEUDONYM_PREFIX)[: 2 * _CHECK_BYTES])


def _signature(tag: bytes, key: bytes) -> bytes:
    return hmac.digest(key, _CONTEXT + tag, "sha256")[:_SIGNATURE_BYTES]


def _encode(content: bytes) -> str:
    return b32encode(content).decode().rstrip("=").lower()


def _decode(text: str) -> bytes:
    return b32decode(text.upper() + "=" * (-len(text) % 8))
