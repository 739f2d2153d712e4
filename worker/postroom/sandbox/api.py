"""The JSON API under /api/v1: list, read, delete, wait for a letter, and hear of each as it comes.

Made for end-to-end tests: `GET /api/v1/wait?to=mira@example.com` answers as soon as the letter is there, with
its links and one-time codes taken out. Errors are RFC 9457 problems.

Live news as server-sent events.

A `letter` for each arrival; `changed` when marks or deletions made a list old; `lagged` when more came than
was taken. `Last-Event-ID` (or `?after=`) picks up where a broken connection stopped. A comment every fifteen
seconds keeps proxies from closing a quiet stream.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from postroom.sandbox.fts_index import plain_text
from postroom.sandbox.inbox import Inbox, InboxDep
from postroom.sandbox.problem import Refused, no_such_letter
from postroom.sandbox.schemas import (
    DeletionResult,
    ErasureRequest,
    InboxErasureResult,
    LetterDetail,
    LetterPage,
    LetterSummary,
    MarkRequest,
    RestoreResult,
    letter_detail,
    letter_summary,
)
from postroom.sandbox.search import LetterFilter, UnknownOperator, parse_query
from postroom.sandbox.subscriptions import InboxClosed, InboxEvent, Lagged, LettersChanged
from postroom.sandbox.untrusted_content import file_response, html_response

MAX_LIMIT = 500
MAX_WAIT = 300.0

routes = APIRouter(prefix="/api/v1", tags=["letters"])


def _text_filter(
    to: Annotated[str | None, Query(description="A recipient; a whole address matches exactly.")] = None,
    subject: Annotated[str | None, Query(description="Part of the subject.")] = None,
    template: Annotated[str | None, Query(description="A template's name.")] = None,
    message_id: Annotated[str | None, Query(description="The Message-ID, with its angle brackets.")] = None,
    q: Annotated[str | None, Query(description="A search letter_summary as on the page.")] = None,
) -> LetterFilter:
    start = LetterFilter(to=to, subject=subject, template=template, message_id=message_id)
    found = parse_query(q or "", start)
    if isinstance(found, UnknownOperator):
        hint = f" Did you mean {found.nearest}?" if found.nearest else ""
        raise Refused(422, "Invalid request", f"There is no {found.text}.{hint}", "q")
    return found


def _letter_filter(
    letter_filter: Annotated[LetterFilter, Depends(_text_filter)],
    since: Annotated[
        datetime | None, Query(description="Only letters that came at this time (RFC 3339) or later.")
    ] = None,
    after: Annotated[int | None, Query(description="Only letters with a greater id.", ge=0)] = None,
) -> LetterFilter:
    if since is not None and since.tzinfo is None:
        raise Refused(
            422, "Invalid request", "since needs a time zone, for instance 2026-11-23T16:00:00Z", "since"
        )
    milliseconds = None if since is None else int(since.timestamp() * 1000)
    return replace(letter_filter, since=milliseconds, after=after)


FilterDep = Annotated[LetterFilter, Depends(_letter_filter)]


@routes.get("/letters")
def list_letters(
    inbox: InboxDep,
    letter_filter: FilterDep,
    cursor: Annotated[int | None, Query(description="`next` of the page before.", ge=1)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
) -> LetterPage:
    """Letters, newest first."""
    found = inbox.store.find(replace(letter_filter, before=cursor), limit + 1)
    more = str(found[limit - 1].id) if len(found) > limit else None
    total = inbox.store.count(letter_filter)
    unread = inbox.store.counts().unread
    return LetterPage(
        letters=[letter_summary(letter) for letter in found[:limit]], total=total, unread=unread, next=more
    )


@routes.get("/letters/{letter}")
def get_letter(inbox: InboxDep, letter: int) -> LetterDetail:
    """One letter with its content. Reading it here does not mark it read."""
    return letter_detail(inbox.summary(letter), inbox.letter(letter))


@routes.get("/letters/{letter}/raw")
def get_raw(inbox: InboxDep, letter: int) -> Response:
    """The letter as it came, as an .eml file."""
    disposition = {"content-disposition": f'attachment; filename="letter-{letter}.eml"'}
    return Response(inbox.raw(letter), media_type="message/rfc822", headers=disposition)


@routes.get("/letters/{letter}/html")
def get_html(inbox: InboxDep, letter: int) -> Response:
    """The HTML part as UTF-8, under a policy that lets it run and load nothing."""
    return html_response(inbox.letter(letter), letter)


@routes.get("/letters/{letter}/text")
def get_text(inbox: InboxDep, letter: int) -> Response:
    """The text part; for a letter without one, the HTML without its markup."""
    return Response(plain_text(inbox.letter(letter)), media_type="text/plain; charset=utf-8")


@routes.get("/letters/{letter}/attachments/{number}")
def get_attachment(inbox: InboxDep, letter: int, number: int) -> Response:
    """One attachment, always as a download."""
    files = inbox.letter(letter).attachments
    if not 1 <= number <= len(files):
        detail = f"Letter {letter} has {len(files)} attachments; there is no number {number}."
        raise Refused(404, "No such attachment", detail)
    return file_response(files[number - 1], number)


@routes.patch("/letters/{letter}")
async def mark_letter(inbox: InboxDep, letter: int, mark: MarkRequest) -> LetterSummary:
    """Mark a letter read or unread."""
    if not await inbox.mark(letter, read=mark.read):
        raise no_such_letter(letter)
    return letter_summary(await asyncio.to_thread(inbox.summary, letter))


@routes.delete("/letters/{letter}")
async def delete_letter(inbox: InboxDep, letter: int) -> DeletionResult:
    """Delete one letter. The bytes are overwritten after ten minutes; until then it can be restored."""
    deletion, number = await inbox.delete(letter)
    if not number:
        raise no_such_letter(letter)
    return DeletionResult(deletion=deletion, letters=number)


@routes.delete("/letters")
async def delete_letters(inbox: InboxDep) -> DeletionResult:
    """Delete all letters."""
    deletion, number = await inbox.delete()
    return DeletionResult(deletion=deletion, letters=number)


@routes.post("/erasures")
async def erase(inbox: InboxDep, letter_filter: ErasureRequest) -> InboxErasureResult:
    """Erase every letter to an address at once and for good; with `dry_run` only count them."""
    if letter_filter.dry_run:
        return InboxErasureResult(
            letters=await asyncio.to_thread(inbox.store.count_to, letter_filter.address)
        )
    return InboxErasureResult(letters=await inbox.erase(letter_filter.address))


@routes.post("/deletions/{deletion}/restore")
async def restore(inbox: InboxDep, deletion: int) -> RestoreResult:
    """Undo a deletion."""
    number = await inbox.restore(deletion)
    if not number:
        raise Refused(
            404, "No such deletion", f"Deletion {deletion} is undone already, or past its ten minutes."
        )
    return RestoreResult(letters=number)


@routes.get("/wait")
async def wait_for_letter(
    inbox: InboxDep,
    letter_filter: FilterDep,
    wait_seconds: Annotated[
        float, Query(alias="timeout", description="Seconds to wait at most.", ge=0, le=MAX_WAIT)
    ] = 30.0,
) -> LetterDetail:
    """The first letter that meets the filter, at once if it is there already; 408 when none comes in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    with inbox.subscriptions.subscribe() as subscription:
        while True:
            subscription.drain()
            found = await asyncio.to_thread(inbox.store.find, letter_filter, 1, oldest_first=True)
            if found:
                return await asyncio.to_thread(get_letter, inbox, found[0].id)
            event = await subscription.next(max(deadline - loop.time(), 0.0))
            if event is None:
                raise Refused(408, "No letter came", f"No letter met the filter within {wait_seconds:g} s.")
            if isinstance(event, InboxClosed):
                raise Refused(503, "Closing", "The sandbox is closing.")


HEARTBEAT_SECONDS = 15.0
MAX_MISSED = 200


@routes.get("/events", response_class=StreamingResponse)
async def stream_events(
    inbox: InboxDep,
    last_event_id: Annotated[str | None, Header()] = None,
    after: Annotated[int | None, Query(ge=0, description="Begin with the letters after this id.")] = None,
) -> StreamingResponse:
    """Server-sent events: `letter` with a line of the list as JSON, `changed`, `lagged`."""
    start = int(last_event_id) if last_event_id and last_event_id.isdigit() else after
    return StreamingResponse(_event_stream(inbox, start), media_type="text/event-stream")


async def _event_stream(inbox: Inbox, start: int | None) -> AsyncIterator[str]:
    with inbox.subscriptions.subscribe() as subscription:
        yield "retry: 2000\n: listening\n\n"
        seen = start or 0
        if start is not None:
            missed = await asyncio.to_thread(
                inbox.store.find, LetterFilter(after=start), MAX_MISSED + 1, oldest_first=True
            )
            if len(missed) > MAX_MISSED:
                yield "event: lagged\ndata: {}\n\n"
                missed = []
            for letter in missed:
                seen = letter.id
                yield format_event(letter)
        while True:
            event = await subscription.next(HEARTBEAT_SECONDS)
            if isinstance(event, InboxClosed):
                return
            # A letter that came while the missed ones were read is in both.
            if event is None or not hasattr(event, "id") or event.id > seen:
                yield format_event(event)


def format_event(event: InboxEvent | None) -> str:
    """One piece of news in the stream's form; a comment when there is none."""
    match event:
        case None | InboxClosed():
            return ": still here\n\n"
        case LettersChanged():
            return "event: changed\ndata: {}\n\n"
        case Lagged():
            return "event: lagged\ndata: {}\n\n"
        case letter:
            data = json.dumps(letter_summary(letter).model_dump(mode="json"), ensure_ascii=True)
            return f"id: {letter.id}\nevent: letter\ndata: {data}\n\n"
