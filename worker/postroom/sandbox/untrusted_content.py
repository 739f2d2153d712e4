"""Serve untrusted content of letters to a browser: HTML, images and attachments.

Each response has its own security policy, stricter than that of the pages: the HTML runs no script, submits
no form, loads no style sheet, font or frame, and no image but those of its letter. It is meant for an
`<iframe sandbox>`; opened by itself it is as harmless, since the policy sandboxes it too.
"""

import re
from html import unescape
from urllib.parse import quote, unquote

from fastapi import APIRouter, Request, Response

from postroom.http.problems import HttpProblem
from postroom.sandbox.inbox import InboxDep
from postroom.sandbox.mime import MimePart, ParsedLetter

IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/avif"})
_SCROLLBAR = "<style>html { scrollbar-width: thin; scrollbar-color: #8a929b transparent }</style>"
"""For the page's frame: the browser's default scrollbar would be a white strip beside a dark letter."""
SEALED_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"

_CID = re.compile(
    r"""(?i)((?:["'=(,]|&(?:quot|apos|#34|#39);)\s*)cid:((?:[^\s"'<>()\\,;&]|&(?:#64|#x40|commat);){1,300})"""
)
"""A reference in an attribute, in `url(…)` or after a comma of `srcset`; also with quotes as entities."""
_COLOR_SCHEME_QUERY = re.compile(r"(?i)\(\s*prefers-color-scheme\s*:\s*(dark|light)\s*\)")
_ALWAYS, _NEVER = "(min-width: 0px)", "(max-width: 0px)"

routes = APIRouter(include_in_schema=False)


@routes.get("/letters/{letter}/frame")
def frame(inbox: InboxDep, request: Request, letter: int, scheme: str = "light") -> Response:
    """The letter's HTML for the page's frame, in the light or dark color scheme."""
    return html_response(inbox.letter(letter), letter, host=request.headers.get("host", ""), scheme=scheme)


@routes.get("/letters/{letter}/pictures/{path}")
def picture(inbox: InboxDep, letter: int, path: str) -> Response:
    """An image part of the letter, which its HTML refers to by `cid:`."""
    part = next((p for p in inbox.letter(letter).parts if p.path == path), None)
    if part is None or part.content_type not in IMAGE_TYPES:
        raise HttpProblem(404, f"Letter {letter} has no image at {path!r}.")
    return Response(
        part.payload(), media_type=part.content_type, headers={"content-security-policy": SEALED_POLICY}
    )


def html_response(letter: ParsedLetter, number: int, host: str = "", scheme: str | None = None) -> Response:
    """The letter's HTML with links to its own images; raises HttpProblem 404 when it has no HTML part."""
    part = letter.first("text/html")
    if part is None:
        raise HttpProblem(404, f"Letter {number} has no HTML part.")
    html = _link_images(part.text(), letter, number)
    if scheme is not None:
        html = with_color_scheme(html, dark=scheme == "dark") + _SCROLLBAR
    # Only this letter's images: a letter must not reach any other URL of the inbox, not even with GET.
    images = f" {host}/letters/{number}/pictures/" if re.fullmatch(r"[\w.:\[\]-]+", host) else ""
    policy = (
        f"default-src 'none'; img-src data:{images}; style-src 'unsafe-inline'; sandbox; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    headers = {"content-security-policy": policy, "referrer-policy": "no-referrer"}
    return Response(html, media_type="text/html; charset=utf-8", headers=headers)


def file_response(part: MimePart, number: int) -> Response:
    """An attachment as a download, regardless of its declared type."""
    name = part.filename or f"part-{number}"
    plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)
    headers = {
        "content-disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "content-security-policy": SEALED_POLICY,
    }
    return Response(part.payload(), media_type="application/octet-stream", headers=headers)


def with_color_scheme(html: str, *, dark: bool) -> str:
    """Evaluate `prefers-color-scheme` here: not every browser lets a page set it for a frame."""

    def evaluate(match: re.Match[str]) -> str:
        return _ALWAYS if (match.group(1).lower() == "dark") == dark else _NEVER

    return _COLOR_SCHEME_QUERY.sub(evaluate, html)


def _link_images(html: str, letter: ParsedLetter, number: int) -> str:
    def link(match: re.Match[str]) -> str:
        part = letter.by_content_id(unquote(unescape(match.group(2))))
        if part is None or part.content_type not in IMAGE_TYPES:
            return match.group(0)
        return f"{match.group(1)}/letters/{number}/pictures/{part.path}"

    return _CID.sub(link, html)
