"""The variables of a letter's page: a stored letter → its header, its tabs, and the panel of one view.

Only the selected view is prepared. A long source is cut, and the page says so; the whole letter can be
downloaded.
"""

import re
from dataclasses import dataclass, replace

from postroom.sandbox.extract import Link, extract_links, one_time_codes
from postroom.sandbox.formatting import (
    display_address,
    format_count,
    format_size,
    format_time,
    from_milliseconds,
)
from postroom.sandbox.inbox import Inbox
from postroom.sandbox.list_view import PageLocation, display_recipients, display_subject
from postroom.sandbox.mime import (
    MimePart,
    ParsedLetter,
    StoredLetter,
    decode_header_text,
    parse_letter,
    read_headers,
)
from postroom.sandbox.search import LetterFilter, parse_query

MAX_SOURCE_LINES = 3000
MAX_SOURCE = 400_000
MAX_TEXT = 400_000
VIEWS = {
    "html": ("HTML", "desktop"),
    "phone": ("Phone", "phone"),
    "dark": ("Dark", "night"),
    "text": ("Text", "text"),
    "source": ("Source", "code"),
    "headers": ("Headers", "headers"),
    "attachments": ("Attachments", "clip"),
}
_REMOTE_RESOURCE = re.compile(
    r"(?i)(?:\bsrc\s*=\s*[\"']?|\burl\(\s*[\"']?|\bbackground\s*=\s*[\"']?)(?:https?:)?//"
)
_DARK_QUERY = re.compile(r"(?i)prefers-color-scheme\s*:\s*dark")
_HEADER = re.compile(r"([!-9;-~]{1,200}):(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ViewTab:
    """The tab of one view; `number` is the count on the tab, or None."""

    name: str
    title: str
    icon: str
    url: str
    number: int | None


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of the source; `name` is set on the first line of a header."""

    name: str
    text: str


def detail_context(inbox: Inbox, number: int, location: PageLocation) -> dict[str, object]:
    """The variables of the letter's pane; raises HttpProblem 404 when the letter does not exist."""
    summary, raw = inbox.summary(number), inbox.raw(number)
    letter = parse_letter(raw)
    view = location.view if location.view in VIEWS else "html"
    html = letter.first("text/html")
    markup = html.text() if html is not None else ""
    found = extract_links(letter)
    return (
        {
            "opened": _header_context(summary),
            "view": view,
            "tabs": _tabs(number, letter, location),
            "codes": one_time_codes(letter, summary.subject),
            "links": [_link(link) for link in found],
            "links_summary": links_summary(found),
            "has_html": html is not None,
            "has_dark": bool(_DARK_QUERY.search(markup)),
            "remote_images": bool(_REMOTE_RESOURCE.search(markup)),
            "text_url": location.letter_url(number, "text"),
        }
        | _neighbor_urls(inbox, number, location)
        | _panel_context(view, letter, raw, number)
    )


def links_summary(found: list[Link]) -> str:
    """The number of links, and how many are not encrypted: `3 links, all HTTPS`."""
    unencrypted = sum(link.url.lower().startswith("http:") for link in found)
    encryption = f"{unencrypted} without HTTPS" if unencrypted else "all HTTPS"
    only_web = all(link.url.lower().startswith(("http:", "https:")) for link in found)
    return format_count(len(found), "link") + (f", {encryption}" if unencrypted or only_web else "")


def _header_context(letter: StoredLetter) -> dict[str, object]:
    moment = from_milliseconds(letter.received_at)
    name, address = _sender(letter.sender)
    return {
        "id": letter.id,
        "subject": display_subject(letter),
        "sender_name": name,
        "sender_address": address,
        "to": ", ".join(map(display_address, letter.recipients))
        if len(letter.recipients) <= 20
        else display_recipients(letter),
        "to_wire": ", ".join(letter.recipients[:20]),
        "template": letter.template,
        "revision": letter.revision,
        "template_url": PageLocation(query=f"template:{letter.template}").list_url(),
        "full": format_time(moment),
        "iso": moment.isoformat(),
        "postmark_day": f"{moment.day} {moment:%b}".upper(),
        "postmark_time": f"{moment:%H:%M}",
        "peer": letter.peer,
        "size": format_size(letter.size),
    }


def _sender(sender: str) -> tuple[str, str]:
    name, bracket, address = sender.rpartition("<")
    if not (bracket and name.strip()):
        return "", display_address(sender)
    return name.strip(' "'), f"<{display_address(address.rstrip('>'))}>"


def _tabs(number: int, letter: ParsedLetter, location: PageLocation) -> list[ViewTab]:
    numbers = {"headers": len(letter.headers), "attachments": len(letter.attachments)}
    return [
        ViewTab(name, title, icon, location.letter_url(number, name), numbers.get(name))
        for name, (title, icon) in VIEWS.items()
    ]


def _link(link: Link) -> dict[str, object]:
    safe = link.url.lower().startswith(("https://", "http://", "mailto:"))
    return {"url": link.url, "text": link.text, "safe": safe}


def _neighbor_urls(inbox: Inbox, number: int, location: PageLocation) -> dict[str, str | None]:
    parsed = parse_query(location.query)
    letter_filter = parsed if isinstance(parsed, LetterFilter) else LetterFilter()
    newer = inbox.store.find(replace(letter_filter, after=number), 1, oldest_first=True)
    older = inbox.store.find(replace(letter_filter, before=number), 1)
    return {
        "newer_url": location.letter_url(newer[0].id) if newer else None,
        "older_letter_url": location.letter_url(older[0].id) if older else None,
    }


def _panel_context(view: str, letter: ParsedLetter, raw: bytes, number: int) -> dict[str, object]:
    match view:
        case "text":
            part = letter.first("text/plain")
            text = part.text()[:MAX_TEXT] if part is not None else None
            return {"text": text, "text_size": format_size(len(text.encode())) if text else "empty"}
        case "source":
            return _source(raw)
        case "headers":
            return {"headers": [{"name": n, "value": decode_header_text(v)} for n, v in letter.headers]}
        case "attachments":
            return {"parts": _parts(letter, number), "truncated": letter.truncated}
        case _:
            return {}


def _source(raw: bytes) -> dict[str, object]:
    _, body = read_headers(raw)
    head = raw[:body].decode("utf-8", "replace").splitlines()
    shown = raw[:MAX_SOURCE].decode("utf-8", "replace").split("\n")
    lines = [_source_line(text.rstrip("\r"), index < len(head)) for index, text in enumerate(shown)]
    is_complete = len(raw) <= MAX_SOURCE and len(lines) <= MAX_SOURCE_LINES
    summary = format_count(raw.count(b"\n"), "line")
    return {
        "source": lines[:MAX_SOURCE_LINES],
        "source_summary": summary if is_complete else f"{summary}, of which the beginning is shown",
    }


def _source_line(text: str, in_head: bool) -> SourceLine:
    header = _HEADER.match(text) if in_head else None
    return SourceLine(header.group(1), header.group(2)) if header else SourceLine("", text)


def _parts(letter: ParsedLetter, number: int) -> list[dict[str, object]]:
    files = {id(part): file for file, part in enumerate(letter.attachments, start=1)}
    rows = list[dict[str, object]]()
    for index, part in enumerate(letter.parts):
        following = letter.parts[index + 1 :]
        last = not any(p.depth == part.depth for p in _siblings(following, part.depth))
        indent = "\u2003" * max(part.depth - 1, 0)
        branch = "" if not part.depth else indent + ("└ " if last else "├ ")
        file = files.get(id(part))
        rows.append(
            {
                "tree": branch,
                "indent": indent + "\u2003" if part.depth else "",
                "content_type": part.content_type,
                "filename": part.filename,
                "size": ""
                if part.content_type.startswith("multipart/")
                else format_size(len(part.payload())),
                "url": f"/api/v1/letters/{number}/attachments/{file}" if file else None,
            }
        )
    return rows


def _siblings(following: tuple[MimePart, ...], depth: int) -> list[MimePart]:
    siblings = list[MimePart]()
    for part in following:
        if part.depth < depth:
            break
        siblings.append(part)
    return siblings
