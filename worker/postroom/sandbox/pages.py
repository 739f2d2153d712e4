"""The pages of the inbox. They work as plain links and forms; a small script updates them while open.

A letter is marked as read when its page is opened from the inbox itself or from the address bar. Every change
is a POST that answers with a redirect, so that the browser's Back button never repeats it; the redirect after
a deletion leads to a page with an Undo button.
"""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from postroom.http.problems import HttpProblem
from postroom.sandbox.detail_view import detail_context
from postroom.sandbox.formatting import format_count
from postroom.sandbox.inbox import Inbox, InboxDep
from postroom.sandbox.list_view import PageLocation, list_context

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
    """The list; after a deletion with a notice and an Undo button."""
    text = f"{format_count(letters, 'letter')} deleted."
    notice = None if deleted is None else {"text": text, "undo": f"/undo?deletion={deleted}"}
    context = list_context(inbox, location) | {"opened": None, "missing": None, "notice": notice}
    return _render(inbox, request, context)


@routes.get("/letters/{letter}")
async def show_letter(inbox: InboxDep, request: Request, letter: int, location: LocationDep) -> HTMLResponse:
    """The list with one letter open; marks the letter as read."""
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
    """Restore the letters of a deletion."""
    await inbox.restore(deletion)
    return _redirect("/")


@routes.post("/letters/{letter}/unread")
async def mark_unread(inbox: InboxDep, letter: int) -> RedirectResponse:
    """Mark a letter as unread and go back to the list."""
    await inbox.mark(letter, read=False)
    return _redirect("/")


@routes.post("/read-all")
async def mark_all_read(inbox: InboxDep) -> RedirectResponse:
    """Mark every letter as read."""
    await inbox.mark_all_read()
    return _redirect("/")


def _letter_page(inbox: Inbox, request: Request, letter: int, location: PageLocation) -> HTMLResponse:
    context = list_context(inbox, location) | {"notice": None}
    try:
        return _render(inbox, request, context | detail_context(inbox, letter, location))
    except HttpProblem as problem:
        return _render(inbox, request, context | {"opened": None, "missing": problem.detail}, problem.status)


def _render(inbox: Inbox, request: Request, context: dict[str, object], status: int = 200) -> HTMLResponse:
    theme = request.cookies.get("theme")
    context["studio"] = inbox.studio
    context["theme"] = theme if theme in ("light", "dark") else None
    return HTMLResponse(_environment.get_template("inbox.html").render(context), status)


def _redirect(url: str) -> RedirectResponse:
    return RedirectResponse(url, status_code=303)
