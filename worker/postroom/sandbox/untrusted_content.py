"""What a stranger wrote, handed to a browser: a letter's HTML, its pictures and its files.

Each answer carries a policy of its own, stricter than the pages': the HTML runs no script, sends no form,
loads no style, font or frame, and no picture but its own. It is meant for an `<iframe sandbox>` and stays as
harmless when opened by itself, since the policy sandboxes it too.
"""

import re
from html import unescape
from urllib.parse import quote, unquote

from fastapi import APIRouter, Request, Response

from postroom.sandbox.inbox import InboxDep
from postroom.sandbox.mime import MimePart, ParsedLetter
from postroom.sandbox.problem import Refused

IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/avif"})
_SCROLLBAR = "<style>html { scrollbar-width: thin; scrollbar-color: #8a929b transparent }</style>"
"""In the page's frame: a browser's own bar would be a white strip beside a dark letter."""
SEALED_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"

_CID = re.compile(
    r"""(?i)((?:["'=(,]|&(?:quot|apos|#34|#39);)\s*)cid:((?:[^\s"'<>()\\,;&]|&(?:#64|#x40|commat);){1,300})"""
)
"""A reference in an attribute, in `url(…)` or behind a srcset's comma; quotes may be character references."""
_COLOR_SCHEME_QUERY = re.compile(r"(?i)\(\s*prefers-color-scheme\s*:\s*(dark|light)\s*\)")
_ALWAYS, _NEVER = "(min-width: 0px)", "(max-width: 0px)"

routes = APIRouter(include_in_schema=False)


@routes.get("/letters/{letter}/frame")
def frame(inbox: InboxDep, request: Request, letter: int, scheme: str = "light") -> Response:
    """The letter's HTML for the page's frame, as a reader with a light or dark screen gets it."""
    return html_response(inbox.letter(letter), letter, host=request.headers.get("host", ""), scheme=scheme)


@routes.get("/letters/{letter}/pictures/{place}")
def picture(inbox: InboxDep, letter: int, place: str) -> Response:
    """A picture that the letter brought with it and names by `cid:`."""
    part = next((p for p in inbox.letter(letter).parts if p.path == place), None)
    if part is None or part.content_type not in IMAGE_TYPES:
        raise Refused(404, "No such picture", f"Letter {letter} has no picture at {place!r}.")
    return Response(
        part.payload(), media_type=part.content_type, headers={"content-security-policy": SEALED_POLICY}
    )


def html_response(letter: ParsedLetter, number: int, host: str = "", scheme: str | None = None) -> Response:
    """The letter's HTML with its own pictures linked; `Refused` with 404 when it has no HTML part."""
    part = letter.first("text/html")
    if part is None:
        raise Refused(404, "No HTML part", f"Letter {number} has no HTML part.")
    html = _link_images(part.text(), letter, number)
    if scheme is not None:
        html = with_color_scheme(html, dark=scheme == "dark") + _SCROLLBAR
    # Only this letter's pictures: a letter must not reach any other address of the inbox, not even with GET.
    pictures = f" {host}/letters/{number}/pictures/" if re.fullmatch(r"[\w.:\[\]-]+", host) else ""
    policy = (
        f"default-src 'none'; img-src data:{pictures}; style-src 'unsafe-inline'; sandbox; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    headers = {"content-security-policy": policy, "referrer-policy": "no-referrer"}
    return Response(html, media_type="text/html; charset=utf-8", headers=headers)


def file_response(part: MimePart, number: int) -> Response:
    """An attachment as a download, whatever type it claims."""
    name = part.filename or f"part-{number}"
    plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)
    headers = {
        "content-disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "content-security-policy": SEALED_POLICY,
    }
    return Response(part.payload(), media_type="application/octet-stream", headers=headers)


def with_color_scheme(html: str, *, dark: bool) -> str:
    """Decide `prefers-color-scheme` here, since not every browser lets a page decide it for a frame."""

    def decided(match: re.Match[str]) -> str:
        return _ALWAYS if (match.group(1).lower() == "dark") == dark else _NEVER

    return _COLOR_SCHEME_QUERY.sub(decided, html)


def _link_images(html: str, letter: ParsedLetter, number: int) -> str:
    def linked(match: re.Match[str]) -> str:
        part = letter.by_content_id(unquote(unescape(match.group(2))))
        if part is None or part.content_type not in IMAGE_TYPES:
            return match.group(0)
        return f"{match.group(1)}/letters/{number}/pictures/{part.path}"

    return _CID.sub(linked, html)
