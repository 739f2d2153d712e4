"""What every HTTP route works with: the letters, who listens for them, and the mail server's figures."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from postroom.http.endpoint import Endpoint
from postroom.sandbox.mime import ParsedLetter, StoredLetter, parse_letter
from postroom.sandbox.mta import CaptureStats
from postroom.sandbox.problem import no_such_letter
from postroom.sandbox.store import LetterStore, RetentionLimits
from postroom.sandbox.subscriptions import LettersChanged, Subscriptions


@dataclass(slots=True)
class Inbox:
    """The sandbox as its pages see it. `smtp` is where letters are taken in."""

    store: LetterStore
    smtp: Endpoint
    limits: RetentionLimits = field(default_factory=RetentionLimits)
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    stats: CaptureStats = field(default_factory=CaptureStats)
    studio: str = ""
    """Address of the template studio, where there is one."""

    def summary(self, letter: int) -> StoredLetter:
        """A letter's summary, or `Refused` with 404."""
        found = self.store.letter(letter)
        if found is None:
            raise no_such_letter(letter)
        return found

    def raw(self, letter: int) -> bytes:
        """A letter's bytes, or `Refused` with 404."""
        found = self.store.raw(letter)
        if found is None:
            raise no_such_letter(letter)
        return found

    def letter(self, letter: int) -> ParsedLetter:
        """A letter taken apart, or `Refused` with 404."""
        return parse_letter(self.raw(letter))

    async def mark(self, letter: int, *, read: bool) -> bool:
        """Mark a letter and tell the open pages; false when there is no such letter."""
        found = await asyncio.wrap_future(self.store.mark(letter, read=read))
        if found:
            self.subscriptions.publish(LettersChanged())
        return found

    async def mark_all_read(self) -> int:
        """Mark all letters read and tell the open pages; gives how many were not."""
        number = await asyncio.wrap_future(self.store.mark_all_read())
        self.subscriptions.publish(LettersChanged())
        return number

    async def delete(self, letter: int | None = None) -> tuple[int, int]:
        """Delete one letter or all; gives the deletion's number and how many it took."""
        deletion, number = await asyncio.wrap_future(self.store.delete(letter))
        self.subscriptions.publish(LettersChanged())
        return deletion, number

    async def erase(self, address: str) -> int:
        """Erase the letters to a recipient for good and tell the open pages; gives how many there were."""
        number = await asyncio.wrap_future(self.store.erase(address))
        self.subscriptions.publish(LettersChanged())
        return number

    async def restore(self, deletion: int) -> int:
        """Undo a deletion and tell the open pages; gives how many letters are back."""
        number = await asyncio.wrap_future(self.store.restore(deletion))
        self.subscriptions.publish(LettersChanged())
        return number


def _inbox_of_app(request: Request) -> Inbox:
    inbox: Inbox = request.app.state.inbox
    return inbox


InboxDep = Annotated[Inbox, Depends(_inbox_of_app)]
