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

from postroom.sandbox import wording
from postroom.sandbox.inbox import Here, Inbox
from postroom.sandbox.listing import Place, describe
from postroom.sandbox.problem import Refused
from postroom.sandbox.reading import describe_letter

HERE = Path(__file__).parent

_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

routes = APIRouter(include_in_schema=False)


def _place(
    q: Annotated[str, Query(max_length=500)] = "",
    before: Annotated[int | None, Query(ge=1)] = None,
    view: Annotated[str, Query(max_length=20)] = "html",
) -> Place:
    return Place(q.strip(), before, view)


Where = Annotated[Place, Depends(_place)]


@routes.get("/")
def show_list(
    inbox: Here,
    request: Request,
    place: Where,
    deleted: Annotated[int | None, Query(ge=1)] = None,
    letters: Annotated[int, Query(ge=1)] = 1,
) -> HTMLResponse:
    """The list; after a deletion with the way to undo it."""
    said = f"{wording.counted(letters, 'letter')} deleted."
    notice = None if deleted is None else {"text": said, "undo": f"/undo?deletion={deleted}"}
    return _page(inbox, request, describe(inbox, place) | {"opened": None, "missing": None, "notice": notice})


@routes.get("/letters/{letter}")
async def show_letter(inbox: Here, request: Request, letter: int, place: Where) -> HTMLResponse:
    """The list with one letter opened, and that letter marked read."""
    if request.headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        await inbox.mark(letter, read=True)
    return await run_in_threadpool(_show, inbox, request, letter, place)


@routes.post("/letters/{letter}/delete")
async def delete_letter(inbox: Here, letter: int) -> RedirectResponse:
    """Delete a letter and go back to the list."""
    deletion, number = await inbox.delete(letter)
    return _to(f"/?deleted={deletion}&letters={number}" if number else "/")


@routes.post("/delete-all")
async def delete_all(inbox: Here) -> RedirectResponse:
    """Delete every letter."""
    deletion, number = await inbox.delete()
    return _to(f"/?deleted={deletion}&letters={number}" if number else "/")


@routes.post("/undo")
async def undo(inbox: Here, deletion: Annotated[int, Query(ge=1)]) -> RedirectResponse:
    """Bring back what a deletion took."""
    await inbox.restore(deletion)
    return _to("/")


@routes.post("/letters/{letter}/unread")
async def mark_unread(inbox: Here, letter: int) -> RedirectResponse:
    """Mark a letter unread and go back to the list."""
    await inbox.mark(letter, read=False)
    return _to("/")


@routes.post("/read-all")
async def mark_all_read(inbox: Here) -> RedirectResponse:
    """Mark every letter read."""
    await inbox.mark_all_read()
    return _to("/")


def _show(inbox: Inbox, request: Request, letter: int, place: Place) -> HTMLResponse:
    shown = describe(inbox, place) | {"notice": None}
    try:
        return _page(inbox, request, shown | describe_letter(inbox, letter, place))
    except Refused as refused:
        return _page(inbox, request, shown | {"opened": None, "missing": refused.detail}, refused.status)


def _page(inbox: Inbox, request: Request, shown: dict[str, object], status: int = 200) -> HTMLResponse:
    theme = request.cookies.get("theme")
    shown["studio"] = inbox.studio
    shown["theme"] = theme if theme in ("light", "dark") else None
    return HTMLResponse(_environment.get_template("inbox.html").render(shown), status)


def _to(url: str) -> RedirectResponse:
    return RedirectResponse(url, status_code=303)
