"""The Secrets of a callback, as they are mounted: keys to sign with, certificates to trust.

`webhook.secret` holds `whsec_` and 24 to 64 bytes in base64, as Standard Webhooks has it; several of them,
with white space between, sign side by side while receivers change from one to the next.
"""

import binascii
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path

from postroom.letter.problems import Code, Problem
from postroom.letter.profile import CallbackSpec
from postroom.mounted import read_folder

PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64
WAY_OUT = 'make one with: echo "whsec_$(openssl rand -base64 32)"'


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a profile's Secrets are."""

    folder: Path
    namespace: str


def read_secret(where: Secret, callback: CallbackSpec) -> tuple[tuple[bytes, ...], str] | Problem:
    """The keys, and the authority's certificates; or what is missing or wrong."""
    ref = callback.secret_ref
    words = _text(where, ref.name, ref.key).split()
    if not words:
        said = f"is not in Secret {where.namespace}/{ref.name}. Callbacks are signed with it; {WAY_OUT}"
        return Problem(Code.SECRET_KEY_MISSING, ref.key, said)
    keys = [_key(word) for word in words]
    if any(key is None for key in keys):
        rule = f"is not {PREFIX} and {LEAST_BYTES} to {MOST_BYTES} bytes in base64; {WAY_OUT}"
        return Problem(Code.SECRET_INVALID, ref.key, f"of Secret {where.namespace}/{ref.name} {rule}")
    authority = ""
    if callback.ca_ref:
        authority = _text(where, callback.ca_ref.name, "ca.crt")
        if not authority.strip():
            said = f"is not in Secret {where.namespace}/{callback.ca_ref.name}. Add it, in PEM"
            return Problem(Code.SECRET_KEY_MISSING, "ca.crt", said)
    return tuple(key for key in keys if key), authority


def _text(where: Secret, name: str, key: str) -> str:
    try:
        return read_folder(where.folder / name).get(key, "")
    except OSError:
        return ""  # what cannot be read is as good as not there


def _key(word: str) -> bytes | None:
    try:
        key = b64decode(word.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if word.startswith(PREFIX) and LEAST_BYTES <= len(key) <= MOST_BYTES else None
