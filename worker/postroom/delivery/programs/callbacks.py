"""Callbacks: notices from the ledger's outbox to the URLs that a profile names.

Each callback has a loop of its own, so that one that is slow or away holds up no other, and letters wait for
none. A notice is cleared when its receiver has answered 2xx, or when it was tried for a day.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from postroom.adapters.webhooks import WebhookClient, WebhookTarget
from postroom.delivery.decide.callback import GONE, again_in, arrived, rest
from postroom.delivery.programs.webhooksecrets import Secret, read_secret
from postroom.letter.allowlist import Allowlist
from postroom.letter.manifest_fields import duration_seconds
from postroom.letter.problems import Problem
from postroom.letter.profile import CallbackSpec
from postroom.ports.callbacks import Answer, Caller
from postroom.ports.notices import Notice, Outbox
from postroom.ports.world import Clock

LOOK_SECONDS = 0.5
BATCH = 64
AT_ONCE = 8
FAILING_SECONDS = 300.0
"""How long a callback may fail before its condition says so; what only a person can mend is said at once."""

log = structlog.get_logger("postroom.callbacks")

Count = Callable[[str, str, int], None]
"""Callback, result (`delivered`, `failed`, `given_up`), how many."""


@dataclass(frozen=True, slots=True)
class World:
    """What a callback works with."""

    outbox: Outbox
    clock: Clock
    count: Count


class Doorstep:
    """One callback of a profile: its secret, its health, its loop."""

    def __init__(self, callback: CallbackSpec, secret: Secret, allowed: Allowlist) -> None:
        self.callback = callback
        self._secret, self._allowed = secret, allowed
        self.problem: Problem | None = None
        self.reached = False
        """Whether it has taken a notice since this worker started."""
        self._keys: tuple[bytes, ...] = ()
        self._caller: tuple[str, Caller] | None = None
        self._authority = ""
        self._answer = Answer()
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

    async def run(self, world: World) -> None:
        """Call until cancelled."""
        try:
            while True:
                if not await self.round(world):
                    await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Let go of its connections."""
        if self._caller:
            await self._caller[1].close()
            self._caller = None

    async def round(self, world: World) -> int:
        """Call with what waits; returns how many arrived."""
        now = world.clock.now()
        resting = self._resting_until is not None and now < self._resting_until
        if self.problem or resting:
            return 0
        # one that has just failed is asked with a single notice
        waiting = await world.outbox.pending(self.callback.name, now, 1 if self._failures else BATCH)
        if not waiting:
            return 0
        try:
            caller = await self._call_with()
        except ValueError as error:
            self._note(Answer(reason=f"the Secret of caRef: {error}"), now)
            return 0
        room = asyncio.Semaphore(AT_ONCE)

        async def call(one: Notice) -> Answer:
            async with room:
                return await caller.call(one, self._keys, world.clock.now())

        answers = await asyncio.gather(*map(call, waiting))
        return await self._settle(list(zip(waiting, answers, strict=True)), world)

    async def _call_with(self) -> Caller:
        """The caller, another one when the authority has changed; raises ValueError."""
        if self._caller is None or self._caller[0] != self._authority:
            await self.close()
            timeout = duration_seconds(self.callback.timeout)
            target = WebhookTarget(self.callback.url, timeout, self._allowed, self._authority)
            self._caller = self._authority, WebhookClient(target)
        return self._caller[1]

    async def _settle(self, answered: Sequence[tuple[Notice, Answer]], world: World) -> int:
        now = world.clock.now()
        done: list[Notice] = []
        later: list[tuple[Notice, datetime]] = []
        given_up: list[Notice] = []
        for one, answer in answered:
            self._note(answer, now)
            if arrived(answer):
                done.append(one)
                continue
            age = (now - one.at).total_seconds()
            wait = again_in(answer, one.attempts, age, world.clock.random())
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

    def _note(self, answer: Answer, now: datetime) -> None:
        self._answer = answer
        if arrived(answer):
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
        self._resting_until = now + timedelta(seconds=rest(answer, self._failures))
