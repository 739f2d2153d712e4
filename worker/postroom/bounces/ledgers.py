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
from postroom.worker.secrets import CONNECTIONS_SECRET, LOOK_SECONDS, key_text, read_keyring
from postroom.worker.settings import BounceSettings

log = structlog.get_logger("postroom.bounces")


def read_profiles(folder: Path) -> list[ParsedProfile]:
    """The profiles of a folder that ask for bounces; raises Rejected where a manifest cannot be read."""
    paths = sorted([*folder.glob("*.yaml"), *folder.glob("*/profile.yaml")])
    found = [read_profile_file(path, "POSTROOM_BOUNCES_PROFILES") for path in paths]
    return [one for one in found if one.profile.spec.bounces]


def bounce_config(profile: SmtpProfile) -> BounceConfig:
    """How a profile's reports are taken."""
    suppresses = profile.spec.suppression.hard_bounces == "Suppress"

    def report_policy(entry: ReportEntry, recipient: str) -> ReportEffect:
        return interpret_report(entry, recipient, suppresses)

    wanted = wanted_transitions(profile.spec)
    return BounceConfig(report_policy, [notification_rule(wanted)] if wanted else [])


@dataclass(frozen=True, slots=True)
class LedgerSource:
    """Where a ledger is, and whose letters are in it."""

    name: str
    houses: dict[str, BounceConfig]
    open: Callable[[], SqlReportStore]
    """May raise, and is asked again."""
    state: Callable[[], object]
    """What it depends on: when that changes, it is opened anew."""


class BounceLedger:
    """One ledger, as long as the program runs."""

    def __init__(self, source: LedgerSource) -> None:
        self.source = source
        self.intake: ReportWriter | None = None
        self._waits = f"{source.name}: not opened yet"

    @property
    def last_error(self) -> str:
        """Why reports cannot be stored; empty if they can."""
        if self.intake and not self.intake.health.ok:
            return f"{self.source.name}: {self.intake.health.reason}"
        return self._waits

    async def run(self, clock: Clock, stats: BounceStats) -> None:
        """Open it and serve; open it anew when it is somewhere else."""
        while True:
            state, returns = await self._open()
            self.intake = ReportWriter(returns, self.source.houses, clock, stats)
            serving = asyncio.gather(*self.intake.parts())
            try:
                while not serving.done() and await asyncio.to_thread(self.source.state) == state:
                    await asyncio.wait([serving], timeout=LOOK_SECONDS)
                if serving.done():
                    serving.result()
            finally:
                self.intake, self._waits = None, f"{self.source.name}: not opened anew yet"
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                await asyncio.to_thread(returns.close)
            log.warning(
                "the connections Secret has changed; its ledger is opened anew", ledger=self.source.name
            )

    async def _open(self) -> tuple[object, SqlReportStore]:
        """What it depends on, and the ledger."""
        while True:
            state = await asyncio.to_thread(self.source.state)
            try:
                returns = await asyncio.to_thread(self.source.open)
            except (Rejected, LedgerUnavailable) as error:
                self._say(f"{self.source.name}: {error}")
                await asyncio.sleep(LOOK_SECONDS)
            else:
                log.info("ledger open", ledger=self.source.name)
                self._waits = ""
                return state, returns

    def _say(self, trouble: str) -> None:
        if trouble != self._waits:
            log.warning("waiting", what=trouble)
        self._waits = trouble


class BounceLedgers:
    """The ledgers and keys of all profiles."""

    def __init__(self, handed: Sequence[ParsedProfile], settings: BounceSettings) -> None:
        self._profiles, self._settings = [one.profile for one in handed], settings
        self.left_out = [field for one in handed for field in one.unknown_fields]
        """The fields of their manifests that this release does not know."""
        self._rings: dict[str, ReturnPathKeys | Problem] = {}
        self._texts: dict[str, str] = {}
        self.ledgers = [BounceLedger(one) for one in _sources(self._profiles, settings)]
        self.look()

    def parts(self, clock: Clock, stats: BounceStats) -> Iterator[Coroutine[Any, Any, None]]:
        """What runs as long as the program does."""
        yield self._watch()
        yield from (ledger.run(clock, stats) for ledger in self.ledgers)

    @property
    def problems(self) -> list[str]:
        """Why not every report can be taken."""
        found = [ledger.last_error for ledger in self.ledgers if ledger.last_error]
        broken = [one for one in self._rings.values() if isinstance(one, Problem)]
        return found + [f"{one.field}: {one.message}" for one in broken]

    @property
    def complaint_address(self) -> dict[str, str]:
        """Where complaints about the letters of each profile may be sent."""
        rings = ((name, ring) for name, ring in self._rings.items() if isinstance(ring, ReturnPathKeys))
        return {name: ring.complaint_address(name) for name, ring in rings}

    def look(self) -> None:
        """Read the keys anew where a Secret has changed."""
        for profile in self._profiles:
            name, text = name_of(profile), key_text(profile, self._settings.secrets)
            if self._texts.get(name) != text:
                self._texts[name], self._rings[name] = text, read_keyring(profile, text)

    def find(self, address: str) -> ReportTarget | None:
        """Find the letter of a return path; this is the ResolveAddress of the server."""
        tag, missing, names = b"", False, set()
        for profile in self._profiles:
            ring = self._rings[name_of(profile)]
            if isinstance(ring, Problem):
                missing = missing or _is_at(profile, address)
            elif (found := ring.read_tag(address)) is not None:
                tag = found
                names.add(name_of(profile))
            elif ring.is_complaint_address(address, name_of(profile)):
                return ReportTarget(b"", ())
        if tag:
            return ReportTarget(tag, self._writers_of(names))
        if missing:
            raise ReportPending("The key of these return paths is not there yet; try again")
        return None

    def _writers_of(self, profiles: Collection[str]) -> Sequence[ReportWriter]:
        """The ledgers with letters of these profiles: of several only where they share a key."""
        ledgers = [one for one in self.ledgers if one.source.houses.keys() & set(profiles)]
        found = [one.intake for one in ledgers if one.intake]
        if len(found) < len(ledgers):
            raise ReportPending("The ledger is not there yet; try again")
        return found

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.look)


def _is_at(profile: SmtpProfile, address: str) -> bool:
    assert profile.spec.bounces is not None
    return address.lower().rpartition("@")[2] == profile.spec.bounces.domain


def _sources(profiles: Sequence[SmtpProfile], settings: BounceSettings) -> Iterator[LedgerSource]:
    if settings.bounces_ledgers is None:
        yield from _of_secrets(profiles, settings)
        return
    houses = {name_of(one): bounce_config(one) for one in profiles}
    for path in sorted(settings.bounces_ledgers.glob("*.sqlite")):
        yield LedgerSource(path.name, houses, partial(SqlReportStore.open_file, path), lambda: None)


def _of_secrets(profiles: Sequence[SmtpProfile], settings: BounceSettings) -> Iterator[LedgerSource]:
    by_secret: dict[str, list[SmtpProfile]] = {}
    for profile in profiles:
        ref = profile.spec.connections_secret_ref
        by_secret.setdefault(ref.name if ref else CONNECTIONS_SECRET, []).append(profile)
    for name, some in by_secret.items():
        own = some[0].metadata.namespace
        secret = _SecretSource(settings.secrets / name, f"Secret {own}/{name}", settings.namespace or own)
        yield LedgerSource(
            secret.name, {name_of(one): bounce_config(one) for one in some}, secret.open, secret.texts
        )


@dataclass(frozen=True, slots=True)
class _SecretSource:
    """A connections Secret, of which the ledger's half is read."""

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
