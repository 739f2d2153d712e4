"""Send notifications to the callback URLs of a profile: ledger outbox → HTTP POST.

Each callback has its own loop, so that a slow or unreachable receiver delays neither other callbacks nor
letters. A notification is deleted when its receiver replies 2xx, or after a day of failed attempts.

Secrets: `webhook.secret` contains `whsec_` and 24 to 64 bytes in base64, as in Standard Webhooks. Several
keys separated by white space all sign, so that receivers can change keys one after the other.

Failure: a missing or invalid Secret, or a failing receiver, becomes a condition (`last_error`).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from postroom.adapters.webhooks import WebhookClient, WebhookTarget
from postroom.letter.allowlist import Allowlist
from postroom.letter.manifest_fields import duration_seconds
from postroom.letter.problems import Problem
from postroom.letter.profile import CallbackSpec
from postroom.policy.notifications import GONE, callback_pause, is_delivered, next_callback_in
from postroom.ports.notifications import CallbackClient, CallbackResponse, Notification, NotificationOutbox
from postroom.ports.world import Clock
from postroom.worker.secrets import CallbackSecret, read_secret

CALLBACK_INTERVAL_SECONDS = 0.5
CALLBACK_BATCH = 64
MAX_CONCURRENT_CALLBACKS = 8
FAILING_SECONDS = 300.0
"""How long a callback may fail before its condition reports it; configuration errors are reported at once."""

log = structlog.get_logger("postroom.callbacks")

Count = Callable[[str, str, int], None]
"""Callback, result (`delivered`, `failed`, `given_up`), how many."""


@dataclass(frozen=True, slots=True)
class CallbackContext:
    """What the callbacks of a worker share."""

    outbox: NotificationOutbox
    clock: Clock
    count: Count


class CallbackDispatcher:
    """Sends the notifications of one callback; keeps its keys and its health."""

    def __init__(self, callback: CallbackSpec, secret: CallbackSecret, allowed: Allowlist) -> None:
        self.callback = callback
        self._secret, self._allowed = secret, allowed
        self.problem: Problem | None = None
        self.reached = False
        """Whether a notification was accepted since this worker started."""
        self._keys: tuple[bytes, ...] = ()
        self._caller: tuple[str, CallbackClient] | None = None
        self._authority = ""
        self._answer = CallbackResponse()
        self._failures = 0
        self._failing_since: datetime | None = None
        self._paused_until: datetime | None = None

    def reload(self) -> None:
        """Read the Secrets again; blocks while small files are read."""
        found = read_secret(self._secret, self.callback)
        if isinstance(found, Problem):
            self._keys, self.problem = (), found
        else:
            self._keys, self._authority = found
            self.problem = None

    def last_error(self, now: datetime) -> tuple[str, str] | None:
        """Return reason and message of a failure that needs attention; None if there is none."""
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
        description = self._answer.reason or f"its server answers {self._answer.status}"
        return "CallbackFails", f"{name}: {description}; notifications are retried for a day"

    async def run(self, context: CallbackContext) -> None:
        """Send notifications until cancelled."""
        try:
            while True:
                if not await self.round(context):
                    await asyncio.sleep(CALLBACK_INTERVAL_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._caller:
            await self._caller[1].close()
            self._caller = None

    async def round(self, context: CallbackContext) -> int:
        """Send the pending notifications; returns how many were accepted."""
        now = context.clock.now()
        pausing = self._paused_until is not None and now < self._paused_until
        if self.problem or pausing:
            return 0
        # after a failure a single notification tests the receiver
        waiting = await context.outbox.pending(
            self.callback.name, now, 1 if self._failures else CALLBACK_BATCH
        )
        if not waiting:
            return 0
        try:
            caller = await self._call_with()
        except ValueError as error:
            self._note(CallbackResponse(reason=f"the Secret of caRef: {error}"), now)
            return 0
        slots = asyncio.Semaphore(MAX_CONCURRENT_CALLBACKS)

        async def call(notification: Notification) -> CallbackResponse:
            async with slots:
                return await caller.call(notification, self._keys, context.clock.now())

        responses = await asyncio.gather(*map(call, waiting))
        return await self._settle(list(zip(waiting, responses, strict=True)), context)

    async def _call_with(self) -> CallbackClient:
        """Return the client, a new one if the CA certificates have changed; raises ValueError."""
        if self._caller is None or self._caller[0] != self._authority:
            await self.close()
            timeout = duration_seconds(self.callback.timeout)
            target = WebhookTarget(self.callback.url, timeout, self._allowed, self._authority)
            self._caller = self._authority, WebhookClient(target)
        return self._caller[1]

    async def _settle(
        self, answered: Sequence[tuple[Notification, CallbackResponse]], context: CallbackContext
    ) -> int:
        now = context.clock.now()
        done: list[Notification] = []
        later: list[tuple[Notification, datetime]] = []
        given_up: list[Notification] = []
        for notification, response in answered:
            self._note(response, now)
            if is_delivered(response):
                done.append(notification)
                continue
            age = (now - notification.at).total_seconds()
            wait = next_callback_in(response, notification.attempts, age, context.clock.random())
            if wait is None:
                given_up.append(notification)
            else:
                later.append((notification, now + timedelta(seconds=wait)))
        await context.outbox.delivered([*done, *given_up])
        await context.outbox.postpone(later)
        for result, count in (("delivered", done), ("failed", later), ("given_up", given_up)):
            context.count(self.callback.name, result, len(count))
        if given_up:
            log.error("notifications given up after a day", callback=self.callback.name, count=len(given_up))
        return len(done)

    def _note(self, response: CallbackResponse, now: datetime) -> None:
        self._answer = response
        if is_delivered(response):
            if self._failing_since:
                log.info("callback works again", callback=self.callback.name)
            self.reached = True
            self._failures, self._failing_since, self._paused_until = 0, None, None
            return
        if not self._failing_since:
            description = response.reason or f"HTTP {response.status}"
            log.warning(
                "callback fails; its notifications wait", callback=self.callback.name, reason=description
            )
            self._failing_since = now
        self._failures += 1
        self._paused_until = now + timedelta(seconds=callback_pause(response, self._failures))
