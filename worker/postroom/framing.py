"""Payloads over the pipes of a child process: each behind its length, four bytes, the highest first.

Both halves have processes of their own for work that may be hostile: the operator's proofs, a worker's
rehearsals.
"""

import struct
from typing import BinaryIO

LENGTH = struct.Struct(">I")


def encode_frame(payload: bytes) -> bytes:
    """A payload behind its length."""
    return LENGTH.pack(len(payload)) + payload


def write_frame(stream: BinaryIO, payload: bytes) -> None:
    """Write one and let it go."""
    stream.write(encode_frame(payload))
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next one; None when there is none to come."""
    head = stream.read(LENGTH.size)
    return stream.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else None
