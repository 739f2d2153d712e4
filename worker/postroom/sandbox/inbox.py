"""What every HTTP route works with: the letters, who listens for them, and the mail server's figures."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from postroom.sandbox.arrivals import Arrivals, Changed
from postroom.sandbox.mime import Letter, take_apart
from postroom.sandbox.mta import Tally
from postroom.sandbox.problem import no_such_letter
from postroom.sandbox.store import Limits, Store
from postroom.sandbox.summary import Summary
from postroom.web import Endpoint


@dataclass(slots=True)
class Inbox:
    """The sandbox as its pages see it. `smtp` is where letters are taken in."""

    store: Store
    smtp: Endpoint
    limits: Limits = field(default_factory=Limits)
    arrivals: Arrivals = field(default_factory=Arrivals)
    tally: Tally = field(default_factory=Tally)
    studio: str = ""
    """Address of the template studio, where there is one."""

    def summary(self, letter: int) -> Summary:
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

    def letter(self, letter: int) -> Letter:
        """A letter taken apart, or `Refused` with 404."""
        return take_apart(self.raw(letter))

    async def mark(self, letter: int, *, read: bool) -> bool:
        """Mark a letter and tell the open pages; false when there is no such letter."""
        known = await asyncio.wrap_future(self.store.mark(letter, read=read))
        if known:
            self.arrivals.tell(Changed())
        return known

    async def mark_all_read(self) -> int:
        """Mark all letters read and tell the open pages; gives how many were not."""
        number = await asyncio.wrap_future(self.store.mark_all_read())
        self.arrivals.tell(Changed())
        return number

    async def delete(self, letter: int | None = None) -> tuple[int, int]:
        """Delete one letter or all; gives the deletion's number and how many it took."""
        deletion, number = await asyncio.wrap_future(self.store.delete(letter))
        self.arrivals.tell(Changed())
        return deletion, number

    async def erase(self, address: str) -> int:
        """Erase the letters to a recipient for good and tell the open pages; gives how many there were."""
        number = await asyncio.wrap_future(self.store.erase(address))
        self.arrivals.tell(Changed())
        return number

    async def restore(self, deletion: int) -> int:
        """Undo a deletion and tell the open pages; gives how many letters are back."""
        number = await asyncio.wrap_future(self.store.restore(deletion))
        self.arrivals.tell(Changed())
        return number


def _inbox(request: Request) -> Inbox:
    inbox: Inbox = request.app.state.inbox
    return inbox


Here = Annotated[Inbox, Depends(_inbox)]
