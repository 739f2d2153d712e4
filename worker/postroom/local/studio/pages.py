"""The studio's pages: the list of templates, one template in its views, and what forms of it do.

Every page works as links and forms without a script; the script swaps parts of the page in place, and
renders again while the user types. What changes something is a POST and answers with a redirect.
"""

import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from email import policy
from email.parser import BytesHeaderParser
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from postroom.letter.catalog import RenderedLetter
from postroom.letter.catalog import SenderMailbox as Mailbox
from postroom.letter.data_schema import DataSchema
from postroom.letter.mime.compose import compose_letter
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.references import ObjectKey
from postroom.letter.template import SampleSpec
from postroom.letter.validation.sample_runs import SAMPLE_TIME
from postroom.local.manifests import Finding
from postroom.local.plan import command_line
from postroom.local.send import SAMPLE_RECIPIENT
from postroom.local.studio import forms
from postroom.local.studio.preview import POLICY, Scheme, frame_html, inbox_line, remote_images
from postroom.local.studio.sending import Outcome, Sender
from postroom.local.studio.source import HighlightedLine, lines_of
from postroom.local.studio.state import Draft, ShownTemplate, Studio
from postroom.sandbox import formatting

HERE = Path(__file__).parent
SANDBOX = Path(formatting.__file__).parent
CLIPPED_AT = 102 * 1024
"""Bytes of HTML after which Gmail shows no more."""
HEARTBEAT_SECONDS = 15.0
MOST_OUTCOMES = 50
LARGEST_FORM = 2 * 1024 * 1024
WIDTHS = ("320", "600", "900", "all")
SCHEMES: Mapping[str, str] = {"light": "Light", "dark": "Dark", "inverted": "Inverted"}
VIEWS = {
    "letter": ("Letter", "letter"),
    "text": ("Text", "text"),
    "inbox": ("Inbox line", "inbox"),
    "data": ("Data", "code"),
    "source": ("Source", "templates"),
    "proof": ("Proof", "check"),
}
"""Each view's name, words and icon, in the order of its tabs and keys."""

_environment = Environment(
    loader=FileSystemLoader([HERE / "templates", SANDBOX / "templates"]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["size"] = formatting.format_size

_QUOTED = re.compile(r"`([^`\n]+)`")


def _parts(message: str) -> list[tuple[str, bool]]:
    """A message in parts; true for those that it quotes in backticks."""
    return [(part, bool(place % 2)) for place, part in enumerate(_QUOTED.split(message))]


_environment.filters["parts"] = _parts
_environment.globals["words"] = _environment.get_template("words.html").module.words  # type: ignore[attr-defined]

routes = APIRouter(include_in_schema=False)


@dataclass(slots=True)
class StudioContext:
    """What the routes work with."""

    studio: Studio
    sender: Sender
    manifests: Path
    data: Path
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def keep(self, outcome: Outcome) -> str:
        """Keep what came of sending for the page that follows; the id under which it is found."""
        name = secrets.token_urlsafe(6)
        self.outcomes[name] = outcome
        while len(self.outcomes) > MOST_OUTCOMES:
            del self.outcomes[next(iter(self.outcomes))]
        return name


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at, as it stands in the address."""

    view: str = "letter"
    sample: str = ""
    locale: str = ""
    width: str = "600"
    scheme: str = "light"
    images: str = "on"
    file: str = ""
    draft: str = ""
    outcome: str = ""

    def query(self, **changes: str) -> str:
        """The query of this view with changes, without what is as always."""
        wanted = replace(self, **changes)
        known = View()
        named = {each.name: getattr(wanted, each.name) for each in fields(View)}
        changed = {name: value for name, value in named.items() if value != getattr(known, name)}
        return f"?{urlencode(changed)}" if changed else "?"


def _context(request: Request) -> StudioContext:
    context: StudioContext = request.app.state.context
    return context


def _view(request: Request) -> View:
    query = request.query_params
    named = {each.name: query[each.name] for each in fields(View) if query.get(each.name)}
    view = View(**named)
    return replace(
        view,
        view=view.view if view.view in VIEWS else "letter",
        width=view.width if view.width in WIDTHS else "600",
        scheme=view.scheme if view.scheme in SCHEMES else "light",
        images="off" if view.images == "off" else "on",
    )


Here = Annotated[StudioContext, Depends(_context)]
Looked = Annotated[View, Depends(_view)]


class NoSuchTemplate(Exception):
    """The address names a template that the folder does not have."""


# ---------- routes


@routes.get("/")
async def begin() -> RedirectResponse:
    """The studio begins with its list."""
    return RedirectResponse("/templates")


@routes.get("/templates")
async def show_list(context: Here, request: Request, q: str = "") -> HTMLResponse:
    """Every template of the folder."""
    return _page(request, context, {"opened": None, "query": q.strip()[:200]})


@routes.get("/templates/{namespace}/{name}")
async def show_template(
    context: Here, request: Request, namespace: str, name: str, view: Looked
) -> HTMLResponse:
    """One template in one view."""
    shown = _find(context, namespace, name)
    context.studio.viewed = shown.key
    described = await run_in_threadpool(_describe, context, shown, view)
    return _page(request, context, {"opened": shown, "query": "", **described})


@routes.get("/templates/{namespace}/{name}/frame")
async def show_frame(context: Here, namespace: str, name: str, view: Looked) -> Response:
    """The letter's HTML for a frame."""
    shown = _find(context, namespace, name)
    headers = {"content-security-policy": POLICY, "referrer-policy": "no-referrer"}
    html = await run_in_threadpool(_frame, context, shown, view)
    return Response(html, media_type="text/html; charset=utf-8", headers=headers)


@routes.post("/templates/{namespace}/{name}/data")
async def take_data(
    context: Here, request: Request, namespace: str, name: str, view: Looked
) -> RedirectResponse:
    """Keep what was typed into the form, and show the letter that it makes."""
    shown = _find(context, namespace, name)
    form = await _form(request)
    schema = _schema(shown)
    data = forms.read(schema, form)
    for action in ("add", "remove"):
        for pointer in form.get(action, ()):
            data = forms.change(schema, data, action, pointer)
    kept = context.studio.keep(Draft(shown.key, view.sample, data, _one(form, "recipient") or None))
    return _to(shown, view, draft=kept, outcome="")


@routes.post("/templates/{namespace}/{name}/send")
async def send_letter(
    context: Here, request: Request, namespace: str, name: str, view: Looked
) -> RedirectResponse:
    """Send the letter that is shown to the inbox."""
    shown = _find(context, namespace, name)
    form = await _form(request)
    sample = _sample(context, shown, view)
    recipient = _one(form, "recipient") or sample.recipient
    outcome = await context.sender.send(shown, sample.data, recipient, view.locale or sample.locale)
    return _to(shown, view, outcome=context.keep(outcome))


@routes.get("/events")
async def stream(context: Here, after: int = -1) -> StreamingResponse:
    """Server-sent events: `changed` with the version, now if it is not `after`, then with each save."""
    return StreamingResponse(_changes(context.studio, after), media_type="text/event-stream")


async def _changes(studio: Studio, seen: int) -> AsyncIterator[str]:
    yield "retry: 1000\n: listening\n\n"
    while True:
        version = await studio.changes.after(seen, HEARTBEAT_SECONDS)
        if studio.changes.closed:
            return
        if version == seen:
            yield ": still here\n\n"
        else:
            seen = version
            yield f"event: changed\ndata: {json.dumps({'version': version})}\n\n"


# ---------- answers


def _find(context: StudioContext, namespace: str, name: str) -> ShownTemplate:
    found = context.studio.templates.get(ObjectKey("EmailTemplate", namespace, name))
    if found is None:
        raise NoSuchTemplate(f"{namespace}/{name}")
    return found


def url_of(shown: ShownTemplate) -> str:
    """A template's page."""
    return f"/templates/{quote(shown.key.namespace, safe='')}/{quote(shown.key.name, safe='')}"


def _to(shown: ShownTemplate, view: View, **changes: str) -> RedirectResponse:
    return RedirectResponse(url_of(shown) + view.query(**changes), status_code=303)


async def on_missing(request: Request, error: Exception) -> HTMLResponse:
    """The page for a template that is not there."""
    context = _context(request)
    missing = str(error) if isinstance(error, NoSuchTemplate) else ""
    return _page(request, context, {"opened": None, "query": "", "missing": missing, "lost": True}, 404)


def _page(
    request: Request, context: StudioContext, described: dict[str, Any], status: int = 200
) -> HTMLResponse:
    theme = request.cookies.get("theme")
    query = described["query"].casefold()
    everything = context.studio.templates.values()
    shown = [each for each in everything if query in f"{each.key.namespace}/{each.key.name}".casefold()]
    page = {
        "theme": theme if theme in ("light", "dark") else None,
        "version": context.studio.changes.version,
        "inbox": context.sender.inbox,
        "templates": [_row(each) for each in shown],
        "number": len(everything),
        "namespaces": list(dict.fromkeys(each.key.namespace for each in shown)),
        "unread": context.studio.unread,
        "manifests": context.manifests,
        "check_command": command_line("check", str(context.manifests)),
        "clipped_at": CLIPPED_AT,
        "missing": None,
        "lost": False,
        **described,
    }
    return HTMLResponse(_environment.get_template("studio.html").render(page), status)


def _row(shown: ShownTemplate) -> dict[str, Any]:
    """A template in the list."""
    return {
        "key": shown.key,
        "url": url_of(shown),
        "state": state_of(shown),
        "revision": shown.compiled.revision[:7] if shown.compiled else "",
        "summary": _summary(shown),
        "locales": shown.locales,
        "samples": len(shown.source.spec.samples),
        "events": shown.source.spec.event_types,
        "layout": shown.source.spec.layout_ref.name if shown.source.spec.layout_ref else None,
        "largest": max((each.html_bytes for each in shown.results), default=None),
    }


def state_of(shown: ShownTemplate) -> dict[str, str]:
    """Class, icon and words of a template's state."""
    if shown.is_behind:
        return {"class": "poor", "icon": "failed", "words": "Last edit refused"}
    if shown.compiled is None:
        return {"class": "poor", "icon": "failed", "words": "Refused"}
    if shown.source.spec.suspend:
        return {"class": "fair", "icon": "pause", "words": "Suspended"}
    if shown.warnings:
        words = formatting.format_count(len(shown.warnings), "warning")
        return {"class": "fair", "icon": "warn", "words": words}
    return {"class": "good", "icon": "accepted", "words": "Passes"}


def _summary(shown: ShownTemplate) -> str:
    """What is wrong, in one line."""
    if not shown.errors:
        return ""
    first = shown.errors[0]
    kept = f" Revision {shown.compiled.revision[:7]} is shown." if shown.compiled else ""
    more = (
        f" {formatting.format_count(len(shown.errors) - 1, 'more error')}." if len(shown.errors) > 1 else ""
    )
    return f"Line {first.line}: {_sentence(first.message)}{more}{kept}"


def _sentence(message: str) -> str:
    return message if message.endswith((".", "?")) else f"{message}."


# ---------- one template


def _sample(context: StudioContext, shown: ShownTemplate, view: View) -> SampleSpec:
    """The sample that is looked at, with the data that was typed in its place."""
    draft = context.studio.draft(view.draft, shown.key)
    sample = shown.sample(draft.sample if draft else view.sample)
    if draft is None:
        return sample
    data = draft.data if isinstance(draft.data, dict) else {}
    recipient = draft.recipient or sample.recipient
    return sample.model_copy(update={"data": data, "recipient": recipient})


def _render(context: StudioContext, shown: ShownTemplate, view: View) -> RenderedLetter | Rejected | None:
    """The letter, why there is none, or None where no revision has passed yet."""
    if shown.compiled is None:
        return None
    draft = context.studio.draft(view.draft, shown.key)
    if draft and (problems := tuple(_unreadable(draft.data))):
        return Rejected(*problems)
    try:
        return context.studio.render(shown.key, _sample(context, shown, view), view.locale or None)
    except Rejected as rejected:
        return rejected


def _unreadable(data: Any) -> Iterator[Problem]:
    """What a form's JSON areas hold that is no JSON, or no object where all data is one area."""
    for path, rule in forms.unparsed(data):
        yield Problem(Code.VARIABLE_INVALID, path, rule)
    if not isinstance(data, dict | forms.Unparsed):
        yield Problem(Code.VARIABLE_INVALID, "data", "is no JSON object")


def _schema(shown: ShownTemplate) -> Mapping[str, Any]:
    """The schema of the data; an empty one, for a form in JSON, while the template's own is faulty."""
    schema = shown.source.spec.variables
    try:
        DataSchema(schema)
    except Rejected:
        return {}
    return schema


def _frame(context: StudioContext, shown: ShownTemplate, view: View) -> str:
    rendered = _render(context, shown, view)
    if not isinstance(rendered, RenderedLetter):
        return ""
    scheme: Scheme = "dark" if view.scheme == "dark" else "inverted" if view.scheme == "inverted" else "light"
    return frame_html(rendered.html, scheme, rendered.attachments, images=view.images == "on")


def _describe(context: StudioContext, shown: ShownTemplate, view: View) -> dict[str, Any]:
    """Everything that a template's page shows."""
    rendered = _render(context, shown, view)
    letter = rendered if isinstance(rendered, RenderedLetter) else None
    problems = rendered.problems if isinstance(rendered, Rejected) else ()
    sample = _sample(context, shown, view)
    draft = context.studio.draft(view.draft, shown.key)
    spec = shown.source.spec
    locale = view.locale or (letter.language if letter else sample.locale or spec.default_locale)
    described: dict[str, Any] = {
        "base": url_of(shown),
        "file_number": partial(_file_number, shown),
        "view": view,
        "tabs": [{"name": name, "title": words[0], "icon": words[1]} for name, words in VIEWS.items()],
        "state": state_of(shown),
        "summary": _summary(shown),
        "spec": spec,
        "letter": letter,
        "preheader": inbox_line(letter.html) if letter else "",
        "problems": problems,
        "sample": sample,
        "locale": locale,
        "draft": draft,
        "frame": _frame_address(shown, view, letter),
        "widths": WIDTHS,
        "schemes": SCHEMES,
        "html_bytes": len(letter.html.encode()) if letter else None,
        "text_bytes": len(letter.text.encode()) if letter else None,
        "remote": remote_images(letter.html) if letter else 0,
        "outcome": context.outcomes.get(view.outcome),
        "refusal": context.sender.refusal(shown),
        "recipient": sample.recipient or SAMPLE_RECIPIENT,
        "face": _stamp(shown),
        "kept": {each.name: getattr(view, each.name) for each in fields(View)},
        **_picks(shown, view),
        "variables": list(_variables(_schema(shown))),
        "send_command": _send_command(context, shown, sample),
    }
    if view.view == "inbox" and letter:
        described |= _headers(shown, letter, sample)
    if view.view == "data":
        described |= _data(shown, draft.data if draft else sample.data, problems)
    if view.view == "source":
        described |= _source(shown, view, letter)
    if view.view == "proof":
        described |= {"results": shown.results, "ticks": list(_ticks(shown))}
    return described


def _frame_address(shown: ShownTemplate, view: View, letter: RenderedLetter | None) -> str:
    """The frame's address; it changes with the letter, so that a frame that stays is not loaded again."""
    if letter is None:
        return ""
    mark = f"{hash((letter.html, letter.attachments)) & 0xFFFFFFFF:08x}"
    query = replace(view, view="letter", file="", outcome="", width="600").query()
    return f"{url_of(shown)}/frame{query}{'&' if len(query) > 1 else ''}is={mark}"


def _picks(shown: ShownTemplate, view: View) -> dict[str, Any]:
    """What can be picked: samples and languages, and the address of each choice."""
    samples = [(each.name, each.name) for each in shown.source.spec.samples]
    locales = [(tag, tag) for tag in shown.locales]
    return {
        "samples": samples,
        "locales": locales,
        "queries": {
            "sample": {name: view.query(sample=name, draft="", outcome="") for name, _ in samples},
            "locale": {tag: view.query(locale=tag, outcome="") for tag, _ in locales},
        },
    }


def _headers(shown: ShownTemplate, letter: RenderedLetter, sample: SampleSpec) -> dict[str, Any]:
    """The sender, and the headers as a worker writes them."""
    sender = letter.sender or shown.sender or Mailbox(address="profile@example.invalid")
    to = sample.recipient or SAMPLE_RECIPIENT
    try:
        raw = compose_letter(
            letter, to=to, sender=sender, message_id="studio@example.invalid", date=SAMPLE_TIME
        )
    except Rejected as rejected:
        return {"sender": sender, "headers": [(each.field, each.message) for each in rejected.problems]}
    head = BytesHeaderParser(policy=policy.default).parsebytes(raw)
    return {"sender": sender, "headers": [(name, str(value)) for name, value in head.items()]}


def _stamp(shown: ShownTemplate) -> dict[str, str]:
    """The stamp with the result of the validation."""
    ways = (
        ("poor", "ERROR", shown.errors),
        ("fair", "WARNING", shown.warnings),
        ("good", "LETTER", shown.results),
    )
    face, word, found = next((each for each in ways if each[2]), ways[2])
    return {
        "class": face,
        "number": str(len(found)),
        "words": word if len(found) == 1 else f"{word}S",
        "revision": shown.compiled.revision[:7] if shown.compiled else "",
        "mark": "REV" if shown.compiled else "NONE",
    }


def _variables(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and kind of each variable, two levels deep."""
    form = forms.build(schema, {})
    for each in form.children:
        if each.kind == "group" and each.children:
            for child in each.children:
                yield f"{each.label}.{child.label}", child.hint.partition(". ")[0]
        else:
            yield each.label, each.hint.partition(". ")[0]


def _send_command(context: StudioContext, shown: ShownTemplate, sample: SampleSpec) -> str:
    pairs = [
        f"{name}={value}" if isinstance(value, str) else f"{name}:={json.dumps(value, ensure_ascii=False)}"
        for name, value in sample.data.items()
    ]
    event = shown.source.spec.event_types[0]
    return command_line(
        "send", event, "--to", sample.recipient or SAMPLE_RECIPIENT, *pairs, data=context.data
    )


def _data(shown: ShownTemplate, data: Any, problems: tuple[Problem, ...]) -> dict[str, Any]:
    """The form, with each problem at its field."""
    schema = _schema(shown)
    form = forms.build(schema, data)
    if not problems:
        problems = tuple(_unreadable(data)) or _broken(schema, data)
    paths = set(_paths(form))
    errors: dict[str, list[str]] = {}
    general: list[str] = []
    for problem in problems:
        if problem.field in paths:
            errors.setdefault(problem.field, []).append(problem.message)
        else:
            general.append(f"{problem.field} {problem.message}")
    return {"form": form, "errors": errors, "general": general}


def _broken(schema: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[Problem, ...]:
    """What the newest schema says of data, which an older revision may have rendered."""
    try:
        DataSchema(schema).validate(data)
    except Rejected as rejected:
        return rejected.problems
    return ()


def _paths(field: forms.Field) -> Iterator[str]:
    yield field.path
    for child in field.children:
        yield from _paths(child)


def _source(shown: ShownTemplate, view: View, letter: RenderedLetter | None) -> dict[str, Any]:
    """The lines of the manifest, of the layout, or of the HTML that is sent."""
    names = [(str(number or ""), Path(file).name) for number, file in enumerate(shown.files)]
    if letter:
        names.append(("html", "HTML as sent"))
    lines: list[HighlightedLine] = []
    path = ""
    if view.file == "html" and letter:
        lines = lines_of(letter.html)
    else:
        chosen = int(view.file) if view.file.isascii() and view.file.isdigit() else 0
        path = shown.files[chosen] if chosen < len(shown.files) else shown.file
        here = [each for each in shown.findings if each.file == path]
        lines = lines_of(_text(Path(path)), here)
    elsewhere = [each for each in shown.findings if each.file != path] if path else []
    return {"files": names, "lines": lines, "path": path, "elsewhere": elsewhere}


def _file_number(shown: ShownTemplate, finding: Finding) -> str:
    """How an address names the file of a finding."""
    number = shown.files.index(finding.file) if finding.file in shown.files else 0
    return str(number or "")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"# {file} cannot be read: {error.strerror}"


def _ticks(shown: ShownTemplate) -> Iterator[str]:
    """What is in order."""
    if not shown.results:
        return
    largest = max(each.html_bytes for each in shown.results)
    yield f"{formatting.format_count(len(shown.results), 'letter')} rendered, in {', '.join(shown.locales)}"
    if largest < CLIPPED_AT:
        yield f"No letter is clipped: the largest has {formatting.format_size(largest)} of HTML"
    if all(each.rendered.text.strip() for each in shown.results):
        yield "Every letter has a text part"
    longest = max(len(each.rendered.subject) for each in shown.results)
    yield f"Subjects have up to {longest} characters"
    if all(each.rendered.unsubscribe for each in shown.results):
        yield "One-click unsubscribe is there (RFC 8058)"


async def _form(request: Request) -> dict[str, list[str]]:
    """The fields of a form; one that is too large is empty."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            return {}
    return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20_000)


def _one(form: Mapping[str, list[str]], name: str) -> str:
    return next(iter(form.get(name, ())), "").strip()
