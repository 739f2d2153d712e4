"""Ask the programs on this machine over HTTP: JSON in, JSON out, no proxy in between.

Failure: `Unanswered` when nobody answers (nothing listens, or too slow); an HTTP error is an `Answer` like
any other. Only http on addresses that a run or the user named is called.
"""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RequestFailed(Exception):
    """Nobody answered at an address."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What came back: the status, and the body as JSON (None when it is none)."""

    status: int
    body: Any
    location: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300

    @property
    def detail(self) -> str:
        """The words of a problem document (RFC 9457), or the bare status."""
        said = self.body.get("detail") if isinstance(self.body, dict) else None
        return str(said or f"HTTP {self.status}")


def get(url: str, timeout: float = 5.0) -> HttpResponse:
    """GET; raises Unanswered."""
    return _call(urllib.request.Request(url), timeout)  # noqa: S310 - see the module's head


def post(
    url: str, body: object, headers: Mapping[str, str] | None = None, timeout: float = 15.0
) -> HttpResponse:
    """POST a JSON body; raises Unanswered."""
    data = json.dumps(body, ensure_ascii=False).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    return _call(urllib.request.Request(url, data, sent), timeout)  # noqa: S310 - see the module's head


def _call(request: urllib.request.Request, timeout: float) -> HttpResponse:
    try:
        with _DIRECT.open(request, timeout=timeout) as response:
            return HttpResponse(response.status, _json(response.read()), response.headers.get("Location"))
    except urllib.error.HTTPError as error:
        with error:
            return HttpResponse(error.code, _json(error.read()))
    except (OSError, http.client.HTTPException) as error:
        raise RequestFailed(f"{request.full_url} does not answer ({error})") from None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
