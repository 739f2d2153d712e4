"""The studio as a web server inside `postroom up`: on loopback, for browsers of this machine.

Input: a `StudioContext` and a port. Output: a server that runs on the run's own event loop until `stop`.
Failure: `Trouble` when the port is taken.
"""

import asyncio

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from postroom.http.endpoint import Endpoint
from postroom.http.host_guard import PageGuard
from postroom.http.server import web_server
from postroom.letter.problems import Rejected
from postroom.local.errors import UserError
from postroom.local.machine import LOOPBACK
from postroom.local.studio import pages
from postroom.startup import listen


def create_app(context: pages.StudioContext) -> FastAPI:
    """Routes, error pages and the guard around them."""
    app = FastAPI(title="Postroom template studio", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.context = context
    app.include_router(pages.routes)
    app.mount("/static", StaticFiles(directory=pages.SANDBOX / "static"))
    app.mount("/studio", StaticFiles(directory=pages.HERE / "static"))
    app.add_exception_handler(pages.NoSuchTemplate, pages.on_missing)
    app.add_exception_handler(HTTPException, pages.on_missing)
    app.add_middleware(PageGuard, server="studio")
    return app


class StudioServer:
    """The running server."""

    def __init__(self, context: pages.StudioContext, port: int) -> None:
        self.context = context
        self._endpoint = Endpoint(LOOPBACK, port)
        self._server = web_server(create_app(context), self._endpoint)
        self._serving: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen and serve; raises Trouble."""
        try:
            listening = listen(self._endpoint, "--port-studio")
        except Rejected as rejected:
            raise UserError(str(rejected.problems[0].message), "Name another port: --port-studio") from None
        self._serving = asyncio.create_task(self._server.serve([listening]), name="studio")

    async def stop(self) -> None:
        """Send open pages away and end."""
        self.context.studio.changes.close()
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
