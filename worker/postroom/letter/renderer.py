"""Render letters from compiled templates: an event in, the parts of one letter out.

`TemplateRenderer` renders one template, `LoadedBundles` makes renderers of the texts of a profile's shards.
Rendering is pure: the same event and template give the same letter. `Clocks` bound its time. Data that breaks
the template's schema, or a template that fails on it, raises Rejected. Sources are compiled at their first
letter, so that loading a hundred templates costs little. A text that is not a bundle raises Rejected, and the
caller keeps what it had.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import blake2b
from typing import Any

from postroom.letter.bundle import CompiledTemplate, LocaleVariant, unpack_bundle
from postroom.letter.catalog import RenderedLetter, SenderMailbox, TemplateCatalog
from postroom.letter.data_schema import DataSchema
from postroom.letter.event import Attachment, Event
from postroom.letter.html.inline import InlineOptions, inline_page
from postroom.letter.html.plaintext import text_of_page
from postroom.letter.language.bounds import RenderBudget, Timers
from postroom.letter.language.environment import HTML, TEXT, Script, compile_source
from postroom.letter.language.locale_tags import direction_of, language_of
from postroom.letter.language.messages import Catalogue
from postroom.letter.language.origin import origins
from postroom.letter.mailboxes import filled_mailboxes, write_mailboxes
from postroom.letter.problems import Code, Problem, Rejected

LINE_BREAKING_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
HTTPS_URL = re.compile(r"https://[!-;=?-~]+")
"""Printable ASCII without the brackets that end a List-Unsubscribe URI (RFC 2369 §2)."""


class VariantRenderer:
    """One locale variant of a template, compiled."""

    __slots__ = (
        "_html",
        "_preheader",
        "_shares",
        "_subjects",
        "_text",
        "_variant",
        "catalogue",
        "language",
        "tag",
    )

    def __init__(self, variant: LocaleVariant, like: "VariantRenderer | None" = None) -> None:
        self._variant = variant
        self.tag = variant.tag
        self.language = language_of(variant.tag)
        self.catalogue = Catalogue(variant.messages, variant.foreign_messages)
        self._subjects = [
            compile_source(TEXT, subject.source, "spec.subject") for subject in variant.subjects
        ]
        self._shares = [subject.weight for subject in variant.subjects]
        self._preheader = (
            compile_source(TEXT, variant.preheader, "spec.preheader") if variant.preheader else None
        )
        page = variant.html
        self._html = like.compile_page_like(page) if like else compile_source(HTML, page, "spec.html")
        self._text = compile_source(TEXT, variant.text, "spec.text") if variant.text is not None else None

    def compile_page_like(self, html: str) -> Script:
        """Compile a page; one with the same constructs as this variant's reuses its compiled code."""
        return self._html.with_text_of(html)

    def head(self, variables: Mapping[str, Any], recipient: str, meter: RenderBudget) -> tuple[str, str]:
        """Render subject and preheader. Raises Rejected for an empty subject."""
        subject = render_line(self._subject(recipient), variables, meter, "subject")
        if not subject:
            raise Rejected(Problem(Code.RENDER_FAILED, "spec.subject", "the subject comes out empty"))
        preheader = self._preheader.render(variables, meter).strip() if self._preheader else ""
        return subject, preheader

    def body(self, variables: Mapping[str, Any], meter: RenderBudget) -> tuple[str, str]:
        """Render HTML and text."""
        html = self._html.render(variables, meter)
        if self._variant.inline == "render":
            html = inline_page(html, self._variant.css, inline_options(self._variant))
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
        raise AssertionError("the weights cover every place")


def inline_options(variant: LocaleVariant) -> InlineOptions:
    """The options of the inliner that a variant selects."""
    return InlineOptions(frozenset(variant.attributes), variant.keep_styles)


def render_line(script: Script, variables: Mapping[str, Any], meter: RenderBudget, field: str) -> str:
    """Render a text on one line, without outer spaces. Raises Rejected (control_character) for line ends."""
    text = script.render(variables, meter).strip(" ")
    found = LINE_BREAKING_CHARACTERS.search(text)
    if found:
        names = origins(script.source, variables, LINE_BREAKING_CHARACTERS)
        origin = f"; it comes from {', '.join(f'`{name}`' for name in names)}" if names else ""
        message = f"control character U+{ord(found.group()):04X}, which could begin another header{origin}"
        raise Rejected(Problem(Code.CONTROL_CHARACTER, field, message))
    return text


class TemplateRenderer:
    """Renders the letters of one compiled template."""

    def __init__(
        self, compiled: CompiledTemplate, clocks: Timers | None = None, like: "TemplateRenderer | None" = None
    ) -> None:
        """`like` has variants with the same constructs in their pages; its compiled code is reused."""
        self.compiled = compiled
        self._clocks = clocks
        self._like = like
        self._variants: dict[str, VariantRenderer] = {}
        self._sources = {variant.tag.lower(): variant for variant in compiled.variants}

    @property
    def name(self) -> str:
        """The name of the EmailTemplate."""
        return self.compiled.name

    @property
    def revision(self) -> str:
        """The revision: a hash of the compiled content."""
        return self.compiled.revision

    @property
    def suspended(self) -> bool:
        """Whether `spec.suspend` is set, so that letters are deferred."""
        return self.compiled.suspend

    @property
    def category(self) -> str:
        """`Transactional` or `Subscription`."""
        return self.compiled.category

    @cached_property
    def data_schema(self) -> DataSchema:
        """The compiled schema of the event's data."""
        return DataSchema(self.compiled.variables)

    @cached_property
    def _headers(self) -> tuple[tuple[str, Script], ...]:
        return tuple(
            (name, compile_source(TEXT, source, f"spec.headers[{name}]"))
            for name, source in self.compiled.headers
        )

    @cached_property
    def _unsubscribe(self) -> Script | None:
        source = self.compiled.unsubscribe_url
        return compile_source(TEXT, source, "spec.unsubscribeUrl") if source else None

    @cached_property
    def _files(self) -> tuple[Attachment, ...]:
        files = self.compiled.attachments
        return tuple(
            Attachment(f.filename, f.content_type, b64decode(f.content), f.content_id) for f in files
        )

    @cached_property
    def _sender(self) -> SenderMailbox | None:
        mailbox = self.compiled.sender
        return SenderMailbox(address=mailbox[1], name=mailbox[0]) if mailbox else None

    def expires(self, event: Event) -> datetime | None:
        """The time after which the letter is not sent: the event's own, else its time plus expiresAfter."""
        if event.expires is not None or self.compiled.expires_after is None:
            return event.expires
        try:
            return event.time + timedelta(seconds=self.compiled.expires_after)
        except OverflowError:  # the sum is after the year 9999
            return None

    def variant(self, locale: str | None) -> VariantRenderer:
        """The variant for a locale: of `de-AT`, else of `de`, else the template's default."""
        tag = (locale or "").lower()
        while tag and tag not in self._sources:
            tag = tag.rpartition("-")[0]
        source = self._sources[tag] if tag else self.compiled.variants[0]
        if source.tag not in self._variants:
            like = self._like.variant(source.tag) if self._like else None
            self._variants[source.tag] = VariantRenderer(source, like)
        return self._variants[source.tag]

    def render(self, event: Event) -> RenderedLetter:
        """Validate `event.data` and render. Raises Rejected (variable_…, render_failed, render_limit)."""
        return self.render_validated(event, self.data_schema.validate(event.data))

    def render_validated(self, event: Event, data: Mapping[str, Any]) -> RenderedLetter:
        """Render data that was validated before."""
        meter = RenderBudget(self._clocks)
        variant = self.variant(event.locale)
        letter = letter_facts(event, variant)
        variables = {**data, "letter": letter, "_messages": variant.catalogue}
        unsubscribe = letter["unsubscribe_url"] = self._unsubscribe_link(variables, meter)
        letter["subject"], letter["preheader"] = variant.head(variables, event.recipient, meter)
        html, text = variant.body(variables, meter)
        return RenderedLetter(
            template=self.compiled.name,
            revision=self.compiled.revision,
            subject=letter["subject"],
            html=html,
            text=text,
            sender=self._sender,
            reply_to=event.reply_to or self._reply_to(variables, meter),
            headers=tuple((name, render_line(s, variables, meter, name)) for name, s in self._headers),
            attachments=self._attachments(event),
            language=variant.tag,
            unsubscribe=unsubscribe,
        )

    def _attachments(self, event: Event) -> tuple[Attachment, ...]:
        """The template's files and the event's; an event's file replaces the one with its content ID."""
        replaced = {file.content_id for file in event.attachments if file.content_id}
        return tuple(file for file in self._files if file.content_id not in replaced) + event.attachments

    @cached_property
    def _mailboxes(self) -> tuple[tuple[Script, Script], ...]:
        return tuple(
            (compile_source(TEXT, name, "spec.replyTo"), compile_source(TEXT, address, "spec.replyTo"))
            for name, address in self.compiled.reply_to_list
        )

    def _reply_to(self, variables: Mapping[str, Any], meter: RenderBudget) -> str | None:
        """Render the template's Reply-To; mailboxes with an empty address are omitted. Raises Rejected."""
        if not self._mailboxes:
            return self.compiled.reply_to
        rendered = [
            (
                render_line(name, variables, meter, "spec.replyTo"),
                render_line(each, variables, meter, "spec.replyTo"),
            )
            for name, each in self._mailboxes
        ]
        return write_mailboxes(filled_mailboxes(rendered, "spec.replyTo")) or None

    def _unsubscribe_link(self, variables: Mapping[str, Any], meter: RenderBudget) -> str | None:
        if self._unsubscribe is None:
            return None
        url = self._unsubscribe.render(variables, meter).strip()
        if not HTTPS_URL.fullmatch(url):
            message = "is not an https URL in plain ASCII; one-click unsubscribe needs one (RFC 8058)"
            raise Rejected(Problem(Code.RENDER_FAILED, "spec.unsubscribeUrl", message))
        return url


LETTER_FACTS = (
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
"""The attributes of the variable `letter`."""


def letter_facts(event: Event, variant: VariantRenderer) -> dict[str, Any]:
    """The variable `letter` of templates: the attributes of a letter beside the event's data."""
    requested = event.locale or ""
    locale = requested if language_of(requested) == variant.language else variant.tag
    return {
        "direction": direction_of(locale),
        "event_type": event.type,
        "language": language_of(locale),
        "locale": locale,
        "preheader": "",
        "recipient": event.recipient,
        "subject": "",
        "time": event.time.isoformat(),
        "unsubscribe_url": None,
    }


@dataclass(frozen=True, slots=True)
class LoadedBundles:
    """The renderers of one profile's templates, by the text of their shard."""

    shards: Mapping[str, tuple[TemplateRenderer, ...]] = field(default_factory=dict)

    @property
    def catalog(self) -> TemplateCatalog:
        """The renderers by event type; the first template with an event type gets it."""
        by_event_type: dict[str, TemplateRenderer] = {}
        for templates in self.shards.values():
            for template in templates:
                for event_type in template.compiled.event_types:
                    by_event_type.setdefault(event_type, template)
        return TemplateCatalog(by_event_type)

    def reload(self, texts: Iterable[str], clocks: Timers | None = None) -> "LoadedBundles":
        """Load these shards. Renderers of unchanged templates are kept with their compiled code. Raises
        Rejected.
        """
        known = {template.name: template for shard in self.shards.values() for template in shard}

        def renderer(compiled: CompiledTemplate) -> TemplateRenderer:
            before = known.get(compiled.name)
            # `suspend` is not part of the revision
            return before if before and before.compiled == compiled else TemplateRenderer(compiled, clocks)

        shards: dict[str, tuple[TemplateRenderer, ...]] = {}
        for text in texts:
            shards[text] = self.shards.get(text) or tuple(map(renderer, unpack_bundle(text)))
        return LoadedBundles(shards)


def load_catalog(texts: Iterable[str], clocks: Timers | None = None) -> TemplateCatalog:
    """Load a profile's templates; the first template with an event type gets it. Raises Rejected."""
    return LoadedBundles().reload(texts, clocks).catalog
