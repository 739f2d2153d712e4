"""Keys that letters are signed with: PEM in, something that signs out.

RSA (RFC 6376 §3.3.1) and Ed25519 (RFC 8463). Failure: ValueError with the rule and the way out; it never
shows anything of the key.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

LEAST_BITS, MOST_BITS = 1024, 4096
"""What every verifier has to take (RFC 8301 §3.2)."""
GOOD_BITS = 2048
WAYS = "openssl genrsa 2048, or openssl genpkey -algorithm ed25519"


@dataclass(frozen=True, slots=True)
class Key:
    """A private key that signs."""

    algorithm: str
    """`rsa-sha256` or `ed25519-sha256`, as the tag `a=` has it."""
    sign: Callable[[bytes], bytes] = field(repr=False)
    weakness: str = ""
    """Why it should be replaced, though it works."""


def read_key(pem: bytes) -> Key:
    """The key in a PEM text; raises ValueError."""
    key = _load(pem, sure=False)
    if isinstance(key, Ed25519PrivateKey):
        return Key("ed25519-sha256", lambda data: key.sign(sha256(data).digest()))
    if isinstance(key, RSAPrivateKey):
        return _rsa(pem, key.key_size)
    raise ValueError(f"is neither an RSA nor an Ed25519 key; make one with {WAYS}")


def _load(pem: bytes, *, sure: bool) -> object:
    """The key; `sure`: with its numbers checked, which takes seconds where they are long."""
    try:
        return load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=not sure)
    except TypeError:
        raise ValueError("is encrypted with a passphrase; write it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"is no private key in PEM; make one with {WAYS}") from None


def _rsa(pem: bytes, bits: int) -> Key:
    if not LEAST_BITS <= bits <= MOST_BITS:
        rule = f"of {LEAST_BITS} to {MOST_BITS} bits, and is one of {bits}"
        raise ValueError(f"has to be an RSA key {rule}; make one with openssl genrsa {GOOD_BITS}")
    key = _load(pem, sure=True)
    assert isinstance(key, RSAPrivateKey)
    weak = f"has {bits} bits; {GOOD_BITS} are the recommended minimum" if bits < GOOD_BITS else ""
    padding, digest = PKCS1v15(), SHA256()
    return Key("rsa-sha256", lambda data: key.sign(data, padding, digest), weak)
