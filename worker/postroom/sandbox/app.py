"""The sandbox's HTTP side, put together: an `Inbox` → an ASGI application."""

from collections.abc import Iterable

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from postroom.sandbox import api, events, health, letters, pages
from postroom.sandbox.guard import Guard
from postroom.sandbox.inbox import Inbox
from postroom.sandbox.problem import Refused, on_http_error, on_invalid, on_refused

VERSION = "1"


def create_app(inbox: Inbox, allowed_hosts: Iterable[str] = ()) -> FastAPI:
    """Routes, error answers and the guard around them.

    FastAPI's own documentation pages load scripts from elsewhere, so they are off.
    """
    app = FastAPI(
        title="Postroom sandbox",
        version=VERSION,
        description="The letters that the sandbox has captured.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.inbox = inbox
    for module in (health, api, events, letters, pages):
        app.include_router(module.routes)
    app.mount("/static", StaticFiles(directory=pages.HERE / "static"))
    app.add_exception_handler(Refused, on_refused)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_middleware(
        Guard, allowed_hosts=frozenset(allowed_hosts), setting="POSTROOM_SANDBOX_ALLOWED_HOSTS"
    )
    return app
