"""A compiled template at work: event in, the parts of one letter out.

Sources are compiled at their first letter, so that loading a hundred templates costs little. Rendering
is pure: the same event and template give the same letter. A clock may be handed in to bound its time.
"""

import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import blake2b
from typing import Any

from postroom.letter.compiled import CompiledTemplate, Edition
from postroom.letter.event import Attachment, Event
from postroom.letter.html.inline import InlineOptions, inline_page
from postroom.letter.html.plaintext import text_of_page
from postroom.letter.language.bounds import Clocks, Meter
from postroom.letter.language.environment import HTML, TEXT, Script, script_of
from postroom.letter.language.messages import Catalogue
from postroom.letter.language.origin import origins
from postroom.letter.locale import direction_of, language_of
from postroom.letter.mailboxes import filled_mailboxes, write_mailboxes
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.render import Rendered, Sender
from postroom.letter.schema import Contract

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
URL = re.compile(r"https://[!-;=?-~]+")
"""Printable ASCII but for the brackets that end a List-Unsubscribe URI (RFC 2369 §2)."""


class LiveEdition:
    """One language of a template, compiled."""

    __slots__ = (
        "_edition",
        "_html",
        "_preheader",
        "_shares",
        "_subjects",
        "_text",
        "catalogue",
        "language",
        "tag",
    )

    def __init__(self, edition: Edition, like: "LiveEdition | None" = None) -> None:
        self._edition = edition
        self.tag = edition.tag
        self.language = language_of(edition.tag)
        self.catalogue = Catalogue(edition.messages, edition.foreign_messages)
        self._subjects = [script_of(TEXT, subject.source, "spec.subject") for subject in edition.subjects]
        self._shares = [subject.weight for subject in edition.subjects]
        self._preheader = script_of(TEXT, edition.preheader, "spec.preheader") if edition.preheader else None
        page = edition.html
        self._html = like.page_like(page) if like else script_of(HTML, page, "spec.html")
        # `source` is how bundles of older releases call a text of another form: it is read from each page
        own = edition.text if edition.text_way != "source" else None
        self._text = script_of(TEXT, own, "spec.text") if own is not None else None

    def page_like(self, html: str) -> Script:
        """The script of a page that has the same constructs as this one's; any other does, too."""
        return self._html.with_text_of(html)

    def head(self, variables: Mapping[str, Any], recipient: str, meter: Meter) -> tuple[str, str]:
        """Subject and preview line."""
        subject = one_line(self._subject(recipient), variables, meter, "subject")
        if not subject:
            raise Rejected(Problem(Code.RENDER_FAILED, "spec.subject", "the subject comes out empty"))
        preheader = self._preheader.render(variables, meter).strip() if self._preheader else ""
        return subject, preheader

    def body(self, variables: Mapping[str, Any], meter: Meter) -> tuple[str, str]:
        """HTML and text."""
        html = self._html.render(variables, meter)
        if self._edition.inline == "render":
            html = inline_page(html, self._edition.css, options_of(self._edition))
        if self._text is not None:
            return html, self._text.render(variables, meter)
        return html, text_of_page(html)

    def _subject(self, recipient: str) -> Script:
        if len(self._subjects) == 1:
            return self._subjects[0]
        digest = blake2b(recipient.encode(), digest_size=8, person=b"subject").digest()
        place = int.from_bytes(digest, "big") % sum(self._shares)
        for script, share in zip(self._subjects, self._shares, strict=True):
            place -= share
            if place < 0:
                return script
        raise AssertionError("the shares cover every place")


def options_of(edition: Edition) -> InlineOptions:
    """What the template asks of the inliner."""
    return InlineOptions(frozenset(edition.attributes), edition.keep_styles)


def one_line(script: Script, variables: Mapping[str, Any], meter: Meter, field: str) -> str:
    """Rendered, without spaces around it. Raises Rejected (control_character) for line ends and the like."""
    text = script.render(variables, meter).strip(" ")
    found = CONTROL.search(text)
    if found:
        names = origins(script.source, variables, CONTROL)
        origin = f"; it comes from {', '.join(f'`{name}`' for name in names)}" if names else ""
        message = f"control character U+{ord(found.group()):04X}, which could begin another header{origin}"
        raise Rejected(Problem(Code.CONTROL_CHARACTER, field, message))
    return text


class Live:
    """The LiveTemplate that bundles give."""

    def __init__(
        self, compiled: CompiledTemplate, clocks: Clocks | None = None, like: "Live | None" = None
    ) -> None:
        """`like` has the same languages with the same constructs in their pages, and lends its code."""
        self.compiled = compiled
        self._clocks = clocks
        self._like = like
        self._editions: dict[str, LiveEdition] = {}
        self._sources = {edition.tag.lower(): edition for edition in compiled.editions}

    @property
    def name(self) -> str:
        """The object's name."""
        return self.compiled.name

    @property
    def revision(self) -> str:
        """The content hash."""
        return self.compiled.revision

    @property
    def suspended(self) -> bool:
        """Whether letters of this template are held."""
        return self.compiled.suspend

    @property
    def category(self) -> str:
        """What kind of letter it is to whoever gets it."""
        return self.compiled.category

    @cached_property
    def contract(self) -> Contract:
        """The schema, compiled."""
        return Contract(self.compiled.variables)

    @cached_property
    def _headers(self) -> tuple[tuple[str, Script], ...]:
        return tuple(
            (name, script_of(TEXT, source, f"spec.headers[{name}]")) for name, source in self.compiled.headers
        )

    @cached_property
    def _unsubscribe(self) -> Script | None:
        source = self.compiled.unsubscribe_url
        return script_of(TEXT, source, "spec.unsubscribeUrl") if source else None

    @cached_property
    def _files(self) -> tuple[Attachment, ...]:
        files = self.compiled.attachments
        return tuple(
            Attachment(f.filename, f.content_type, b64decode(f.content), f.content_id) for f in files
        )

    @cached_property
    def _sender(self) -> Sender | None:
        mailbox = self.compiled.sender
        return Sender(address=mailbox[1], name=mailbox[0]) if mailbox else None

    def expires(self, event: Event) -> datetime | None:
        """The event's own time, else its time plus expiresAfter."""
        if event.expires is not None or self.compiled.expires_after is None:
            return event.expires
        try:
            return event.time + timedelta(seconds=self.compiled.expires_after)
        except OverflowError:  # an event of the year 9999 outlives every calendar
            return None

    def edition(self, locale: str | None) -> LiveEdition:
        """The nearest language: `de-AT`, else `de`, else the template's own."""
        tag = (locale or "").lower()
        while tag and tag not in self._sources:
            tag = tag.rpartition("-")[0]
        source = self._sources[tag] if tag else self.compiled.editions[0]
        if source.tag not in self._editions:
            like = self._like.edition(source.tag) if self._like else None
            self._editions[source.tag] = LiveEdition(source, like)
        return self._editions[source.tag]

    def render(self, event: Event) -> Rendered:
        """Validate `event.data` and render. Raises Rejected (variable_…, render_failed, render_limit)."""
        return self.write(event, self.contract.admit(event.data))

    def write(self, event: Event, data: Mapping[str, Any]) -> Rendered:
        """Render data that has been admitted."""
        meter = Meter(self._clocks)
        edition = self.edition(event.locale)
        letter = facts(event, edition)
        variables = {**data, "letter": letter, "_messages": edition.catalogue}
        unsubscribe = letter["unsubscribe_url"] = self._unsubscribe_link(variables, meter)
        letter["subject"], letter["preheader"] = edition.head(variables, event.recipient, meter)
        html, text = edition.body(variables, meter)
        return Rendered(
            template=self.compiled.name,
            revision=self.compiled.revision,
            subject=letter["subject"],
            html=html,
            text=text,
            sender=self._sender,
            reply_to=event.reply_to or self._reply_to(variables, meter),
            headers=tuple((name, one_line(s, variables, meter, name)) for name, s in self._headers),
            attachments=self._attachments(event),
            language=edition.tag,
            unsubscribe=unsubscribe,
        )

    def _attachments(self, event: Event) -> tuple[Attachment, ...]:
        """The template's files and the event's, which take the place of those with their content ID."""
        replaced = {file.content_id for file in event.attachments if file.content_id}
        return tuple(file for file in self._files if file.content_id not in replaced) + event.attachments

    @cached_property
    def _mailboxes(self) -> tuple[tuple[Script, Script], ...]:
        return tuple(
            (script_of(TEXT, name, "spec.replyTo"), script_of(TEXT, address, "spec.replyTo"))
            for name, address in self.compiled.reply_to_list
        )

    def _reply_to(self, variables: Mapping[str, Any], meter: Meter) -> str | None:
        """The template's list; an address that comes out empty is left out. Raises Rejected."""
        if not self._mailboxes:
            return self.compiled.reply_to
        rendered = [
            (
                one_line(name, variables, meter, "spec.replyTo"),
                one_line(each, variables, meter, "spec.replyTo"),
            )
            for name, each in self._mailboxes
        ]
        return write_mailboxes(filled_mailboxes(rendered, "spec.replyTo")) or None

    def _unsubscribe_link(self, variables: Mapping[str, Any], meter: Meter) -> str | None:
        if self._unsubscribe is None:
            return None
        url = self._unsubscribe.render(variables, meter).strip()
        if not URL.fullmatch(url):
            message = "is not an https URL in plain ASCII; one-click unsubscribe needs one (RFC 8058)"
            raise Rejected(Problem(Code.RENDER_FAILED, "spec.unsubscribeUrl", message))
        return url


FACTS = (
    "direction",
    "event_type",
    "language",
    "locale",
    "preheader",
    "recipient",
    "subject",
    "time",
    "unsubscribe_url",
)
"""What templates may ask of `letter`."""


def facts(event: Event, edition: LiveEdition) -> dict[str, Any]:
    """The variable `letter`: what Postroom knows beside the event's data."""
    asked = event.locale or ""
    spoken = asked if language_of(asked) == edition.language else edition.tag
    return {
        "direction": direction_of(spoken),
        "event_type": event.type,
        "language": language_of(spoken),
        "locale": spoken,
        "preheader": "",
        "recipient": event.recipient,
        "subject": "",
        "time": event.time.isoformat(),
        "unsubscribe_url": None,
    }
