"""The JSON API under /api/v1: list, read, delete, wait for a letter, and hear of each as it comes.

Made for end-to-end tests: `GET /api/v1/wait?to=mira@example.com` answers as soon as the letter is there, with
its links and one-time codes taken out. Errors are RFC 9457 problems.
"""

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from postroom.sandbox.arrivals import Closed
from postroom.sandbox.inbox import Here
from postroom.sandbox.letters import file_response, html_response
from postroom.sandbox.problem import Refused, no_such_letter
from postroom.sandbox.search import Filter, Unknown, read_query
from postroom.sandbox.shapes import Deleted, Erased, Erasure, Line, Lines, Mark, Restored, Whole, line, whole
from postroom.sandbox.words import readable_text

MAX_LIMIT = 500
MAX_WAIT = 300.0

routes = APIRouter(prefix="/api/v1", tags=["letters"])


def _wanted(
    to: Annotated[str | None, Query(description="A recipient; a whole address matches exactly.")] = None,
    subject: Annotated[str | None, Query(description="Part of the subject.")] = None,
    template: Annotated[str | None, Query(description="A template's name.")] = None,
    message_id: Annotated[str | None, Query(description="The Message-ID, with its angle brackets.")] = None,
    q: Annotated[str | None, Query(description="A search line as on the page.")] = None,
) -> Filter:
    start = Filter(to=to, subject=subject, template=template, message_id=message_id)
    found = read_query(q or "", start)
    if isinstance(found, Unknown):
        hint = f" Did you mean {found.nearest}?" if found.nearest else ""
        raise Refused(422, "Invalid request", f"There is no {found.text}.{hint}", "q")
    return found


def _recent(
    wanted: Annotated[Filter, Depends(_wanted)],
    since: Annotated[
        datetime | None, Query(description="Only letters that came at this time (RFC 3339) or later.")
    ] = None,
    after: Annotated[int | None, Query(description="Only letters with a greater id.", ge=0)] = None,
) -> Filter:
    if since is not None and since.tzinfo is None:
        raise Refused(
            422, "Invalid request", "since needs a time zone, for instance 2026-11-23T16:00:00Z", "since"
        )
    milliseconds = None if since is None else int(since.timestamp() * 1000)
    return replace(wanted, since=milliseconds, after=after)


Wanted = Annotated[Filter, Depends(_recent)]


@routes.get("/letters")
def list_letters(
    inbox: Here,
    wanted: Wanted,
    cursor: Annotated[int | None, Query(description="`next` of the page before.", ge=1)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
) -> Lines:
    """Letters, newest first."""
    found = inbox.store.find(replace(wanted, before=cursor), limit + 1)
    more = str(found[limit - 1].id) if len(found) > limit else None
    total = inbox.store.count(wanted)
    unread = inbox.store.counts().unread
    return Lines(letters=[line(letter) for letter in found[:limit]], total=total, unread=unread, next=more)


@routes.get("/letters/{letter}")
def get_letter(inbox: Here, letter: int) -> Whole:
    """One letter with its content. Reading it here does not mark it read."""
    return whole(inbox.summary(letter), inbox.letter(letter))


@routes.get("/letters/{letter}/raw")
def get_raw(inbox: Here, letter: int) -> Response:
    """The letter as it came, as an .eml file."""
    disposition = {"content-disposition": f'attachment; filename="letter-{letter}.eml"'}
    return Response(inbox.raw(letter), media_type="message/rfc822", headers=disposition)


@routes.get("/letters/{letter}/html")
def get_html(inbox: Here, letter: int) -> Response:
    """The HTML part as UTF-8, under a policy that lets it run and load nothing."""
    return html_response(inbox.letter(letter), letter)


@routes.get("/letters/{letter}/text")
def get_text(inbox: Here, letter: int) -> Response:
    """The text part; for a letter without one, the HTML without its markup."""
    return Response(readable_text(inbox.letter(letter)), media_type="text/plain; charset=utf-8")


@routes.get("/letters/{letter}/attachments/{number}")
def get_attachment(inbox: Here, letter: int, number: int) -> Response:
    """One attachment, always as a download."""
    files = inbox.letter(letter).attachments
    if not 1 <= number <= len(files):
        detail = f"Letter {letter} has {len(files)} attachments; there is no number {number}."
        raise Refused(404, "No such attachment", detail)
    return file_response(files[number - 1], number)


@routes.patch("/letters/{letter}")
async def mark_letter(inbox: Here, letter: int, mark: Mark) -> Line:
    """Mark a letter read or unread."""
    if not await inbox.mark(letter, read=mark.read):
        raise no_such_letter(letter)
    return line(await asyncio.to_thread(inbox.summary, letter))


@routes.delete("/letters/{letter}")
async def delete_letter(inbox: Here, letter: int) -> Deleted:
    """Delete one letter. The bytes are overwritten after ten minutes; until then it can be restored."""
    deletion, number = await inbox.delete(letter)
    if not number:
        raise no_such_letter(letter)
    return Deleted(deletion=deletion, letters=number)


@routes.delete("/letters")
async def delete_letters(inbox: Here) -> Deleted:
    """Delete all letters."""
    deletion, number = await inbox.delete()
    return Deleted(deletion=deletion, letters=number)


@routes.post("/erasures")
async def erase(inbox: Here, wanted: Erasure) -> Erased:
    """Erase every letter to an address at once and for good; with `dry_run` only count them."""
    if wanted.dry_run:
        return Erased(letters=await asyncio.to_thread(inbox.store.count_to, wanted.address))
    return Erased(letters=await inbox.erase(wanted.address))


@routes.post("/deletions/{deletion}/restore")
async def restore(inbox: Here, deletion: int) -> Restored:
    """Undo a deletion."""
    number = await inbox.restore(deletion)
    if not number:
        raise Refused(
            404, "No such deletion", f"Deletion {deletion} is undone already, or past its ten minutes."
        )
    return Restored(letters=number)


@routes.get("/wait")
async def wait_for_letter(
    inbox: Here,
    wanted: Wanted,
    patience: Annotated[
        float, Query(alias="timeout", description="Seconds to wait at most.", ge=0, le=MAX_WAIT)
    ] = 30.0,
) -> Whole:
    """The first letter that meets the filter, at once if it is there already; 408 when none comes in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    with inbox.arrivals.listening() as listener:
        while True:
            listener.drain()
            found = await asyncio.to_thread(inbox.store.find, wanted, 1, oldest_first=True)
            if found:
                return await asyncio.to_thread(get_letter, inbox, found[0].id)
            news = await listener.next(max(deadline - loop.time(), 0.0))
            if news is None:
                raise Refused(408, "No letter came", f"No letter met the filter within {patience:g} s.")
            if isinstance(news, Closed):
                raise Refused(503, "Closing", "The sandbox is closing.")
