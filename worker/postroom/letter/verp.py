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

from postroom.letter.identity import PSEUDONYM_PREFIX, Identity, pseudonym

MIN_KEY_CHARACTERS = 32
"""Of a key: what `openssl rand -base64 32` writes has 44."""
MAX_KEYS = 8
NEW_KEY_COMMAND = "make one with: openssl rand -base64 32"

_HASH_BYTES, _CHECK_BYTES, _SIGNATURE_BYTES = 8, 5, 10
_LOCAL = re.compile(r"b\+([a-z2-7]{21})\.([a-z2-7]{16})")
LOCAL_PART_CHARACTERS = 40
_CONTEXT, _COMPLAINT_CONTEXT = b"postroom return path v1\0", b"complaints\0"


@dataclass(frozen=True, slots=True)
class ReturnPathKeys:
    """The keys of a domain's return paths: the first signs, all are honoured."""

    domain: str
    keys: Sequence[bytes]

    def return_path(self, identity: Identity) -> str:
        """The envelope sender of this letter."""
        tag = letter_tag(identity)
        return f"b+{_text(tag)}.{_text(_signature(tag, self.keys[0]))}@{self.domain}"

    def complaint_address(self, profile: str) -> str:
        """Where mail providers may send complaints about any letter of this profile (`namespace/name`)."""
        tag = _tag_of_profile(profile)
        return f"c+{_text(tag)}.{_text(_signature(_COMPLAINT_CONTEXT + tag, self.keys[0]))}@{self.domain}"

    def is_complaint_address(self, address: str, profile: str) -> bool:
        """Whether this is that address, by any of the keys."""
        rings = (ReturnPathKeys(self.domain, [key]) for key in self.keys)
        return address.lower().rstrip(".") in {ring.complaint_address(profile) for ring in rings}

    def read_tag(self, address: str) -> bytes | None:
        """The tag in a return path of ours; None for every other address."""
        local, _, domain = address.lower().rpartition("@")
        found = _LOCAL.fullmatch(local)
        if found is None or domain.rstrip(".") != self.domain:
            return None
        tag, signature = _bytes(found[1]), _bytes(found[2])
        holds = [hmac.compare_digest(signature, _signature(tag, key)) for key in self.keys]
        return tag if any(holds) else None


def letter_tag(identity: Identity) -> bytes:
    """What stands for the letter in its return path."""
    return identity.hash64().to_bytes(_HASH_BYTES) + _check(pseudonym(identity))


def hash_of_tag(tag: bytes) -> int:
    """The ledger's key of the letter: a hint, as Identity.hash64 is."""
    return int.from_bytes(tag[:_HASH_BYTES])


def tag_matches(tag: bytes, found: Identity) -> bool:
    """Whether the letter that was found is the tag's, also where its person was erased since."""
    hidden = found.recipient if found.recipient.startswith(PSEUDONYM_PREFIX) else pseudonym(found)
    return _check(hidden) == tag[_HASH_BYTES:]


def read_return_path_keys(text: str) -> tuple[bytes, ...]:
    """The keys in a Secret's text, with white space between; raises ValueError with the rule."""
    words = text.split()
    if len(words) > MAX_KEYS:
        raise ValueError(f"holds {len(words)} keys; at most {MAX_KEYS} are honoured side by side")
    for number, word in enumerate(words, 1):
        if len(word) < MIN_KEY_CHARACTERS:
            rule = f"of less than {MIN_KEY_CHARACTERS} characters"
            raise ValueError(f"has a key, number {number}, {rule}; {NEW_KEY_COMMAND}")
    return tuple(word.encode() for word in words)


def find_return_paths(text: str) -> Iterator[str]:
    """What looks like a return path in running text."""
    yield from _PATH_IN_TEXT.findall(text)


_PATH_IN_TEXT = re.compile(r"\bb\+[a-z2-7]{21}\.[a-z2-7]{16}@[a-z0-9.-]{1,253}", re.IGNORECASE)


def _tag_of_profile(profile: str) -> bytes:
    return blake2b(profile.encode(), digest_size=_HASH_BYTES + _CHECK_BYTES, person=b"complaints").digest()


def _check(hidden: str) -> bytes:
    return bytes.fromhex(hidden.removeprefix(PSEUDONYM_PREFIX)[: 2 * _CHECK_BYTES])


def _signature(tag: bytes, key: bytes) -> bytes:
    return hmac.digest(key, _CONTEXT + tag, "sha256")[:_SIGNATURE_BYTES]


def _text(content: bytes) -> str:
    return b32encode(content).decode().rstrip("=").lower()


def _bytes(text: str) -> bytes:
    return b32decode(text.upper() + "=" * (-len(text) % 8))
