"""The JSON API under /api/v1: list, read, delete and erase letters, wait for a letter, stream events.

Made for end-to-end tests: `GET /api/v1/wait?to=mira@example.com` answers as soon as the letter is stored,
with its links and one-time codes. Times are RFC 3339 in UTC. Errors are problem documents (RFC 9457).

`GET /api/v1/events` sends server-sent events: `letter` for each new letter, `changed` when letters were
marked, deleted or restored, `lagged` when the client must read the list again. `Last-Event-ID` or `?after=`
resumes a broken connection. A comment every 15 seconds keeps proxies from closing a quiet stream.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from postroom.http.problems import HttpProblem, invalid_parameter
from postroom.sandbox.extract import extract_links, one_time_codes, plain_text
from postroom.sandbox.formatting import from_milliseconds
from postroom.sandbox.inbox import (
    Inbox,
    InboxClosed,
    InboxDep,
    InboxEvent,
    Lagged,
    LettersChanged,
    no_such_letter,
)
from postroom.sandbox.mime import MimePart, ParsedLetter, StoredLetter, decode_header_text
from postroom.sandbox.search import LetterFilter, UnknownOperator, parse_query
from postroom.sandbox.untrusted_content import file_response, html_response

MAX_LIMIT = 500
MAX_WAIT = 300.0
HEARTBEAT_SECONDS = 15.0
MAX_MISSED = 200
"""Missed letters that a resumed event stream repeats; for more it sends `lagged`."""

routes = APIRouter(prefix="/api/v1", tags=["letters"])


# --- bodies --------------------------------------------------------------------------------------


class LetterSummary(BaseModel):
    """A letter in the list."""

    id: int
    received_at: datetime
    mail_from: str = Field(description="The sender of the envelope; empty for a bounce.")
    to: list[str] = Field(description="The recipients of the envelope.")
    sender: str = Field(description="The From header, with encoded words decoded.")
    subject: str
    message_id: str
    date: str = Field(description="The Date header as received.")
    template: str = Field(description="The template's name from X-Postroom-Template, or empty.")
    revision: str
    size: int = Field(description="Bytes.")
    attachments: int
    read: bool


class LetterPage(BaseModel):
    """A page of the list, newest first."""

    letters: list[LetterSummary]
    total: int = Field(description="The number of letters that meet the filter.")
    unread: int = Field(description="The number of unread letters in the whole inbox.")
    next: str | None = Field(description="The `cursor` of the next page; null at the end.")


class LetterLink(BaseModel):
    """A link in a letter."""

    url: str
    text: str


class LetterFile(BaseModel):
    """An attachment."""

    number: int = Field(description="Its number in `attachments/{number}`.")
    filename: str
    content_type: str
    size: int


class LetterHeader(BaseModel):
    """One header, with encoded words decoded."""

    name: str
    value: str


class LetterDetail(LetterSummary):
    """A letter with its content, links and one-time codes."""

    headers: list[LetterHeader]
    text: str = Field(description="The text part; for a letter without one, the HTML without its markup.")
    has_html: bool
    has_text: bool
    links: list[LetterLink] = Field(description="The links in order, without repeats.")
    codes: list[str] = Field(description="Probable one-time codes, the most likely first.")
    files: list[LetterFile]


class MarkRequest(BaseModel):
    """A change of a letter."""

    read: bool


class DeletionResult(BaseModel):
    """A deletion; its id undoes it within ten minutes."""

    deletion: int
    letters: int


class ErasureRequest(BaseModel):
    """The recipient whose letters are erased."""

    address: Annotated[str, Field(min_length=3, max_length=320)]
    dry_run: bool = False


class InboxErasureResult(BaseModel):
    """The number of letters that were erased, or would be."""

    letters: int


class RestoreResult(BaseModel):
    """The number of restored letters."""

    letters: int


# --- filters -------------------------------------------------------------------------------------


def _text_filter(
    to: Annotated[str | None, Query(description="A recipient; a complete address matches exactly.")] = None,
    subject: Annotated[str | None, Query(description="Part of the subject.")] = None,
    template: Annotated[str | None, Query(description="A template's name.")] = None,
    message_id: Annotated[str | None, Query(description="The Message-ID with its angle brackets.")] = None,
    q: Annotated[str | None, Query(description="A search line, as in the search field of the page.")] = None,
) -> LetterFilter:
    start = LetterFilter(to=to, subject=subject, template=template, message_id=message_id)
    found = parse_query(q or "", start)
    if isinstance(found, UnknownOperator):
        hint = f" Did you mean {found.nearest}?" if found.nearest else ""
        raise invalid_parameter("q", f"There is no {found.text}.{hint}")
    return found


def _letter_filter(
    letter_filter: Annotated[LetterFilter, Depends(_text_filter)],
    since: Annotated[
        datetime | None, Query(description="Only letters received at this time (RFC 3339) or later.")
    ] = None,
    after: Annotated[int | None, Query(description="Only letters with a greater id.", ge=0)] = None,
) -> LetterFilter:
    if since is not None and since.tzinfo is None:
        raise invalid_parameter("since", "since needs a time zone, for instance 2026-11-23T16:00:00Z")
    milliseconds = None if since is None else int(since.timestamp() * 1000)
    return replace(letter_filter, since=milliseconds, after=after)


FilterDep = Annotated[LetterFilter, Depends(_letter_filter)]


# --- routes --------------------------------------------------------------------------------------


@routes.get("/letters")
def list_letters(
    inbox: InboxDep,
    letter_filter: FilterDep,
    cursor: Annotated[int | None, Query(description="`next` of the previous page.", ge=1)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
) -> LetterPage:
    """List letters, newest first."""
    found = inbox.store.find(replace(letter_filter, before=cursor), limit + 1)
    more = str(found[limit - 1].id) if len(found) > limit else None
    total = inbox.store.count(letter_filter)
    unread = inbox.store.counts().unread
    return LetterPage(
        letters=[letter_summary(letter) for letter in found[:limit]], total=total, unread=unread, next=more
    )


@routes.get("/letters/{letter}")
def get_letter(inbox: InboxDep, letter: int) -> LetterDetail:
    """One letter with its content. This does not mark it as read."""
    return letter_detail(inbox.summary(letter), inbox.letter(letter))


@routes.get("/letters/{letter}/raw")
def get_raw(inbox: InboxDep, letter: int) -> Response:
    """The letter as received, as an .eml file."""
    disposition = {"content-disposition": f'attachment; filename="letter-{letter}.eml"'}
    return Response(inbox.raw(letter), media_type="message/rfc822", headers=disposition)


@routes.get("/letters/{letter}/html")
def get_html(inbox: InboxDep, letter: int) -> Response:
    """The HTML part in UTF-8, with a security policy that blocks scripts and remote content."""
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
        raise HttpProblem(404, detail)
    return file_response(files[number - 1], number)


@routes.patch("/letters/{letter}")
async def mark_letter(inbox: InboxDep, letter: int, mark: MarkRequest) -> LetterSummary:
    """Mark a letter as read or unread."""
    if not await inbox.mark(letter, read=mark.read):
        raise no_such_letter(letter)
    return letter_summary(await asyncio.to_thread(inbox.summary, letter))


@routes.delete("/letters/{letter}")
async def delete_letter(inbox: InboxDep, letter: int) -> DeletionResult:
    """Delete one letter. It can be restored for ten minutes; then its bytes are overwritten."""
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
async def erase(inbox: InboxDep, erasure: ErasureRequest) -> InboxErasureResult:
    """Erase all letters to an address at once and for good; with `dry_run` only count them."""
    if erasure.dry_run:
        return InboxErasureResult(letters=await asyncio.to_thread(inbox.store.count_to, erasure.address))
    return InboxErasureResult(letters=await inbox.erase(erasure.address))


@routes.post("/deletions/{deletion}/restore")
async def restore(inbox: InboxDep, deletion: int) -> RestoreResult:
    """Undo a deletion."""
    number = await inbox.restore(deletion)
    if not number:
        detail = f"Deletion {deletion} does not exist, is already undone, or is older than ten minutes."
        raise HttpProblem(404, detail)
    return RestoreResult(letters=number)


@routes.get("/wait")
async def wait_for_letter(
    inbox: InboxDep,
    letter_filter: FilterDep,
    wait_seconds: Annotated[
        float, Query(alias="timeout", description="The longest wait, in seconds.", ge=0, le=MAX_WAIT)
    ] = 30.0,
) -> LetterDetail:
    """Wait for a letter that meets the filter and return the oldest; 408 when none is received in time."""
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
                raise HttpProblem(408, f"No letter met the filter within {wait_seconds:g} s.")
            if isinstance(event, InboxClosed):
                raise HttpProblem(503, "The sandbox is shutting down.")


@routes.get("/events", response_class=StreamingResponse)
async def stream_events(
    inbox: InboxDep,
    last_event_id: Annotated[str | None, Header()] = None,
    after: Annotated[int | None, Query(ge=0, description="Begin with the letters after this id.")] = None,
) -> StreamingResponse:
    """Server-sent events: `letter` with its entry of the list as JSON, `changed`, `lagged`."""
    start = int(last_event_id) if last_event_id and last_event_id.isdigit() else after
    return StreamingResponse(_event_stream(inbox, start), media_type="text/event-stream")


async def _event_stream(inbox: Inbox, start: int | None) -> AsyncIterator[str]:
    with inbox.subscriptions.subscribe() as subscription:
        yield "retry: 2000\n: listening\n\n"
        last_id = start or 0
        if start is not None:
            missed = await asyncio.to_thread(
                inbox.store.find, LetterFilter(after=start), MAX_MISSED + 1, oldest_first=True
            )
            if len(missed) > MAX_MISSED:
                yield "event: lagged\ndata: {}\n\n"
                missed = []
            for letter in missed:
                last_id = letter.id
                yield format_event(letter)
        while True:
            event = await subscription.next(HEARTBEAT_SECONDS)
            if isinstance(event, InboxClosed):
                return
            # A letter that was stored while the missed letters were read is among them already.
            if event is None or not hasattr(event, "id") or event.id > last_id:
                yield format_event(event)


def format_event(event: InboxEvent | None) -> str:
    """One event in the format of the stream; a comment when there is none."""
    match event:
        case None | InboxClosed():
            return ": keep-alive\n\n"
        case LettersChanged():
            return "event: changed\ndata: {}\n\n"
        case Lagged():
            return "event: lagged\ndata: {}\n\n"
        case letter:
            data = json.dumps(letter_summary(letter).model_dump(mode="json"), ensure_ascii=True)
            return f"id: {letter.id}\nevent: letter\ndata: {data}\n\n"


# --- bodies of stored letters ----------------------------------------------------------------------


def letter_summary(letter: StoredLetter) -> LetterSummary:
    """A stored letter as an entry of the list."""
    return LetterSummary.model_validate(_summary_fields(letter))


def letter_detail(letter: StoredLetter, content: ParsedLetter) -> LetterDetail:
    """A stored letter with its content."""
    return LetterDetail.model_validate(
        _summary_fields(letter)
        | {
            "headers": [
                {"name": name, "value": decode_header_text(value)} for name, value in content.headers
            ],
            "text": plain_text(content),
            "has_html": content.first("text/html") is not None,
            "has_text": content.first("text/plain") is not None,
            "links": [{"url": link.url, "text": link.text} for link in extract_links(content)],
            "codes": one_time_codes(content, letter.subject),
            "files": [
                attachment_entry(number, part) for number, part in enumerate(content.attachments, start=1)
            ],
        }
    )


def attachment_entry(number: int, part: MimePart) -> dict[str, object]:
    """The entry of an attachment; `number` counts from 1."""
    return {
        "number": number,
        "filename": part.filename or f"part-{number}",
        "content_type": part.content_type,
        "size": len(part.payload()),
    }


def _summary_fields(letter: StoredLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "received_at": from_milliseconds(letter.received_at),
        "mail_from": letter.mail_from,
        "to": list(letter.recipients),
        "sender": letter.sender,
        "subject": letter.subject,
        "message_id": letter.message_id,
        "date": letter.date,
        "template": letter.template,
        "revision": letter.revision,
        "size": letter.size,
        "attachments": letter.attachments,
        "read": letter.read,
    }
