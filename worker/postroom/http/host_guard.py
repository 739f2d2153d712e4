"""Keep foreign web pages away from the HTTP servers: checks of the request's host name and origin.

An attacker's page may point its own host name at 127.0.0.1; the browser then takes the server for the page's
own origin (DNS rebinding). Such a request carries the attacker's name in `Host`. `HostGuard` answers it with
status 421: IP addresses, localhost and listed names pass. `PageGuard`, for servers with pages, also answers
403 to a change that a page of another origin asks for, and adds the headers that keep browsers strict.
"""

import ipaddress
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postroom.http.problems import HttpProblem

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    # "no-referrer" would make browsers send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_allowed_host(host: str, names: Collection[str]) -> bool:
    """Whether a Host header is an IP address, localhost, or one of `names`."""
    name = hostname(host)
    if name in names or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def hostname(host: str) -> str:
    """The name in a Host header, without the port and in lower case; empty when it cannot be parsed."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


class HostGuard:
    """ASGI middleware: answers 421 to a request under a host name that is not allowed.

    `server` names the guarded server in the answer, `setting` the variable that lists further names, if any.
    """

    def __init__(
        self, app: ASGIApp, allowed_hosts: Iterable[str] = (), *, server: str, setting: str = ""
    ) -> None:
        self._app = app
        self._allowed = frozenset(allowed_hosts)
        self._server = server
        self._remedy = f"; to allow it, add it to {setting}" if setting else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a problem document, or pass the request on."""
        problem = self._check(scope["method"], Headers(scope=scope)) if scope["type"] == "http" else None
        app = problem.response() if problem else self._app
        await app(scope, receive, send)

    def _check(self, _method: str, headers: Headers) -> HttpProblem | None:
        host = headers.get("host", "")
        if is_allowed_host(host, self._allowed):
            return None
        detail = f"the {self._server} does not answer under the host name {host!r}{self._remedy}"
        return HttpProblem(421, detail)


class PageGuard(HostGuard):
    """A `HostGuard` for a server with pages: refuses changes from foreign pages, adds security headers.

    A header that the application has set itself, such as a stricter policy, stays.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on as `HostGuard` does, and add the headers to the response."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await super().__call__(scope, receive, send_with_headers if scope["type"] == "http" else send)

    def _check(self, method: str, headers: Headers) -> HttpProblem | None:
        problem = super()._check(method, headers)
        if problem is None and method not in _SAFE_METHODS and _is_foreign(headers):
            return HttpProblem(403, f"a page of another origin may not change anything in the {self._server}")
        return problem


def _is_foreign(headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    return headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
