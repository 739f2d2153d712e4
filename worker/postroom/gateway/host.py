"""Refuse requests under a foreign host name, so that a web page cannot reach the API by DNS rebinding.

An attacker's page may point its own name at 127.0.0.1; the browser then takes the API for the page's own
origin. Such a request carries the attacker's name in `Host`: addresses, localhost and listed names pass,
any other name is answered with 421.
"""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from postroom.gateway.problem import Refusal, as_response
from postroom.http.server import is_allowed_host


class HostGuard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, allowed: Collection[str] = ()) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_allowed_host(
            Headers(scope=scope).get("host", ""), self._allowed
        ):
            refusal = Refusal(421, "this host name is not allowed; add it to POSTROOM_GATEWAY_ALLOWED_HOSTS")
            await as_response(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)
