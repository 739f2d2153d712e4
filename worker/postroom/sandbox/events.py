"""Live news as server-sent events.

A `letter` for each arrival; `changed` when marks or deletions made a list old; `behind` when more came than
was taken. `Last-Event-ID` (or `?after=`) picks up where a broken connection stopped. A comment every fifteen
seconds keeps proxies from closing a quiet stream.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from postroom.sandbox.arrivals import Behind, Changed, Closed, News
from postroom.sandbox.inbox import Here, Inbox
from postroom.sandbox.search import Filter
from postroom.sandbox.shapes import line

HEARTBEAT = 15.0
MAX_REPLAY = 200

routes = APIRouter(prefix="/api/v1", tags=["letters"])


@routes.get("/events", response_class=StreamingResponse)
async def stream_events(
    inbox: Here,
    last_event_id: Annotated[str | None, Header()] = None,
    after: Annotated[int | None, Query(ge=0, description="Begin with the letters after this id.")] = None,
) -> StreamingResponse:
    """Server-sent events: `letter` with a line of the list as JSON, `changed`, `behind`."""
    start = int(last_event_id) if last_event_id and last_event_id.isdigit() else after
    return StreamingResponse(_stream(inbox, start), media_type="text/event-stream")


async def _stream(inbox: Inbox, start: int | None) -> AsyncIterator[str]:
    with inbox.arrivals.listening() as listener:
        yield "retry: 2000\n: listening\n\n"
        seen = start or 0
        if start is not None:
            missed = await asyncio.to_thread(
                inbox.store.find, Filter(after=start), MAX_REPLAY + 1, oldest_first=True
            )
            if len(missed) > MAX_REPLAY:
                yield "event: behind\ndata: {}\n\n"
                missed = []
            for letter in missed:
                seen = letter.id
                yield told(letter)
        while True:
            news = await listener.next(HEARTBEAT)
            if isinstance(news, Closed):
                return
            # A letter that came while the missed ones were read is in both.
            if news is None or not hasattr(news, "id") or news.id > seen:
                yield told(news)


def told(news: News | None) -> str:
    """One piece of news in the stream's form; a comment when there is none."""
    match news:
        case None | Closed():
            return ": still here\n\n"
        case Changed():
            return "event: changed\ndata: {}\n\n"
        case Behind():
            return "event: behind\ndata: {}\n\n"
        case letter:
            data = json.dumps(line(letter).model_dump(mode="json"), ensure_ascii=True)
            return f"id: {letter.id}\nevent: letter\ndata: {data}\n\n"
