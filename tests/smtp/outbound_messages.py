"""Letters for the tests of the SMTP adapter, and a register of their results."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from postroom.adapters.smtp.pool import SmtpRelay
from postroom.adapters.smtp.settings import RelaySettings, TlsMode, TlsSettings
from postroom.ports.relay import Envelope, Fence, FenceGrant, OutboundMessage, Reply, Result, Stage

IN_CLEAR = TlsSettings(TlsMode.NONE)


@dataclass(eq=False)
class Letter:
    """An outbound message whose content contains its recipient, so that an exchanged content is found."""

    recipient: str
    size: int = 0
    sender: str = "post@example.com"

    @property
    def envelope(self) -> Envelope:
        return Envelope(self.sender, self.recipient, smtputf8=not self.recipient.isascii())

    @property
    def content(self) -> bytes:
        head = f"To: {self.recipient}\r\n\r\nfor {self.recipient}\r\n".encode()
        return head + b"0123456789abcdef\r\n" * (self.size // 18)


@dataclass
class Register:
    """Results by recipient; two for one letter are an error."""

    results: dict[str, Result] = field(default_factory=dict)
    groups: list[int] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, results: Sequence[tuple[OutboundMessage, Result]]) -> None:
        self.groups.append(len(results))
        for message, result in results:
            recipient = message.envelope.recipient
            assert recipient not in self.results, f"two results for {recipient}"
            self.results[recipient] = result
        self.changed.set()

    async def of(self, count: int) -> list[Result]:
        """The results, in order of decision, once there are `count`."""
        async with asyncio.timeout(5):
            while len(self.results) < count:
                self.changed.clear()
                await self.changed.wait()
        return list(self.results.values())


def letters(count: int, size: int = 0) -> list[Letter]:
    return [Letter(f"reader{n}@example.net", size) for n in range(count)]


async def grant_all(messages: Sequence[OutboundMessage]) -> FenceGrant:
    return FenceGrant(messages, math.inf)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the condition reads another object's state
            await asyncio.sleep(0.001)


@asynccontextmanager
async def pool(port: int, fence: Fence = grant_all, **settings: Any) -> AsyncIterator[SmtpRelay]:
    """An open pool to 127.0.0.1 without TLS, drained at the end."""
    given: dict[str, Any] = {"host": "127.0.0.1", "tls": IN_CLEAR, "connections": 1, **settings}
    relay = SmtpRelay(RelaySettings(port=port, **given))
    await relay.open(fence)
    try:
        yield relay
    finally:
        await relay.drain(0.2)


ACCEPTED = Reply(Stage.END_OF_DATA, 250, "2.0.0 queued")
