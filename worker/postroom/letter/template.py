"""EmailTemplate and EmailLayout, group postroom.dev/v1alpha1: what a team declares of a letter.

An object in (as YAML or the API server gives it), a frozen model out, or pydantic's ValidationError.
Here are the rules that can be told from the object alone; whether the template renders is `proof`'s.
"""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from postroom.letter.address import AddressText
from postroom.letter.language.message_text import (
    MESSAGE_CHARACTERS,
    MESSAGES,
    is_markup,
    key_rule,
    message_rule,
)
from postroom.letter.mailboxes import MAX_LIST_CHARACTERS, split_mailboxes, write_mailboxes
from postroom.letter.manifest_fields import (
    BrokenRule,
    Duration,
    Label,
    LocaleTag,
    Mailbox,
    ManifestModel,
    MultiLine,
    NameRef,
    ObjectMetadata,
    OneLine,
    find_duplicates,
    raise_broken_rules,
    rule_error,
)
from postroom.letter.mime.attachments import (
    CONTENT_ID_CHARACTERS,
    content_id_rule,
    content_type_rule,
    decode_base64,
    filename_rule,
)
from postroom.letter.mime.headers import header_rule
from postroom.letter.problems import Code, Rejected

HTML_CHARACTERS = 256 * 1024
TEXT_CHARACTERS = 128 * 1024
SUBJECT_CHARACTERS = 1024
HEADER_CHARACTERS = 998
"""A line of a letter, RFC 5322 §2.1.1."""
SCHEMA_CHARACTERS = 64 * 1024
MAX_ATTACHMENTS = 16
MAX_ATTACHMENTS_BYTES = 512 * 1024
"""All files of a template together; the whole object must stay under the API server's 1 MiB."""

_EVENT_TYPE = r"^[A-Za-z0-9]([A-Za-z0-9._:/-]*[A-Za-z0-9])?$"


def _event_type(text: str) -> str:
    if not re.fullmatch(_EVENT_TYPE, text):
        raise ValueError(
            f"{text[:60]!r} is not an event type; letters, digits and . _ : / - like shop.order.paid"
        )
    return text


def _header_name(text: str) -> str:
    if rule := header_rule(text):
        raise rule_error(rule, Code.HEADER_NOT_ALLOWED)
    return text


def _filename(text: str) -> str:
    if rule := filename_rule(text):
        raise rule_error(rule, Code.ATTACHMENT_INVALID)
    return text


def _content_type(text: str) -> str:
    if rule := content_type_rule(text):
        raise rule_error(rule, Code.ATTACHMENT_INVALID)
    return text


def _content_id(text: str) -> str:
    if rule := content_id_rule(text):
        raise rule_error(rule, Code.ATTACHMENT_INVALID)
    return text


def _base64(text: str) -> str:
    decode_base64(text)
    return text


def _reply_to(text: str) -> str:
    """The list with its addresses normalized; one with `{{ … }}` in it stays as it was written."""
    try:
        mailboxes = split_mailboxes(text, "replyTo")
    except Rejected as rejected:
        raise ValueError(rejected.problems[0].message) from None
    return text if "{{" in text else write_mailboxes(mailboxes)


def _object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("properties", {}) is None:  # `properties:` with nothing behind it
        schema = {**schema, "properties": {}}
    rule = None
    if schema.get("type") != "object":
        rule = "is the JSON Schema of the event's data; it begins with type: object"
    elif not isinstance(schema.get("properties", {}), dict):
        rule = "properties must map each variable's name to its schema"
    elif len(json.dumps(schema, default=str)) > SCHEMA_CHARACTERS:
        rule = f"is longer than {SCHEMA_CHARACTERS} characters as JSON"
    if rule:
        raise rule_error(rule, Code.SCHEMA_INVALID)
    return schema


def _unsubscribe_url(text: str) -> str:
    if not text.startswith(("https://", "{{")):
        raise ValueError(
            "begins with https:// or a template expression like {{ unsubscribe_url }} (RFC 8058)"
        )
    return text


class TemplateMetadata(ObjectMetadata):
    """What Postroom reads of the metadata of a template or a layout; the rest is accepted and ignored."""

    annotations: dict[str, Any] | None = None

    def annotation(self, name: str) -> str:
        """The text of an annotation, empty where it is not there."""
        value = (self.annotations or {}).get(name)
        return value if isinstance(value, str) else ""


SubjectText = Annotated[str, Field(min_length=1, max_length=SUBJECT_CHARACTERS), OneLine]
HtmlText = Annotated[str, Field(min_length=1, max_length=HTML_CHARACTERS), MultiLine]
PlainText = Annotated[str, Field(max_length=TEXT_CHARACTERS), MultiLine]
ReplyToText = Annotated[str, Field(min_length=3, max_length=MAX_LIST_CHARACTERS), AfterValidator(_reply_to)]
"""A list of mailboxes (RFC 5322 §3.4), in which `{{ … }}` may stand; held normalized without any."""
EventTypeText = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_event_type)]


PageFormat = Literal["HTML", "MJML"]


class MjmlSpec(ManifestModel):
    """How a page in MJML is compiled."""

    web_fonts: Literal["Keep", "Omit"] = "Keep"
    """Whether the links to web fonts that MJML writes for the fonts in use stay in the page."""


ContentId = Annotated[str, Field(max_length=CONTENT_ID_CHARACTERS), AfterValidator(_content_id)]


def _messages(messages: dict[str, str]) -> dict[str, str]:
    rules = (
        (key, key_rule(key) or message_rule(text, markup=is_markup(key))) for key, text in messages.items()
    )
    raise_broken_rules(((key, rule) for key, rule in rules if rule), Code.MESSAGE_INVALID)
    return messages


MessageText = Annotated[str, Field(max_length=MESSAGE_CHARACTERS), MultiLine]
Messages = Annotated[dict[str, MessageText], Field(max_length=MESSAGES), AfterValidator(_messages)]
"""A message catalogue: texts by their keys."""


class HeaderSpec(ManifestModel):
    """One additional header; the name is on the allow-list (X-…, List-Id, …), the value may be a template."""

    name: Annotated[str, Field(min_length=1, max_length=76), AfterValidator(_header_name)]
    value: Annotated[str, Field(max_length=HEADER_CHARACTERS), OneLine]


class SampleSpec(ManifestModel):
    """A named data set that is rendered at proof time."""

    name: Label
    data: dict[str, Any]
    locale: LocaleTag | None = None
    recipient: AddressText | None = None
    content_ids: Annotated[list[ContentId], Field(max_length=10)] = Field(default_factory=list)


class LocaleSpec(ManifestModel):
    """Overrides for one BCP 47 tag; what is absent falls back along the chain (de-AT → de → the template)."""

    tag: LocaleTag
    subject: SubjectText | None = None
    preheader: SubjectText | None = None
    html: HtmlText | None = None
    text: PlainText | None = None
    messages: Messages = Field(default_factory=dict)


class SubjectVariantSpec(ManifestModel):
    """One of several subjects, chosen by a hash of the recipient."""

    name: Label
    subject: SubjectText
    weight: Annotated[int, Field(ge=1, le=1000)] = 1


class AttachmentSpec(ManifestModel):
    """A file sent with every letter of the template; content is base64."""

    filename: Annotated[str, Field(max_length=255), AfterValidator(_filename)]
    content_type: Annotated[str, Field(max_length=300), AfterValidator(_content_type)]
    content: Annotated[str, Field(max_length=MAX_ATTACHMENTS_BYTES * 4 // 3 + 4), AfterValidator(_base64)]
    content_id: ContentId | None = None


class InliningSpec(ManifestModel):
    """How CSS goes onto elements, beside the `style` attributes that every letter gets."""

    add_attributes: Annotated[
        list[Literal["align", "bgcolor", "height", "valign", "width"]], Field(max_length=5)
    ] = Field(default_factory=list)
    style_elements: Literal["Reduce", "Keep"] = "Reduce"


class EmailTemplateSpec(ManifestModel):
    """The spec of an EmailTemplate; see docs/reference for each field."""

    smtp_profile_ref: NameRef
    event_types: Annotated[list[EventTypeText], Field(min_length=1, max_length=64)]
    category: Literal["Transactional", "Subscription"] = "Transactional"
    subject: SubjectText
    preheader: SubjectText | None = None
    format: PageFormat = "HTML"
    html: HtmlText
    mjml: MjmlSpec | None = None
    text: PlainText | None = None
    css: PlainText | None = None
    inlining: InliningSpec | None = None
    layout_ref: NameRef | None = None
    variables: Annotated[dict[str, Any], AfterValidator(_object_schema)] = Field(
        default_factory=lambda: {"type": "object", "properties": {}}
    )
    samples: Annotated[list[SampleSpec], Field(min_length=1, max_length=32)]
    messages: Messages = Field(default_factory=dict)
    locales: Annotated[list[LocaleSpec], Field(max_length=64)] = Field(default_factory=list)
    default_locale: LocaleTag = "en"
    sender: Mailbox | None = Field(default=None, alias="from")
    reply_to: ReplyToText | None = None
    headers: Annotated[list[HeaderSpec], Field(max_length=32)] = Field(default_factory=list)
    subject_variants: Annotated[list[SubjectVariantSpec], Field(max_length=16)] = Field(default_factory=list)
    attachments: Annotated[list[AttachmentSpec], Field(max_length=MAX_ATTACHMENTS)] = Field(
        default_factory=list
    )
    expires_after: Duration | None = None
    unsubscribe_url: (
        Annotated[str, Field(max_length=2048), OneLine, AfterValidator(_unsubscribe_url)] | None
    ) = None
    suspend: bool = False

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        raise_broken_rules(self._broken_rules())
        return self

    def _broken_rules(self) -> Iterator[BrokenRule]:
        if self.category == "Subscription" and self.unsubscribe_url is None:
            rule = "is required for category Subscription, for one-click unsubscribe (RFC 8058)"
            yield "unsubscribeUrl", rule
        keyed = {
            "eventTypes": ("", self.event_types),
            "samples": (".name", [sample.name for sample in self.samples]),
            "locales": (".tag", [locale.tag.lower() for locale in self.locales]),
            "headers": (".name", [header.name.lower() for header in self.headers]),
            "subjectVariants": (".name", [variant.name for variant in self.subject_variants]),
            "attachments": (".filename", [attachment.filename for attachment in self.attachments]),
        }
        for field, (key, names) in keyed.items():
            for index, name in find_duplicates(names):
                yield f"{field}[{index}]{key}", f"{name!r} is there twice; each may be there once"
        # what has none is told apart by its index, which no content ID looks like
        named = [attachment.content_id or f"[{n}]" for n, attachment in enumerate(self.attachments)]
        for index, name in find_duplicates(named):
            yield f"attachments[{index}].contentId", f"{name!r} is there twice; each may be there once"
        if (
            sum(len(attachment.content) for attachment in self.attachments)
            > MAX_ATTACHMENTS_BYTES * 4 // 3 + 4
        ):
            yield (
                "attachments",
                f"are larger than {MAX_ATTACHMENTS_BYTES // 1024} KiB together; link to the file instead",
            )


class PartialSpec(ManifestModel):
    """A named piece of html that the layout and its templates may include."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-_.a-z0-9]*[a-z0-9])?$")]
    html: HtmlText


class LayoutLocaleSpec(ManifestModel):
    """The layout's messages in another language."""

    tag: LocaleTag
    messages: Messages = Field(default_factory=dict)


class EmailLayoutSpec(ManifestModel):
    """A page that templates fill: `{% block NAME %}` in html, partials for `{% include "NAME" %}`."""

    format: PageFormat = "HTML"
    html: HtmlText
    mjml: MjmlSpec | None = None
    css: PlainText | None = None
    inlining: InliningSpec | None = None
    partials: Annotated[list[PartialSpec], Field(max_length=64)] = Field(default_factory=list)
    messages: Messages = Field(default_factory=dict)
    locales: Annotated[list[LayoutLocaleSpec], Field(max_length=64)] = Field(default_factory=list)
    default_locale: LocaleTag = "en"

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        keyed = {
            "partials": (".name", [partial.name for partial in self.partials]),
            "locales": (".tag", [locale.tag.lower() for locale in self.locales]),
        }
        raise_broken_rules(
            (f"{field}[{index}]{key}", f"{name!r} is there twice; each may be there once")
            for field, (key, names) in keyed.items()
            for index, name in find_duplicates(names)
        )
        return self


class EmailTemplate(ManifestModel):
    """`kind: EmailTemplate`."""

    api_version: Literal["postroom.dev/v1alpha1"]
    kind: Literal["EmailTemplate"]
    metadata: TemplateMetadata
    spec: EmailTemplateSpec
    status: dict[str, Any] | None = None


class EmailLayout(ManifestModel):
    """`kind: EmailLayout`."""

    api_version: Literal["postroom.dev/v1alpha1"]
    kind: Literal["EmailLayout"]
    metadata: TemplateMetadata
    spec: EmailLayoutSpec
    status: dict[str, Any] | None = None
