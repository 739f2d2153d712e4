"""HTTP client for the programs on this machine: JSON in, JSON out, without a proxy.

Input: a URL that the run or the user named (http only), and a JSON body. Output: an `HttpResponse`, also for
an HTTP error status. Failure: `RequestFailed` when nothing listens at the address or no response arrives in
time.
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
    """No HTTP response arrived from an address."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The status, and the body as JSON (None when the body is not JSON)."""

    status: int
    body: Any
    location: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def detail(self) -> str:
        """The `detail` of a problem document (RFC 9457), or the status."""
        detail = self.body.get("detail") if isinstance(self.body, dict) else None
        return str(detail or f"HTTP {self.status}")


def get(url: str, timeout: float = 5.0) -> HttpResponse:
    """Send a GET request; raises RequestFailed."""
    return _call(urllib.request.Request(url), timeout)  # noqa: S310 - see the module's docstring


def post(
    url: str, body: object, headers: Mapping[str, str] | None = None, timeout: float = 15.0
) -> HttpResponse:
    """Send a POST request with a JSON body; raises RequestFailed."""
    data = json.dumps(body, ensure_ascii=False).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    return _call(urllib.request.Request(url, data, sent), timeout)  # noqa: S310 - see the module's docstring


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
