"""The mounted Secrets of a worker: folders → connections and keys, and a problem for each bad key.

`SecretWatcher` reads all of them once a second. A changed connections Secret ends the worker, which restarts
with the new one. A deleted or invalid one does not, because the open connections still work. A changed relay
Secret does not end the worker: each new connection reads it, and the circuit of the relay is probed at once.

`DkimSigner`: letter → signed letter. `ReturnPathBuilder`: identity → envelope sender. `read_secret`: callback
→ its keys. A replaced key is used from the next `reload` on.

Failure: in mode SMTP a letter without a key waits, because receivers would treat it as forged, or its reports
could not be assigned. In the modes Sandbox and Log it is sent unsigned, or with its From address as the
envelope sender. The condition reports the missing key in all modes. An unreadable Secret counts as missing.
"""

import asyncio
import binascii
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from postroom.connections import KEYS, Connections, ConnectionsSecret, read_connections
from postroom.letter.dkim import SigningKey, read_private_key, sign_letter
from postroom.letter.identity import Identity
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.profile import CallbackSpec, DkimSpec, SmtpProfile, SmtpProfileSpec, dkim_covers
from postroom.letter.verp import NEW_KEY_COMMAND, ReturnPathKeys, read_return_path_keys
from postroom.secret_files import read_folder, read_readable
from postroom.worker.status import Condition, refused_condition

if TYPE_CHECKING:
    from postroom.worker.config import WorkerConfig


class ReturnPathBuilder:
    """Implements `delivery.context.ReturnPathProvider`."""

    def __init__(self, profile: SmtpProfile, secrets: Path, strict: bool) -> None:
        """`strict`: no letter is sent without a return path."""
        self._profile, self._secrets, self._strict = profile, secrets, strict
        self._text = ""
        self._keys: ReturnPathKeys | Problem = read_keyring(profile, self._text)
        self.reload()

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

    def reload(self) -> None:
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
    return read_readable(secrets / ref.name).get(ref.key, "")


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
        self.reload()

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

    def reload(self) -> None:
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
        cache = self._of_domain  # `reload` replaces it on another thread when a key changes
        if domain not in cache:
            pairs = zip(self._specs, self._loaded, strict=True)
            cache[domain] = tuple(found for entry, found in pairs if dkim_covers(entry, domain))
        return cache[domain]

    def _read(self) -> Iterator[tuple[str, str]]:
        for name in {entry.secret_ref.name for entry in self._specs}:
            for key, text in read_readable(self._secrets / name).items():
                yield f"{name}/{key}", text

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


POLL_SECONDS = 1.0
SPREAD_SECONDS = 30.0
"""Workers that see the same change end at random times within this period."""
CONNECTIONS_SECRET = "postroom-connections"

log = structlog.get_logger("postroom.worker")


KEY_PREFIX = "whsec_"
MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64
REMEDY = 'make one with: echo "whsec_$(openssl rand -base64 32)"'


@dataclass(frozen=True, slots=True)
class CallbackSecret:
    """The folder of mounted Secrets and the namespace of the profile."""

    folder: Path
    namespace: str


def read_secret(where: CallbackSecret, callback: CallbackSpec) -> tuple[tuple[bytes, ...], str] | Problem:
    """Return the keys and the CA certificates, or the problem of a missing or invalid Secret."""
    ref = callback.secret_ref
    words = _secret_text(where, ref.name, ref.key).split()
    if not words:
        description = f"is not in Secret {where.namespace}/{ref.name}. Callbacks are signed with it; {REMEDY}"
        return Problem(Code.SECRET_KEY_MISSING, ref.key, description)
    keys = [_decode_key(word) for word in words]
    if any(key is None for key in keys):
        description = f"is not {KEY_PREFIX} and {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes in base64; {REMEDY}"
        return Problem(Code.SECRET_INVALID, ref.key, f"of Secret {where.namespace}/{ref.name} {description}")
    authority = ""
    if callback.ca_ref:
        authority = _secret_text(where, callback.ca_ref.name, "ca.crt")
        if not authority.strip():
            description = f"is not in Secret {where.namespace}/{callback.ca_ref.name}. Add it, in PEM"
            return Problem(Code.SECRET_KEY_MISSING, "ca.crt", description)
    return tuple(key for key in keys if key), authority


def _secret_text(where: CallbackSecret, name: str, key: str) -> str:
    return read_readable(where.folder / name).get(key, "")


def _decode_key(word: str) -> bytes | None:
    try:
        key = b64decode(word.removeprefix(KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if word.startswith(KEY_PREFIX) and MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES else None


class SecretWatcher:
    """All Secrets of one worker; `reload` blocks while small files are read."""

    def __init__(self, config: "WorkerConfig") -> None:
        self._config = config
        self._namespace = config.profile.metadata.namespace
        self.connections: Connections | None = None
        """The current connections; None if the Secret is missing, invalid or not used."""
        self.texts: Mapping[str, str] = {}
        """The keys that were read into `connections`."""
        self.connection_problems: tuple[Problem, ...] = ()
        self.relay_problems: tuple[Problem, ...] = ()
        self.later_problems: tuple[Problem, ...] = ()
        """Problems of the relay's Secrets while delivery is not allowed; they block nothing."""
        self.fallback_problems: tuple[Problem, ...] = ()
        self.relay_texts: Mapping[str, Mapping[str, str]] = {}
        """By Secret name: the texts that the relays of the profile and its fallback use."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All missing and invalid keys that the worker needs."""
        return self.connection_problems + self.relay_problems

    def reload(self) -> None:
        """Read all Secrets again."""
        if self._config.signing:
            self._config.signing.reload()
        if self._config.returns:
            self._config.returns.reload()
        for callback in self._config.callbacks:
            callback.reload()
        self._look_at_relays()
        folder = self._config.settings.connections
        if folder is None:
            return
        mounted = ConnectionsSecret(_read_texts(folder), folder, f"Secret {self._namespace}/{self._secret()}")
        self.connections, self.connection_problems = None, ()
        try:
            self.connections = read_connections(mounted, self._config.settings.namespace or self._namespace)
            self.texts = {key: mounted.text(key) for key in KEYS}
        except Rejected as rejected:
            self.connection_problems = rejected.problems

    async def watch(self, relay_changed: Callable[[], None]) -> None:
        """Watch until the connections change, then wait a random time and return."""
        used, known = self.texts, self.relay_texts
        while self.texts == used:
            await asyncio.sleep(POLL_SECONDS)
            await asyncio.to_thread(self.reload)
            if self.relay_texts != known:
                known = self.relay_texts
                log.info("a Secret of the relay has changed", secrets=sorted(known))
                relay_changed()
        wait = self._config.clock.random() * SPREAD_SECONDS
        log.warning(
            "connections Secret has changed; the worker drains and restarts with the new one",
            changed=sorted(key for key in KEYS if self.texts.get(key) != used.get(key)),
            seconds=round(wait, 1),
        )
        await asyncio.sleep(wait)

    def _look_at_relays(self) -> None:
        texts: dict[str, Mapping[str, str]] = {}
        if self._config.relay_selection.mode == "SMTP":
            self.relay_problems = tuple(self._missing(self._config.profile.spec, texts))
        elif self._config.relay_selection.guarded:
            self.later_problems = tuple(self._missing(self._config.profile.spec, {}))
        if self._config.relay_selection.fallback_profile:
            self.fallback_problems = tuple(
                self._missing(self._config.relay_selection.fallback_profile.spec, texts)
            )
        self.relay_texts = texts

    def _secret(self) -> str:
        ref = self._config.profile.spec.connections_secret_ref
        return ref.name if ref else CONNECTIONS_SECRET

    def _missing(self, spec: SmtpProfileSpec, texts: dict[str, Mapping[str, str]]) -> Iterator[Problem]:
        """Yield the missing keys of a relay's Secrets; add the existing texts to `texts`."""
        wanted: dict[str, list[str]] = {}
        for name, key in named_keys(spec):
            wanted.setdefault(name, []).append(key)
        for name, keys in wanted.items():
            texts[name] = present = _read_texts(self._config.settings.secrets / name)
            secret = f"Secret {self._namespace}/{name}"
            if not present:
                description = f"is not there, or is empty. Create it with the keys {', '.join(keys)}"
                yield Problem(Code.SECRET_MISSING, secret, description)
                continue
            for key in keys:
                if not present.get(key, "").strip():
                    description = f"is not in {secret}. The relay of the profile asks for it; add the key"
                    yield Problem(Code.SECRET_KEY_MISSING, key, description)


def named_keys(spec: SmtpProfileSpec) -> Iterator[tuple[str, str]]:
    """Yield (Secret, key) for everything that a profile's relay needs."""
    if spec.smtp is None:
        return
    tls, auth = spec.smtp.tls, spec.smtp.auth
    if tls.ca_ref:
        yield tls.ca_ref.name, "ca.crt"
    if tls.client_cert_secret_ref:
        yield tls.client_cert_secret_ref.name, "tls.crt"
        yield tls.client_cert_secret_ref.name, "tls.key"
    if auth:
        yield auth.secret_ref.name, auth.secret_ref.username_key
        yield auth.secret_ref.name, auth.secret_ref.password_key


def _read_texts(folder: Path) -> dict[str, str]:
    """Read a folder; an unreadable Secret counts as missing and is read again later."""
    try:
        return read_folder(folder)
    except OSError as error:
        log.warning("a mounted Secret cannot be read", folder=str(folder), reason=str(error))
        return {}
