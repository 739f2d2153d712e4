"""Errors of the HTTP servers as problem documents (RFC 9457).

Input: an `HttpProblem` that a route raises, the domain's `Rejected`, a parameter that FastAPI cannot read, or
an unknown path or method. Output: `application/problem+json` with `type`, `title`, `status` and `detail`.
`errors` lists the fields at fault: `{code, pointer, detail}` for a field of the body, with a JSON pointer
(RFC 6901), or `{parameter, detail}` for a parameter of the query or path.

`add_problem_handler` installs the one handler for all of them in an application.
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from postroom.letter.problems import Problem, Rejected

MEDIA_TYPE = "application/problem+json"
RENAMED_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
"""Status phrases of RFC 9110 that have older names in the standard library."""
_PATH_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class HttpProblem(Exception):
    """A request that is answered with an error status.

    `headers` are added to the response, `members` to the document (RFC 9457 §3.2).
    """

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    @property
    def title(self) -> str:
        """The phrase of the status, as RFC 9457 §4.2.1 requires for the type `about:blank`."""
        return RENAMED_TITLES.get(self.status) or HTTPStatus(self.status).phrase

    def response(self) -> JSONResponse:
        """The problem document."""
        document = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        return JSONResponse(document | self.members, self.status, self.headers, MEDIA_TYPE)


def broken_rules(problems: Sequence[Problem]) -> HttpProblem:
    """Status 422 for rules that the body breaks; `errors` names each field."""
    errors = [
        {"code": str(problem.code), "pointer": json_pointer(problem.field), "detail": problem.message}
        for problem in problems
    ]
    count = "one rule is" if len(errors) == 1 else f"{len(errors)} rules are"
    field = problems[0].field.removeprefix("$").removeprefix(".") or "the body"
    return HttpProblem(422, f"{count} broken: {field}: {problems[0].message}", errors=errors)


def invalid_parameter(name: str, detail: str) -> HttpProblem:
    """Status 422 for one parameter of the query."""
    return HttpProblem(422, detail, errors=[{"parameter": name, "detail": detail}])


def json_pointer(field: str) -> str:
    """A dotted path (`data.items[2].name`) as a JSON pointer (`/data/items/2/name`); `$` is the body."""
    steps = (name or index for name, index in _PATH_STEP.findall(field.removeprefix("$")))
    return "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in steps)


def add_problem_handler(app: FastAPI) -> None:
    """Answer every expected error of an application with a problem document."""
    for error in (HttpProblem, Rejected, RequestValidationError, HTTPException):
        app.add_exception_handler(error, _answer_error)


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    return _as_problem(request, error).response()


def _as_problem(request: Request, error: Exception) -> HttpProblem:
    match error:
        case HttpProblem():
            return error
        case Rejected():
            return broken_rules(error.problems)
        case RequestValidationError():
            return _unreadable_parameters(error)
        case HTTPException():
            detail = f"{request.method} {request.url.path}: {error.detail}"
            return HttpProblem(error.status_code, detail, headers=error.headers)
        case _:
            raise error


def _unreadable_parameters(error: RequestValidationError) -> HttpProblem:
    errors = [
        {"parameter": str(found["loc"][-1]), "detail": str(found["msg"])}
        for found in jsonable_encoder(error.errors())
    ]
    detail = "; ".join(f"{found['parameter']}: {found['detail']}" for found in errors)
    return HttpProblem(422, detail, errors=errors)
