"""One letter as its page shows it: a stored letter → the front of the envelope, and one leaf.

Only the leaf that is shown is prepared. Long sources are cut with a word about it; the whole is a download
away.
"""

import re
from dataclasses import dataclass, replace

from postroom.sandbox import wording
from postroom.sandbox.extract import Link, codes, links
from postroom.sandbox.inbox import Inbox
from postroom.sandbox.listing import Place, recipients_of, subject_of
from postroom.sandbox.mime import Letter, Part, read_headers, readable, take_apart
from postroom.sandbox.search import Filter, read_query
from postroom.sandbox.summary import Summary

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
_FOREIGN = re.compile(r"(?i)(?:\bsrc\s*=\s*[\"']?|\burl\(\s*[\"']?|\bbackground\s*=\s*[\"']?)(?:https?:)?//")
_DARK = re.compile(r"(?i)prefers-color-scheme\s*:\s*dark")
_HEADER = re.compile(r"([!-9;-~]{1,200}):(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Tab:
    """One view of the letter: its name, what is written on it, where it leads, how many things are in it."""

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


def describe_letter(inbox: Inbox, number: int, place: Place) -> dict[str, object]:
    """Everything that the letter's pane needs; `Refused` with 404 when there is no such letter."""
    summary, raw = inbox.summary(number), inbox.raw(number)
    letter = take_apart(raw)
    view = place.view if place.view in VIEWS else "html"
    html = letter.first("text/html")
    markup = html.text() if html is not None else ""
    found = links(letter)
    return (
        {
            "opened": _front(summary),
            "view": view,
            "tabs": _tabs(number, letter, place),
            "codes": codes(letter, summary.subject),
            "links": [_link(link) for link in found],
            "links_said": links_said(found),
            "has_html": html is not None,
            "has_dark": bool(_DARK.search(markup)),
            "foreign_pictures": bool(_FOREIGN.search(markup)),
            "text_url": place.letter_url(number, "text"),
        }
        | _neighbours(inbox, number, place)
        | _leaf(view, letter, raw, number)
    )


def links_said(found: list[Link]) -> str:
    """How many links there are and whether they are all encrypted: `3 links, all HTTPS`."""
    plain = sum(link.url.lower().startswith("http:") for link in found)
    rest = f"{plain} without HTTPS" if plain else "all HTTPS"
    only_web = all(link.url.lower().startswith(("http:", "https:")) for link in found)
    return wording.counted(len(found), "link") + (f", {rest}" if plain or only_web else "")


def _front(letter: Summary) -> dict[str, object]:
    moment = wording.at(letter.received_at)
    name, address = _sender(letter.sender)
    return {
        "id": letter.id,
        "subject": subject_of(letter),
        "sender_name": name,
        "sender_address": address,
        "to": ", ".join(map(wording.address, letter.recipients))
        if len(letter.recipients) <= 20
        else recipients_of(letter),
        "to_wire": ", ".join(letter.recipients[:20]),
        "template": letter.template,
        "revision": letter.revision,
        "template_url": Place(query=f"template:{letter.template}").list_url(),
        "full": wording.full(moment),
        "iso": moment.isoformat(),
        "mark_day": f"{moment.day} {moment:%b}".upper(),
        "mark_time": f"{moment:%H:%M}",
        "peer": letter.peer,
        "size": wording.size(letter.size),
    }


def _sender(sender: str) -> tuple[str, str]:
    name, bracket, address = sender.rpartition("<")
    if not (bracket and name.strip()):
        return "", wording.address(sender)
    return name.strip(' "'), f"<{wording.address(address.rstrip('>'))}>"


def _tabs(number: int, letter: Letter, place: Place) -> list[Tab]:
    numbers = {"headers": len(letter.headers), "attachments": len(letter.attachments)}
    return [
        Tab(name, title, icon, place.letter_url(number, name), numbers.get(name))
        for name, (title, icon) in VIEWS.items()
    ]


def _link(link: Link) -> dict[str, object]:
    safe = link.url.lower().startswith(("https://", "http://", "mailto:"))
    return {"url": link.url, "text": link.text, "safe": safe}


def _neighbours(inbox: Inbox, number: int, place: Place) -> dict[str, str | None]:
    wanted = read_query(place.query)
    base = wanted if isinstance(wanted, Filter) else Filter()
    newer = inbox.store.find(replace(base, after=number), 1, oldest_first=True)
    older = inbox.store.find(replace(base, before=number), 1)
    return {
        "newer_url": place.letter_url(newer[0].id) if newer else None,
        "older_letter_url": place.letter_url(older[0].id) if older else None,
    }


def _leaf(view: str, letter: Letter, raw: bytes, number: int) -> dict[str, object]:
    match view:
        case "text":
            part = letter.first("text/plain")
            text = part.text()[:MAX_TEXT] if part is not None else None
            return {"text": text, "text_size": wording.size(len(text.encode())) if text else "empty"}
        case "source":
            return _source(raw)
        case "headers":
            return {"headers": [{"name": n, "value": readable(v)} for n, v in letter.headers]}
        case "attachments":
            return {"parts": _parts(letter, number), "cut": letter.cut}
        case _:
            return {}


def _source(raw: bytes) -> dict[str, object]:
    _, body = read_headers(raw)
    head = raw[:body].decode("utf-8", "replace").splitlines()
    shown = raw[:MAX_SOURCE].decode("utf-8", "replace").split("\n")
    lines = [_source_line(text.rstrip("\r"), place < len(head)) for place, text in enumerate(shown)]
    whole = len(raw) <= MAX_SOURCE and len(lines) <= MAX_SOURCE_LINES
    number = raw.count(b"\n")
    said = wording.counted(number, "line")
    return {
        "source": lines[:MAX_SOURCE_LINES],
        "source_said": said if whole else f"{said}, of which the beginning is shown",
    }


def _source_line(text: str, in_head: bool) -> SourceLine:
    header = _HEADER.match(text) if in_head else None
    return SourceLine(header.group(1), header.group(2)) if header else SourceLine("", text)


def _parts(letter: Letter, number: int) -> list[dict[str, object]]:
    files = {id(part): place for place, part in enumerate(letter.attachments, start=1)}
    rows = list[dict[str, object]]()
    for place, part in enumerate(letter.parts):
        following = letter.parts[place + 1 :]
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
                else wording.size(len(part.payload())),
                "url": f"/api/v1/letters/{number}/attachments/{file}" if file else None,
            }
        )
    return rows


def _siblings(following: tuple[Part, ...], depth: int) -> list[Part]:
    found = list[Part]()
    for part in following:
        if part.depth < depth:
            break
        found.append(part)
    return found
