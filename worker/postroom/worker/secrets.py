"""Watch the mounted Secrets of a worker: folders → connections, and a problem for each bad key.

A changed connections Secret ends the worker, which restarts with the new one. A deleted or invalid one does
not, because the open connections still work. A changed relay Secret does not end the worker: each new
connection reads it, and the circuit of the relay is probed at once.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import structlog

from postroom.connections import KEYS, Connections, ConnectionsSecret, read_connections
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.profile import SmtpProfileSpec
from postroom.secret_files import read_folder
from postroom.worker.config import WorkerConfig

LOOK_SECONDS = 1.0
SPREAD_SECONDS = 30.0
"""Workers that see the same change end at random times within this period."""
CONNECTIONS_SECRET = "postroom-connections"

log = structlog.get_logger("postroom.worker")


class SecretWatcher:
    """All Secrets of one worker; `look` blocks while small files are read."""

    def __init__(self, config: WorkerConfig) -> None:
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

    def look(self) -> None:
        """Read all Secrets again."""
        if self._config.signing:
            self._config.signing.look()
        if self._config.returns:
            self._config.returns.look()
        for callback in self._config.callbacks:
            callback.look()
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
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.look)
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
        if self._config.exit.mode == "SMTP":
            self.relay_problems = tuple(self._missing(self._config.profile.spec, texts))
        elif self._config.exit.guarded:
            self.later_problems = tuple(self._missing(self._config.profile.spec, {}))
        if self._config.exit.fallback_profile:
            self.fallback_problems = tuple(self._missing(self._config.exit.fallback_profile.spec, texts))
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
