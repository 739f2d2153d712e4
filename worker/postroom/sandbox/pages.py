"""The inbox as pages: every one works as plain links and forms, a small script makes them live.

A letter is marked read when its page is opened from the inbox itself or by hand. What changes something is a
POST and answers with a redirect, so that going back never repeats it; a deletion's redirect carries its undo.
"""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from postroom.sandbox import formatting
from postroom.sandbox.detail_view import detail_context
from postroom.sandbox.inbox import Inbox, InboxDep
from postroom.sandbox.list_view import PageLocation, list_context
from postroom.sandbox.problem import Refused

PACKAGE = Path(__file__).parent

_environment = Environment(
    loader=FileSystemLoader(PACKAGE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

routes = APIRouter(include_in_schema=False)


def _page_location(
    q: Annotated[str, Query(max_length=500)] = "",
    before: Annotated[int | None, Query(ge=1)] = None,
    view: Annotated[str, Query(max_length=20)] = "html",
) -> PageLocation:
    return PageLocation(q.strip(), before, view)


LocationDep = Annotated[PageLocation, Depends(_page_location)]


@routes.get("/")
def show_list(
    inbox: InboxDep,
    request: Request,
    location: LocationDep,
    deleted: Annotated[int | None, Query(ge=1)] = None,
    letters: Annotated[int, Query(ge=1)] = 1,
) -> HTMLResponse:
    """The list; after a deletion with the way to undo it."""
    said = f"{formatting.format_count(letters, 'letter')} deleted."
    notice = None if deleted is None else {"text": said, "undo": f"/undo?deletion={deleted}"}
    return _render(
        inbox, request, list_context(inbox, location) | {"opened": None, "missing": None, "notice": notice}
    )


@routes.get("/letters/{letter}")
async def show_letter(inbox: InboxDep, request: Request, letter: int, location: LocationDep) -> HTMLResponse:
    """The list with one letter opened, and that letter marked read."""
    if request.headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        await inbox.mark(letter, read=True)
    return await run_in_threadpool(_letter_page, inbox, request, letter, location)


@routes.post("/letters/{letter}/delete")
async def delete_letter(inbox: InboxDep, letter: int) -> RedirectResponse:
    """Delete a letter and go back to the list."""
    deletion, number = await inbox.delete(letter)
    return _redirect(f"/?deleted={deletion}&letters={number}" if number else "/")


@routes.post("/delete-all")
async def delete_all(inbox: InboxDep) -> RedirectResponse:
    """Delete every letter."""
    deletion, number = await inbox.delete()
    return _redirect(f"/?deleted={deletion}&letters={number}" if number else "/")


@routes.post("/undo")
async def undo(inbox: InboxDep, deletion: Annotated[int, Query(ge=1)]) -> RedirectResponse:
    """Bring back what a deletion took."""
    await inbox.restore(deletion)
    return _redirect("/")


@routes.post("/letters/{letter}/unread")
async def mark_unread(inbox: InboxDep, letter: int) -> RedirectResponse:
    """Mark a letter unread and go back to the list."""
    await inbox.mark(letter, read=False)
    return _redirect("/")


@routes.post("/read-all")
async def mark_all_read(inbox: InboxDep) -> RedirectResponse:
    """Mark every letter read."""
    await inbox.mark_all_read()
    return _redirect("/")


def _letter_page(inbox: Inbox, request: Request, letter: int, location: PageLocation) -> HTMLResponse:
    shown = list_context(inbox, location) | {"notice": None}
    try:
        return _render(inbox, request, shown | detail_context(inbox, letter, location))
    except Refused as refused:
        return _render(inbox, request, shown | {"opened": None, "missing": refused.detail}, refused.status)


def _render(inbox: Inbox, request: Request, shown: dict[str, object], status: int = 200) -> HTMLResponse:
    theme = request.cookies.get("theme")
    shown["studio"] = inbox.studio
    shown["theme"] = theme if theme in ("light", "dark") else None
    return HTMLResponse(_environment.get_template("inbox.html").render(shown), status)


def _redirect(url: str) -> RedirectResponse:
    return RedirectResponse(url, status_code=303)
