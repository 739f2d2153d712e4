"""The Secrets of a callback, as they are mounted: keys to sign with, certificates to trust.

`webhook.secret` holds `whsec_` and 24 to 64 bytes in base64, as Standard Webhooks has it; several of them,
with white space between, sign side by side while receivers change from one to the next.

Callbacks: notices from the ledger's outbox to the URLs that a profile names.

Each callback has a loop of its own, so that one that is slow or away holds up no other, and letters wait for
none. A notice is cleared when its receiver has answered 2xx, or when it was tried for a day.
"""

import asyncio
import binascii
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from postroom.adapters.webhooks import WebhookClient, WebhookTarget
from postroom.letter.allowlist import Allowlist
from postroom.letter.manifest_fields import duration_seconds
from postroom.letter.problems import Code, Problem
from postroom.letter.profile import CallbackSpec
from postroom.policy.notifications import GONE, callback_pause, is_delivered, next_callback_in
from postroom.ports.notifications import CallbackClient, CallbackResponse, Notification, NotificationOutbox
from postroom.ports.world import Clock
from postroom.secret_files import read_folder

KEY_PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64
WAY_OUT = 'make one with: echo "whsec_$(openssl rand -base64 32)"'


@dataclass(frozen=True, slots=True)
class CallbackSecret:
    """Where a profile's Secrets are."""

    folder: Path
    namespace: str


def read_secret(where: CallbackSecret, callback: CallbackSpec) -> tuple[tuple[bytes, ...], str] | Problem:
    """The keys, and the authority's certificates; or what is missing or wrong."""
    ref = callback.secret_ref
    words = _secret_text(where, ref.name, ref.key).split()
    if not words:
        said = f"is not in Secret {where.namespace}/{ref.name}. Callbacks are signed with it; {WAY_OUT}"
        return Problem(Code.SECRET_KEY_MISSING, ref.key, said)
    keys = [_decode_key(word) for word in words]
    if any(key is None for key in keys):
        rule = f"is not {KEY_PREFIX} and {LEAST_BYTES} to {MOST_BYTES} bytes in base64; {WAY_OUT}"
        return Problem(Code.SECRET_INVALID, ref.key, f"of Secret {where.namespace}/{ref.name} {rule}")
    authority = ""
    if callback.ca_ref:
        authority = _secret_text(where, callback.ca_ref.name, "ca.crt")
        if not authority.strip():
            said = f"is not in Secret {where.namespace}/{callback.ca_ref.name}. Add it, in PEM"
            return Problem(Code.SECRET_KEY_MISSING, "ca.crt", said)
    return tuple(key for key in keys if key), authority


def _secret_text(where: CallbackSecret, name: str, key: str) -> str:
    try:
        return read_folder(where.folder / name).get(key, "")
    except OSError:
        return ""  # what cannot be read is as good as not there


def _decode_key(word: str) -> bytes | None:
    try:
        key = b64decode(word.removeprefix(KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if word.startswith(KEY_PREFIX) and LEAST_BYTES <= len(key) <= MOST_BYTES else None


CALLBACK_INTERVAL_SECONDS = 0.5
CALLBACK_BATCH = 64
MAX_CONCURRENT_CALLBACKS = 8
FAILING_SECONDS = 300.0
"""How long a callback may fail before its condition says so; what only a person can mend is said at once."""

log = structlog.get_logger("postroom.callbacks")

Count = Callable[[str, str, int], None]
"""Callback, result (`delivered`, `failed`, `given_up`), how many."""


@dataclass(frozen=True, slots=True)
class CallbackContext:
    """What a callback works with."""

    outbox: NotificationOutbox
    clock: Clock
    count: Count


class CallbackDispatcher:
    """One callback of a profile: its secret, its health, its loop."""

    def __init__(self, callback: CallbackSpec, secret: CallbackSecret, allowed: Allowlist) -> None:
        self.callback = callback
        self._secret, self._allowed = secret, allowed
        self.problem: Problem | None = None
        self.reached = False
        """Whether it has taken a notice since this worker started."""
        self._keys: tuple[bytes, ...] = ()
        self._caller: tuple[str, CallbackClient] | None = None
        self._authority = ""
        self._answer = CallbackResponse()
        self._failures = 0
        self._failing_since: datetime | None = None
        self._resting_until: datetime | None = None

    def look(self) -> None:
        """Read its Secrets anew; blocks for as long as small files take."""
        found = read_secret(self._secret, self.callback)
        if isinstance(found, Problem):
            self._keys, self.problem = (), found
        else:
            self._keys, self._authority = found
            self.problem = None

    def last_error(self, now: datetime) -> tuple[str, str] | None:
        """Reason and message of what a person should see to; None while there is nothing."""
        name = self.callback.name
        if self.problem:
            return "CallbackSecretMissing", f"{name}: {self.problem.field}: {self.problem.message}"
        if self._failing_since is None:
            return None
        if self._answer.blocked:
            return "CallbackNotAllowed", f"{name}: {self._answer.reason}"
        if self._answer.status == GONE:
            return "CallbackGone", f"{name}: its server answers 410 Gone; remove it from spec.callbacks"
        if (now - self._failing_since).total_seconds() < FAILING_SECONDS:
            return None
        said = self._answer.reason or f"its server answers {self._answer.status}"
        return "CallbackFails", f"{name}: {said}; notices wait for a day"

    async def run(self, world: CallbackContext) -> None:
        """Call until cancelled."""
        try:
            while True:
                if not await self.round(world):
                    await asyncio.sleep(CALLBACK_INTERVAL_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Let go of its connections."""
        if self._caller:
            await self._caller[1].close()
            self._caller = None

    async def round(self, world: CallbackContext) -> int:
        """Call with what waits; returns how many arrived."""
        now = world.clock.now()
        resting = self._resting_until is not None and now < self._resting_until
        if self.problem or resting:
            return 0
        # one that has just failed is asked with a single notice
        waiting = await world.outbox.pending(self.callback.name, now, 1 if self._failures else CALLBACK_BATCH)
        if not waiting:
            return 0
        try:
            caller = await self._call_with()
        except ValueError as error:
            self._note(CallbackResponse(reason=f"the Secret of caRef: {error}"), now)
            return 0
        room = asyncio.Semaphore(MAX_CONCURRENT_CALLBACKS)

        async def call(one: Notification) -> CallbackResponse:
            async with room:
                return await caller.call(one, self._keys, world.clock.now())

        answers = await asyncio.gather(*map(call, waiting))
        return await self._settle(list(zip(waiting, answers, strict=True)), world)

    async def _call_with(self) -> CallbackClient:
        """The caller, another one when the authority has changed; raises ValueError."""
        if self._caller is None or self._caller[0] != self._authority:
            await self.close()
            timeout = duration_seconds(self.callback.timeout)
            target = WebhookTarget(self.callback.url, timeout, self._allowed, self._authority)
            self._caller = self._authority, WebhookClient(target)
        return self._caller[1]

    async def _settle(
        self, answered: Sequence[tuple[Notification, CallbackResponse]], world: CallbackContext
    ) -> int:
        now = world.clock.now()
        done: list[Notification] = []
        later: list[tuple[Notification, datetime]] = []
        given_up: list[Notification] = []
        for one, answer in answered:
            self._note(answer, now)
            if is_delivered(answer):
                done.append(one)
                continue
            age = (now - one.at).total_seconds()
            wait = next_callback_in(answer, one.attempts, age, world.clock.random())
            if wait is None:
                given_up.append(one)
            else:
                later.append((one, now + timedelta(seconds=wait)))
        await world.outbox.delivered([*done, *given_up])
        await world.outbox.postpone(later)
        for result, count in (("delivered", done), ("failed", later), ("given_up", given_up)):
            world.count(self.callback.name, result, len(count))
        if given_up:
            log.error("notices given up after a day", callback=self.callback.name, count=len(given_up))
        return len(done)

    def _note(self, answer: CallbackResponse, now: datetime) -> None:
        self._answer = answer
        if is_delivered(answer):
            if self._failing_since:
                log.info("the callback works again", callback=self.callback.name)
            self.reached = True
            self._failures, self._failing_since, self._resting_until = 0, None, None
            return
        if not self._failing_since:
            said = answer.reason or f"HTTP {answer.status}"
            log.warning("a callback fails; its notices wait", callback=self.callback.name, reason=said)
            self._failing_since = now
        self._failures += 1
        self._resting_until = now + timedelta(seconds=callback_pause(answer, self._failures))
