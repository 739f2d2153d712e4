"""DKIM signatures (RFC 6376): private keys, and the DKIM-Signature fields of a letter.

`read_private_key`: PEM in, a key out; RSA (RFC 6376 §3.3.1) or Ed25519 (RFC 8463). An unusable key raises
ValueError with the rule and the way out; the message shows nothing of the key.

`sign_letter`: the letter's bytes in, the signed bytes out. Header and body are canonicalized as `relaxed`.
The signed fields are those that a reader sees and that programs act on, as RFC 6376 §5.4.1 recommends. Fields
that a forger would add a second time are named one time more than they occur (§8.15), so that adding one
breaks the signature.

The library dkimpy would do all of this at forty times the cost with RSA: it computes in Python what OpenSSL
computes here. The tests verify each signature with it.
"""

import re
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

MIN_RSA_BITS = 1024
MAX_RSA_BITS = 4096
"""Every verifier must accept keys within these bounds (RFC 8301 §3.2)."""
RECOMMENDED_RSA_BITS = 2048
KEY_COMMANDS = "openssl genrsa 2048, or openssl genpkey -algorithm ed25519"


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key that signs."""

    algorithm: str
    """`rsa-sha256` or `ed25519-sha256`, the value of the tag `a=`."""
    sign: Callable[[bytes], bytes] = field(repr=False)
    weakness: str = ""
    """Why the key should be replaced although it works; empty for a strong key."""


def read_private_key(pem: bytes) -> PrivateKey:
    """Parse a private key in PEM. Raises ValueError with the rule and the way out."""
    key = _load(pem, check=False)
    if isinstance(key, Ed25519PrivateKey):
        return PrivateKey("ed25519-sha256", lambda data: key.sign(sha256(data).digest()))
    if isinstance(key, RSAPrivateKey):
        return _rsa(pem, key.key_size)
    raise ValueError(f"is neither an RSA nor an Ed25519 key; make one with {KEY_COMMANDS}")


def _load(pem: bytes, *, check: bool) -> object:
    """Load a key. `check` validates its numbers, which takes seconds for a long key."""
    try:
        return load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=not check)
    except TypeError:
        raise ValueError("is encrypted with a passphrase; write it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"is not a private key in PEM; make one with {KEY_COMMANDS}") from None


def _rsa(pem: bytes, bits: int) -> PrivateKey:
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        rule = f"has {bits} bits; an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS}"
        raise ValueError(f"{rule}; make one with openssl genrsa {RECOMMENDED_RSA_BITS}")
    key = _load(pem, check=True)
    assert isinstance(key, RSAPrivateKey)
    weak = (
        f"has {bits} bits; {RECOMMENDED_RSA_BITS} are the recommended minimum"
        if bits < RECOMMENDED_RSA_BITS
        else ""
    )
    padding, digest = PKCS1v15(), SHA256()
    return PrivateKey("rsa-sha256", lambda data: key.sign(data, padding, digest), weak)


SIGNED_FIELDS = (
    *("from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id", "in-reply-to", "references"),
    *("mime-version", "content-type", "content-transfer-encoding", "auto-submitted"),
    *("list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post"),
)
"""Fields that are signed where they occur; List-Unsubscribe must be signed (RFC 8058 §4)."""
OVERSIGNED_FIELDS = (
    *("from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id"),
    *("mime-version", "content-type", "content-transfer-encoding"),
)
"""Fields of which a second one would change what a reader sees or how the letter is parsed."""
MAX_DKIM_LINE = 76

_SPACE = re.compile(rb"[ \t]{2,}|\t")
"""White space other than a single space. Matching single spaces too would take most of the time."""
_TRAILING = re.compile(rb"[ \t]+(?=\r\n)")
_FOLD = re.compile(rb"\r\n(?=[ \t])")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key with its domain and selector; the public key is published at `selector._domainkey.domain`."""

    domain: str
    selector: str
    key: PrivateKey


def sign_letter(content: bytes, signing_keys: Sequence[SigningKey], at: int) -> bytes:
    """Put one signature for each key before the letter; `at` is in seconds since 1970.

    `content` is dot-stuffed, as `compose_letter` makes it. The signature covers the letter without stuffing,
    because stuffing belongs to the transport (RFC 5321 §4.5.2).
    """
    plain = content.replace(b"\r\n..", b"\r\n.")
    head, _, body = plain.partition(b"\r\n\r\n")
    body_hash = _base64(sha256(relaxed_body(body)).digest())
    names, fields = _select_fields(head)
    signatures = [_signature(signing_key, names, fields, body_hash, at) for signing_key in signing_keys]
    return b"".join([*signatures, content])


def relaxed_body(body: bytes) -> bytes:
    """Canonicalize a body (RFC 6376 §3.4.4): one space for white space, none at the end of lines and body."""
    # most bodies need no change, and this test costs a tenth of the regular expressions
    if b" \r\n" in body or b"\t\r\n" in body:
        body = _TRAILING.sub(b"", body)
    if b"  " in body or b"\t" in body:
        body = _SPACE.sub(b" ", body)
    body = body.rstrip(b"\r\n") + b"\r\n"
    return b"" if body == b"\r\n" else body


def relaxed_field(name: bytes, value: bytes) -> bytes:
    """Canonicalize a header field (RFC 6376 §3.4.2), with its line end."""
    unfolded = _SPACE.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return name.lower().rstrip(b" \t") + b":" + unfolded + b"\r\n"


def _select_fields(head: bytes) -> tuple[str, bytes]:
    """The list for `h=`, and the fields to hash; of fields with the same name the last comes first."""
    found: dict[str, list[bytes]] = {}
    for line in _FOLD.sub(b"", head).split(b"\r\n"):
        name, _, value = line.partition(b":")
        found.setdefault(name.decode("latin-1").lower(), []).append(relaxed_field(name, value))
    names = [name for name in SIGNED_FIELDS for _ in found.get(name, ())]
    selected = b"".join(field for name in SIGNED_FIELDS for field in reversed(found.get(name, ())))
    return ":".join([*names, *OVERSIGNED_FIELDS]), selected


def _signature(signing_key: SigningKey, names: str, fields: bytes, body_hash: str, at: int) -> bytes:
    tags = (
        f"v=1; a={signing_key.key.algorithm}; c=relaxed/relaxed; d={signing_key.domain};",
        f"s={signing_key.selector}; t={at};",
        *_folded("h=", names.split(":"), ":", ";"),
        f"bh={body_hash};",
        "b=",
    )
    unsigned = "\r\n ".join(tags)
    hashed = fields + relaxed_field(b"dkim-signature", unsigned.encode())[:-2]
    signature = "\r\n ".join(_pieces(_base64(signing_key.key.sign(hashed))))
    return f"DKIM-Signature: {unsigned}{signature}\r\n".encode()


def _folded(opening: str, words: Iterable[str], between: str, closing: str) -> Iterator[str]:
    """Join words with `between` into lines of at most MAX_DKIM_LINE characters."""
    line = opening
    for word in words:
        if len(line) + len(word) + 1 > MAX_DKIM_LINE:
            yield line
            line = ""
        line += word + between
    yield line.removesuffix(between) + closing


def _pieces(text: str) -> list[str]:
    return [text[start : start + MAX_DKIM_LINE - 2] for start in range(0, len(text), MAX_DKIM_LINE - 2)]


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()
