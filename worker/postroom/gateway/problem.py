"""Errors as RFC 9457 problem details, with a JSON pointer (RFC 6901) to each field that is at fault.

Input: a `Refusal` raised by a route, or the domain's `Rejected`. Output: `application/problem+json` with
`type`, `title`, `status`, `detail` and, for broken rules, `errors: [{code, pointer, detail}]`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse

from postroom.letter.problems import Problem

TITLES = {
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Under way",
    413: "Body too large",
    415: "Content type not supported",
    421: "Host not allowed",
    422: "Message refused",
    503: "Not accepted for now",
}
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class Refusal(Exception):
    """A request that is answered with an error; `headers` are added to the answer."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more


def as_response(refusal: Refusal) -> JSONResponse:
    """The problem document of a refusal."""
    content = {
        "type": "about:blank",
        "title": TITLES.get(refusal.status, "Error"),
        "status": refusal.status,
        "detail": refusal.detail,
        **refusal.more,
    }
    return JSONResponse(content, refusal.status, refusal.headers, "application/problem+json")


def refused(problems: Sequence[Problem]) -> Refusal:
    """The 422 of broken rules; the type is stable per first code, as the reference lists them."""
    errors = [
        {"code": str(problem.code), "pointer": pointer(problem.field), "detail": problem.message}
        for problem in problems
    ]
    count = "one rule is" if len(errors) == 1 else f"{len(errors)} rules are"
    field = problems[0].field.removeprefix("$").removeprefix(".") or "the body"
    return Refusal(422, f"{count} broken: {field}: {problems[0].message}", errors=errors)


def pointer(field: str) -> str:
    """A dotted path (`data.items[2].name`) as a JSON pointer (`/data/items/2/name`); `$` is the body."""
    steps = (name or index for name, index in _STEP.findall(field.removeprefix("$")))
    return "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in steps)
