"""Who may ask: the inbox answers its own pages and local programs, not foreign web pages.

Every request must name the inbox by an IP address, by localhost or by a listed name: a name that a foreign
page has pointed at this machine (DNS rebinding) is refused with 421. Every request that changes something
must come from the inbox's own pages or from a program that is no browser. Every answer carries the headers
that keep browsers strict, unless it has set stricter ones itself.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postroom.http.server import is_allowed_host
from postroom.sandbox.problem import Refused, problem

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    # "no-referrer" would make browsers send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """ASGI middleware: refuses foreign hosts and origins, adds the headers.

    `name` is what is guarded, and `setting` the one that lists further names, where there is one.
    """

    def __init__(
        self, app: ASGIApp, allowed_hosts: Iterable[str] = (), name: str = "inbox", setting: str = ""
    ) -> None:
        self._app = app
        self._allowed = frozenset(allowed_hosts)
        self._name = name
        self._remedy = f" If it should, list the name in {setting}." if setting else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refusal, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refusal(scope["method"], Headers(scope=scope))
        app = problem(refused) if refused else self._app
        await app(scope, receive, send_guarded)

    def _refusal(self, method: str, headers: Headers) -> Refused | None:
        host = headers.get("host", "")
        if not is_allowed_host(host, self._allowed):
            return Refused(
                421,
                "Unknown host name",
                f"The {self._name} does not go by the name {host!r}.{self._remedy}",
            )
        if method not in _SAFE_METHODS and _is_foreign(headers, host):
            return Refused(
                403,
                "Foreign origin",
                f"A page of another origin may not change anything in the {self._name}.",
            )
        return None


def _is_foreign(headers: Headers, host: str) -> bool:
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc.lower() != host.lower()
    return headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
