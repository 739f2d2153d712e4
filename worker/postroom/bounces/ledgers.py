"""Open the ledgers of the bounce intake and the keys of the return paths: settings → ReportTarget by address.

On one machine: every ledger of a folder. In a cluster: the ledger of each connections Secret that a profile
names. Ledgers and keys may arrive later or change; they are checked every second.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from postroom.adapters.ledger.reports import SqlReportStore
from postroom.bounces.server import BounceStats, ReportPending, ReportTarget, ReportWriter
from postroom.connections import ConnectionsSecret, read_ledger
from postroom.letter.dsn import ReportEntry
from postroom.letter.problems import Problem, Rejected
from postroom.letter.profile import SmtpProfile
from postroom.letter.profile_format import ParsedProfile
from postroom.letter.verp import ReturnPathKeys
from postroom.policy.bounces import interpret_report
from postroom.policy.notifications import notification_rule
from postroom.ports.bounces import BounceConfig, ReportEffect
from postroom.ports.world import Clock, LedgerUnavailable
from postroom.secret_files import read_readable
from postroom.worker.profile_config import read_profile_file, wanted_transitions
from postroom.worker.relays import name_of
from postroom.worker.secrets import CONNECTIONS_SECRET, POLL_SECONDS, key_text, read_keyring
from postroom.worker.settings import BounceSettings

log = structlog.get_logger("postroom.bounces")


def read_profiles(folder: Path) -> list[ParsedProfile]:
    """Read the profiles of a folder that have spec.bounces; raises Rejected for an invalid manifest."""
    paths = sorted([*folder.glob("*.yaml"), *folder.glob("*/profile.yaml")])
    found = [read_profile_file(path, "POSTROOM_BOUNCES_PROFILES") for path in paths]
    return [parsed for parsed in found if parsed.profile.spec.bounces]


def bounce_config(profile: SmtpProfile) -> BounceConfig:
    """Build the report policy and the notification rules of a profile."""
    suppresses = profile.spec.suppression.hard_bounces == "Suppress"

    def report_policy(entry: ReportEntry, recipient: str) -> ReportEffect:
        return interpret_report(entry, recipient, suppresses)

    wanted = wanted_transitions(profile.spec)
    return BounceConfig(report_policy, [notification_rule(wanted)] if wanted else [])


@dataclass(frozen=True, slots=True)
class LedgerSource:
    """How to open a ledger, and the profiles that have letters in it."""

    name: str
    configs: dict[str, BounceConfig]
    open: Callable[[], SqlReportStore]
    """Opens the ledger; on an error it is called again later."""
    state: Callable[[], object]
    """Returns what the address depends on; if that changes, the ledger is opened again."""


class BounceLedger:
    """Keeps one ledger open while the program runs."""

    def __init__(self, source: LedgerSource) -> None:
        self.source = source
        self.writer: ReportWriter | None = None
        self._error = f"{source.name}: not opened yet"

    @property
    def last_error(self) -> str:
        """Why reports cannot be stored; empty if they can."""
        if self.writer and not self.writer.health.ok:
            return f"{self.source.name}: {self.writer.health.reason}"
        return self._error

    async def run(self, clock: Clock, stats: BounceStats) -> None:
        """Open the ledger and serve; open it again when its address changes."""
        while True:
            state, store = await self._open()
            self.writer = ReportWriter(store, self.source.configs, clock, stats)
            serving = asyncio.gather(*self.writer.parts())
            try:
                while not serving.done() and await asyncio.to_thread(self.source.state) == state:
                    await asyncio.wait([serving], timeout=POLL_SECONDS)
                if serving.done():
                    serving.result()
            finally:
                self.writer, self._error = None, f"{self.source.name}: not opened again yet"
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                await asyncio.to_thread(store.close)
            log.warning("connections Secret has changed; opening the ledger again", ledger=self.source.name)

    async def _open(self) -> tuple[object, SqlReportStore]:
        """Open the ledger with retries; returns the state that it depends on, and the store."""
        while True:
            state = await asyncio.to_thread(self.source.state)
            try:
                store = await asyncio.to_thread(self.source.open)
            except (Rejected, LedgerUnavailable) as error:
                self._log_waiting(f"{self.source.name}: {error}")
                await asyncio.sleep(POLL_SECONDS)
            else:
                log.info("ledger open", ledger=self.source.name)
                self._error = ""
                return state, store

    def _log_waiting(self, error: str) -> None:
        if error != self._error:
            log.warning("waiting", what=error)
        self._error = error


class BounceLedgers:
    """The ledgers and keys of all profiles."""

    def __init__(self, parsed: Sequence[ParsedProfile], settings: BounceSettings) -> None:
        self._profiles, self._settings = [entry.profile for entry in parsed], settings
        self.unknown_fields = [field for entry in parsed for field in entry.unknown_fields]
        """Fields of the manifests that this release does not define."""
        self._keys: dict[str, ReturnPathKeys | Problem] = {}
        self._texts: dict[str, str] = {}
        self.ledgers = [BounceLedger(source) for source in _sources(self._profiles, settings)]
        self.reload()

    def parts(self, clock: Clock, stats: BounceStats) -> Iterator[Coroutine[Any, Any, None]]:
        """The tasks of the program."""
        yield self._watch()
        yield from (ledger.run(clock, stats) for ledger in self.ledgers)

    @property
    def problems(self) -> list[str]:
        """Why some reports cannot be stored."""
        found = [ledger.last_error for ledger in self.ledgers if ledger.last_error]
        broken = [keys for keys in self._keys.values() if isinstance(keys, Problem)]
        return found + [f"{problem.field}: {problem.message}" for problem in broken]

    @property
    def complaint_address(self) -> dict[str, str]:
        """The address for complaints, by profile."""
        valid = ((name, keys) for name, keys in self._keys.items() if isinstance(keys, ReturnPathKeys))
        return {name: keys.complaint_address(name) for name, keys in valid}

    def reload(self) -> None:
        """Read the keys of each changed Secret again."""
        for profile in self._profiles:
            name, text = name_of(profile), key_text(profile, self._settings.secrets)
            if self._texts.get(name) != text:
                self._texts[name], self._keys[name] = text, read_keyring(profile, text)

    def find(self, address: str) -> ReportTarget | None:
        """Find the letter of a return path; this is the ResolveAddress of the server."""
        tag, missing, names = b"", False, set()
        for profile in self._profiles:
            keys = self._keys[name_of(profile)]
            if isinstance(keys, Problem):
                missing = missing or _is_at(profile, address)
            elif (found := keys.read_tag(address)) is not None:
                tag = found
                names.add(name_of(profile))
            elif keys.is_complaint_address(address, name_of(profile)):
                return ReportTarget(b"", ())
        if tag:
            return ReportTarget(tag, self._writers_of(names))
        if missing:
            raise ReportPending("The key of these return paths is not available yet; try again")
        return None

    def _writers_of(self, profiles: Collection[str]) -> Sequence[ReportWriter]:
        """The writers of the ledgers with letters of these profiles; several only if profiles share a key."""
        ledgers = [ledger for ledger in self.ledgers if ledger.source.configs.keys() & set(profiles)]
        found = [ledger.writer for ledger in ledgers if ledger.writer]
        if len(found) < len(ledgers):
            raise ReportPending("The ledger is not available yet; try again")
        return found

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await asyncio.to_thread(self.reload)


def _is_at(profile: SmtpProfile, address: str) -> bool:
    assert profile.spec.bounces is not None
    return address.lower().rpartition("@")[2] == profile.spec.bounces.domain


def _sources(profiles: Sequence[SmtpProfile], settings: BounceSettings) -> Iterator[LedgerSource]:
    if settings.bounces_ledgers is None:
        yield from _sources_of_secrets(profiles, settings)
        return
    configs = {name_of(profile): bounce_config(profile) for profile in profiles}
    for path in sorted(settings.bounces_ledgers.glob("*.sqlite")):
        yield LedgerSource(path.name, configs, partial(SqlReportStore.open_file, path), lambda: None)


def _sources_of_secrets(profiles: Sequence[SmtpProfile], settings: BounceSettings) -> Iterator[LedgerSource]:
    by_secret: dict[str, list[SmtpProfile]] = {}
    for profile in profiles:
        ref = profile.spec.connections_secret_ref
        by_secret.setdefault(ref.name if ref else CONNECTIONS_SECRET, []).append(profile)
    for name, some in by_secret.items():
        own = some[0].metadata.namespace
        secret = _SecretSource(settings.secrets / name, f"Secret {own}/{name}", settings.namespace or own)
        yield LedgerSource(
            secret.name,
            {name_of(profile): bounce_config(profile) for profile in some},
            secret.open,
            secret.texts,
        )


@dataclass(frozen=True, slots=True)
class _SecretSource:
    """A connections Secret; only its ledger keys are read."""

    folder: Path
    name: str
    namespace: str

    def texts(self) -> dict[str, str]:
        """Return the texts by key; an unreadable Secret counts as missing."""
        return read_readable(self.folder)

    def open(self) -> SqlReportStore:
        """Open the store; raises Rejected or LedgerUnavailable."""
        where = read_ledger(ConnectionsSecret(self.texts(), self.folder, self.name), self.namespace)
        return SqlReportStore.open_server(where.url, where.schema)
