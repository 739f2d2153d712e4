"""The keys of return paths, looked at in their mounted Secret: a letter's identity in, its envelope sender
out.

In mode SMTP a letter without a key waits: what becomes of it could never be told. Where letters stay in the
house (Sandbox, Log) it goes with its From address as the sender, and the condition says so.
"""

from pathlib import Path

from postroom.delivery.programs.conditions import Condition, refused
from postroom.letter.identity import Identity
from postroom.letter.problems import Code, Problem
from postroom.letter.profile import SmtpProfile
from postroom.letter.verp import NEW_KEY_COMMAND, ReturnPathKeys, read_return_path_keys
from postroom.mounted import read_folder


class ReturnPaths:
    """Implements delivery.post.Returns."""

    def __init__(self, profile: SmtpProfile, secrets: Path, strict: bool) -> None:
        """`strict`: no letter goes without a return path."""
        self._profile, self._secrets, self._strict = profile, secrets, strict
        self._text = ""
        self._ring: ReturnPathKeys | Problem = read_keyring(profile, self._text)
        self.look()

    @property
    def condition(self) -> Condition:
        """How it is, for /statusz."""
        if isinstance(self._ring, ReturnPathKeys):
            return Condition(True, "Addressed")
        found = refused([self._ring])
        if self._strict:
            return found
        said = f"letters stay here and have no return path of their own: {found.message}"
        return Condition(None, found.reason, said)

    def look(self) -> None:
        """Read the keys anew where the Secret has changed; blocks for as long as a small file takes."""
        text = key_text(self._profile, self._secrets)
        if text != self._text:
            self._text, self._ring = text, read_keyring(self._profile, text)

    def return_path(self, identity: Identity) -> str | Problem | None:
        """See the protocol."""
        ring = self._ring
        if isinstance(ring, ReturnPathKeys):
            return ring.return_path(identity)
        return ring if self._strict else None


def key_text(profile: SmtpProfile, secrets: Path) -> str:
    """What the Secret of the profile's return paths holds; empty where it cannot be read."""
    assert profile.spec.bounces is not None
    ref = profile.spec.bounces.secret_ref
    try:
        return read_folder(secrets / ref.name).get(ref.key, "")
    except OSError:
        return ""  # what cannot be read is as good as not there


def read_keyring(profile: SmtpProfile, text: str) -> ReturnPathKeys | Problem:
    """The keys in this text, or what is missing or wrong."""
    assert profile.spec.bounces is not None
    ref, domain = profile.spec.bounces.secret_ref, profile.spec.bounces.domain
    secret = f"Secret {profile.metadata.namespace}/{ref.name}"
    try:
        keys = read_return_path_keys(text)
    except ValueError as error:
        return Problem(Code.SECRET_INVALID, ref.key, f"of {secret} {error}")
    if not keys:
        said = f"is not in {secret}. Return paths at {domain} are signed with it; {NEW_KEY_COMMAND}"
        return Problem(Code.SECRET_KEY_MISSING, ref.key, said)
    return ReturnPathKeys(domain, keys)
