"""Errors of the HTTP side as RFC 9457 problems: what was asked, which rule it broke, and what to do."""

from fastapi import Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"


class Refused(Exception):
    """A request that cannot be answered as asked. `field` names the parameter at fault, if one is."""

    def __init__(self, status: int, title: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.field = field


def problem(refused: Refused) -> JSONResponse:
    """The answer to a refused request."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": refused.title,
        "status": refused.status,
        "detail": refused.detail,
    }
    if refused.field is not None:
        body["errors"] = [{"parameter": refused.field, "detail": refused.detail}]
    return JSONResponse(body, refused.status, media_type=MEDIA_TYPE)


def no_such_letter(letter: int) -> Refused:
    """The letter is not there, or is no more."""
    return Refused(
        404, "No such letter", f"There is no letter {letter}. It may have been deleted, or made room."
    )


async def on_refused(_request: Request, error: Exception) -> JSONResponse:
    """Answer a `Refused`."""
    assert isinstance(error, Refused)
    return problem(error)


async def on_invalid(_request: Request, error: Exception) -> JSONResponse:
    """Answer a parameter that could not be read, naming each."""
    assert isinstance(error, RequestValidationError)
    errors = [
        {"parameter": str(e["loc"][-1]), "detail": str(e["msg"])} for e in jsonable_encoder(error.errors())
    ]
    detail = "; ".join(f"{e['parameter']}: {e['detail']}" for e in errors)
    body = {
        "type": "about:blank",
        "title": "Invalid request",
        "status": 422,
        "detail": detail,
        "errors": errors,
    }
    return JSONResponse(body, 422, media_type=MEDIA_TYPE)


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Answer an unknown path or method."""
    assert isinstance(error, HTTPException)
    answer = problem(
        Refused(error.status_code, str(error.detail), f"{request.method} {request.url.path}: {error.detail}")
    )
    answer.headers.update(error.headers or {})
    return answer
