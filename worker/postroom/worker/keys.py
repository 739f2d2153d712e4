"""The keys of a profile in its mounted Secrets: DKIM signatures and return paths.

`DkimSigner`: letter → signed letter. `ReturnPathBuilder`: identity → envelope sender. A replaced key is used
from the next `look` on.

Failure: in mode SMTP a letter without a key waits, because receivers would treat it as forged, or its reports
could not be assigned. In the modes Sandbox and Log it is sent unsigned, or with its From address as the
envelope sender. The condition reports the missing key in all modes.
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
    """Implements `delivery.context.ReturnPathProvider`."""

    def __init__(self, profile: SmtpProfile, secrets: Path, strict: bool) -> None:
        """`strict`: no letter is sent without a return path."""
        self._profile, self._secrets, self._strict = profile, secrets, strict
        self._text = ""
        self._keys: ReturnPathKeys | Problem = read_keyring(profile, self._text)
        self.look()

    @property
    def condition(self) -> Condition:
        """The condition for /statusz."""
        if isinstance(self._keys, ReturnPathKeys):
            return Condition(True, "Addressed")
        found = refused_condition([self._keys])
        if self._strict:
            return found
        description = f"letters are not delivered and have no return path: {found.message}"
        return Condition(None, found.reason, description)

    def look(self) -> None:
        """Read the keys again if the Secret has changed; blocks while a small file is read."""
        text = key_text(self._profile, self._secrets)
        if text != self._text:
            self._text, self._keys = text, read_keyring(self._profile, text)

    def return_path(self, identity: Identity) -> str | Problem | None:
        keys = self._keys
        if isinstance(keys, ReturnPathKeys):
            return keys.return_path(identity)
        return keys if self._strict else None


def key_text(profile: SmtpProfile, secrets: Path) -> str:
    """Return the key text of the profile's return paths; empty if it cannot be read."""
    assert profile.spec.bounces is not None
    ref = profile.spec.bounces.secret_ref
    try:
        return read_folder(secrets / ref.name).get(ref.key, "")
    except OSError:
        return ""  # an unreadable Secret counts as missing


def read_keyring(profile: SmtpProfile, text: str) -> ReturnPathKeys | Problem:
    """Parse the keys, or return the problem of a missing or invalid key."""
    assert profile.spec.bounces is not None
    ref, domain = profile.spec.bounces.secret_ref, profile.spec.bounces.domain
    secret = f"Secret {profile.metadata.namespace}/{ref.name}"
    try:
        keys = read_return_path_keys(text)
    except ValueError as error:
        return Problem(Code.SECRET_INVALID, ref.key, f"of {secret} {error}")
    if not keys:
        description = f"is not in {secret}. Return paths at {domain} are signed with it; {NEW_KEY_COMMAND}"
        return Problem(Code.SECRET_KEY_MISSING, ref.key, description)
    return ReturnPathKeys(domain, keys)


class DkimSigner:
    """Implements `delivery.context.Signer`."""

    def __init__(self, profile: SmtpProfile, secrets: Path, strict: bool) -> None:
        """`strict`: no letter is sent unsigned."""
        self._specs = profile.spec.dkim
        self._namespace = profile.metadata.namespace
        self._secrets, self._strict = secrets, strict
        self._loaded: tuple[SigningKey | Problem, ...] = ()
        self._of_domain: dict[str, tuple[SigningKey | Problem, ...]] = {}
        self._texts: dict[str, str] | None = None
        self.look()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The missing and invalid keys."""
        return tuple(entry for entry in self._loaded if isinstance(entry, Problem))

    @property
    def condition(self) -> Condition:
        """The condition for /statusz."""
        if self.problems:
            found = refused_condition(self.problems)
            if self._strict:
                return found
            return Condition(
                None, found.reason, f"letters are not delivered and are unsigned: {found.message}"
            )
        signing_keys = [entry for entry in self._loaded if isinstance(entry, SigningKey)]
        weak = [
            f"{entry.selector} of {entry.domain} {entry.key.weakness}"
            for entry in signing_keys
            if entry.key.weakness
        ]
        if weak:
            return Condition(True, "KeyIsShort", "; ".join(weak))
        return Condition(True, "Signing")

    def look(self) -> None:
        """Read the keys again if a Secret has changed; blocks while small files are read."""
        texts = dict(self._read())
        if texts != self._texts:
            self._texts = texts
            self._loaded = tuple(self._load_key(entry, texts) for entry in self._specs)
            self._of_domain = {}

    def sign(self, content: bytes, sender: str, now: datetime) -> bytes | Problem:
        signing_keys: list[SigningKey] = []
        for entry in self._for(sender.rpartition("@")[2].lower()):
            if isinstance(entry, SigningKey):
                signing_keys.append(entry)
            elif self._strict:
                return entry
        return sign_letter(content, signing_keys, int(now.timestamp())) if signing_keys else content

    def _for(self, domain: str) -> tuple[SigningKey | Problem, ...]:
        """Return the keys for a domain, and the problems of missing ones."""
        cache = self._of_domain  # `look` replaces it on another thread when a key changes
        if domain not in cache:
            pairs = zip(self._specs, self._loaded, strict=True)
            cache[domain] = tuple(found for entry, found in pairs if dkim_covers(entry, domain))
        return cache[domain]

    def _read(self) -> Iterator[tuple[str, str]]:
        for name in {entry.secret_ref.name for entry in self._specs}:
            try:
                texts = read_folder(self._secrets / name)
            except OSError:
                continue  # an unreadable Secret counts as missing
            yield from ((f"{name}/{key}", text) for key, text in texts.items())

    def _load_key(self, entry: DkimSpec, texts: dict[str, str]) -> SigningKey | Problem:
        ref = entry.secret_ref
        secret, text = f"Secret {self._namespace}/{ref.name}", texts.get(f"{ref.name}/{ref.key}", "")
        if not text.strip():
            description = f"is not in {secret}. Letters of {entry.domain} are signed with it; add it, in PEM"
            return Problem(Code.SECRET_KEY_MISSING, ref.key, description)
        try:
            return SigningKey(entry.domain, entry.selector, read_private_key(text.encode()))
        except ValueError as error:
            return Problem(Code.SECRET_INVALID, ref.key, f"of {secret} {error}")
