"""The keys of return paths, looked at in their mounted Secret: a letter's identity in, its envelope sender
out.

In mode SMTP a letter without a key waits: what becomes of it could never be told. Where letters stay in the
house (Sandbox, Log) it goes with its From address as the sender, and the condition says so.

The DKIM keys of a profile, looked at in their mounted Secrets: a letter in, the signed letter out.

A key that is replaced signs from the next look on. In mode SMTP a letter without a key waits, for a receiver
would take it for forged; where letters stay in the house (Sandbox, Log) it goes unsigned, and the condition
says so.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from postroom.letter.dkim import SigningKey, read_private_key, sign_letter
from postroom.letter.identity import Identity
from postroom.letter.problems import Code, Problem
from postroom.letter.profile import DkimSpec, SmtpProfile, dkim_covers
from postroom.letter.verp import NEW_KEY_COMMAND, ReturnPathKeys, read_return_path_keys
from postroom.secret_files import read_folder
from postroom.worker.conditions import Condition, refused_condition


class ReturnPathBuilder:
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
        found = refused_condition([self._ring])
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


class DkimSigner:
    """Implements delivery.post.Signer."""

    def __init__(self, profile: SmtpProfile, secrets: Path, strict: bool) -> None:
        """`strict`: no letter goes unsigned."""
        self._wanted = profile.spec.dkim
        self._namespace = profile.metadata.namespace
        self._secrets, self._strict = secrets, strict
        self._found: tuple[SigningKey | Problem, ...] = ()
        self._of_domain: dict[str, tuple[SigningKey | Problem, ...]] = {}
        self._texts: dict[str, str] | None = None
        self.look()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is missing or wrong."""
        return tuple(one for one in self._found if isinstance(one, Problem))

    @property
    def condition(self) -> Condition:
        """How it is, for /statusz."""
        if self.problems:
            found = refused_condition(self.problems)
            if self._strict:
                return found
            return Condition(None, found.reason, f"letters stay here and go unsigned: {found.message}")
        seals = [one for one in self._found if isinstance(one, SigningKey)]
        weak = [f"{one.selector} of {one.domain} {one.key.weakness}" for one in seals if one.key.weakness]
        if weak:
            return Condition(True, "KeyIsShort", "; ".join(weak))
        return Condition(True, "Signing")

    def look(self) -> None:
        """Read the keys anew where a Secret has changed; blocks for as long as small files take."""
        texts = dict(self._read())
        if texts != self._texts:
            self._texts = texts
            self._found = tuple(self._seal(one, texts) for one in self._wanted)
            self._of_domain = {}

    def sign(self, content: bytes, sender: str, now: datetime) -> bytes | Problem:
        """See the protocol."""
        seals: list[SigningKey] = []
        for one in self._for(sender.rpartition("@")[2].lower()):
            if isinstance(one, SigningKey):
                seals.append(one)
            elif self._strict:
                return one
        return sign_letter(content, seals, int(now.timestamp())) if seals else content

    def _for(self, domain: str) -> tuple[SigningKey | Problem, ...]:
        """What signs letters of a domain, or would if it were there."""
        cache = self._of_domain  # another takes its place when a key changes, maybe right now
        if domain not in cache:
            pairs = zip(self._wanted, self._found, strict=True)
            cache[domain] = tuple(found for one, found in pairs if dkim_covers(one, domain))
        return cache[domain]

    def _read(self) -> Iterator[tuple[str, str]]:
        for name in {one.secret_ref.name for one in self._wanted}:
            try:
                texts = read_folder(self._secrets / name)
            except OSError:
                continue  # what cannot be read is as good as not there
            yield from ((f"{name}/{key}", text) for key, text in texts.items())

    def _seal(self, one: DkimSpec, texts: dict[str, str]) -> SigningKey | Problem:
        ref = one.secret_ref
        secret, text = f"Secret {self._namespace}/{ref.name}", texts.get(f"{ref.name}/{ref.key}", "")
        if not text.strip():
            said = f"is not in {secret}. Letters of {one.domain} are signed with it; add it, in PEM"
            return Problem(Code.SECRET_KEY_MISSING, ref.key, said)
        try:
            return SigningKey(one.domain, one.selector, read_private_key(text.encode()))
        except ValueError as error:
            return Problem(Code.SECRET_INVALID, ref.key, f"of {secret} {error}")
