"""EmailTemplate and EmailLayout, group postroom.dev/v1alpha1: the letters that a team declares.

Input: an object as YAML or the API server gives it. Output: a frozen model, or pydantic's ValidationError.
This module has the rules that can be checked on the object alone; `validation.validate` renders it. It is the
only source of the two custom resources: the CRDs and the reference pages are generated from it.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from postroom.letter.custom_resource import (
    CelRule,
    CelRules,
    CustomResource,
    FieldRule,
    ListMap,
    ListSet,
    PrinterColumn,
    SchemaKeywords,
    ready_columns,
)
from postroom.letter.language.message_text import (
    MESSAGE_CHARACTERS,
    MESSAGES,
    is_markup,
    key_rule,
    message_rule,
)
from postroom.letter.mailboxes import MAX_LIST_CHARACTERS, split_mailboxes, write_mailboxes
from postroom.letter.manifest_fields import (
    AddressText,
    BrokenRule,
    Duration,
    Label,
    LocaleTag,
    Mailbox,
    ManifestModel,
    MultiLine,
    MultiLineInList,
    NameRef,
    ObjectMetadata,
    OneLine,
    find_duplicates,
    no_line_end,
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

BASE64_CHARACTERS = MAX_ATTACHMENTS_BYTES * 4 // 3 + 4

_NOT_BASE64 = "is not base64; use the standard alphabet with padding and no line ends"
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
    """Normalize the addresses of the list; a list with `{{ … }}` in it stays as it was written."""
    try:
        mailboxes = split_mailboxes(text, "replyTo")
    except Rejected as rejected:
        raise ValueError(rejected.problems[0].message) from None
    return text if "{{" in text else write_mailboxes(mailboxes)


def _object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("properties", {}) is None:  # `properties:` without a value
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
    """The metadata of a template or a layout that Postroom reads; the rest is accepted and ignored."""

    annotations: dict[str, Any] | None = None

    def annotation(self, name: str) -> str:
        """The text of an annotation; empty when it is absent."""
        value = (self.annotations or {}).get(name)
        return value if isinstance(value, str) else ""


# --- field types --------------------------------------------------------------------------------------------

SubjectText = Annotated[str, Field(min_length=1, max_length=SUBJECT_CHARACTERS), OneLine]
HtmlText = Annotated[str, Field(min_length=1, max_length=HTML_CHARACTERS), MultiLine]
HtmlInList = Annotated[str, Field(min_length=1, max_length=HTML_CHARACTERS), MultiLineInList()]
PlainText = Annotated[str, Field(max_length=TEXT_CHARACTERS), MultiLine]
PlainTextInList = Annotated[str, Field(max_length=TEXT_CHARACTERS), MultiLineInList()]
ReplyToText = Annotated[
    str,
    Field(min_length=3, max_length=MAX_LIST_CHARACTERS),
    FieldRule(
        _reply_to,
        no_line_end("holds a control character or line end; remove it"),
        CelRule(
            "self.contains('@') || self.contains('{{')",
            "has no address; write Name <name@example.org>, with commas between mailboxes",
        ),
        CelRule(
            "!self.matches(r'[{][%#]')",
            "takes {{ variable }} alone; choose between values in the event's data",
        ),
    ),
]
"""A list of mailboxes (RFC 5322 §3.4), in which `{{ … }}` may stand; held normalized without any."""
EventTypeText = Annotated[
    str,
    Field(min_length=1, max_length=255),
    FieldRule(
        _event_type,
        CelRule(
            f"self.matches('{_EVENT_TYPE}')",
            "is not an event type; letters, digits and . _ : / - like shop.order.paid",
        ),
    ),
]
ContentId = Annotated[
    str,
    Field(max_length=CONTENT_ID_CHARACTERS),
    FieldRule(
        _content_id,
        CelRule(
            "self.matches('^[A-Za-z0-9._+=@~-]+$')",
            "is not a content ID; letters, digits and . _ + = @ ~ - like logo",
        ),
    ),
]
ContentIdInList = Annotated[str, Field(max_length=CONTENT_ID_CHARACTERS), FieldRule(_content_id)]
"""Without a CEL rule, which would exceed the CRD's budget."""
PageFormat = Literal["HTML", "MJML"]


def _messages(messages: dict[str, str]) -> dict[str, str]:
    rules = (
        (key, key_rule(key) or message_rule(text, markup=is_markup(key))) for key, text in messages.items()
    )
    raise_broken_rules(((key, rule) for key, rule in rules if rule), Code.MESSAGE_INVALID)
    return messages


MessageText = Annotated[str, Field(max_length=MESSAGE_CHARACTERS), MultiLineInList()]
Messages = Annotated[dict[str, MessageText], Field(max_length=MESSAGES), FieldRule(_messages)]
"""A message catalogue: texts by their keys."""
DataSchemaObject = Annotated[
    dict[str, Any],
    FieldRule(_object_schema),
    SchemaKeywords(
        (
            ("required", ["type"]),
            (
                "properties",
                {
                    "type": {
                        "description": "Always object, because an event's data is an object.",
                        "type": "string",
                        "enum": ["object"],
                    },
                    "properties": {
                        "description": "The schema of each variable by its name.",
                        "type": "object",
                        "additionalProperties": True,
                    },
                },
            ),
        )
    ),
]
"""The JSON Schema of an event's data."""


def _no_name_twice(field: str) -> CelRules:
    """Names that differ only in case; the API server itself rejects equal ones."""
    return CelRules(
        CelRule(
            f"self.all(one, self.all(other, other.{field} == one.{field}"
            f" || other.{field}.lowerAscii() != one.{field}.lowerAscii()))",
            f"holds a {field} twice, in upper and lower case; it must be unique",
        )
    )


# --- parts of a template ------------------------------------------------------------------------------------


class MjmlSpec(ManifestModel):
    """How a page in MJML is compiled."""

    web_fonts: Literal["Keep", "Omit"] = "Keep"
    """Whether the links to web fonts that MJML writes for the fonts in use stay in the page."""


class HeaderSpec(ManifestModel):
    """One additional header; the name is on the allow-list (X-…, List-Id, …), the value may be a template."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=76),
        FieldRule(
            _header_name,
            CelRule(
                "self.matches('^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$')",
                "is not a header name; letters, digits and single hyphens only",
            ),
            CelRule(
                "!self.matches('(?i)^x-(auto-response-suppress|envelope-|forwarded-|original-|postroom-)')",
                "is written by Postroom or read by relays; choose another X- name",
            ),
            CelRule(
                "self.matches('(?i)^(x-.*|feedback-id|importance|keywords|list-(archive|help|id|owner)"
                "|organization|precedence|priority|sensitivity)$')",
                "is not among the headers a template may set: X-…, Feedback-Id, Importance, Keywords,"
                " List-Archive, List-Help, List-Id, List-Owner, Organization, Precedence, Priority,"
                " Sensitivity",
            ),
        ),
    ]
    """The header's name: an X- name or one of Feedback-Id, Importance, Keywords, List-Archive, List-Help,
    List-Id, List-Owner, Organization, Precedence, Priority, Sensitivity.
    """
    value: Annotated[str, Field(max_length=HEADER_CHARACTERS), OneLine]
    """The header's value, one line; a template over the variables."""


class SampleSpec(ManifestModel):
    """A named data set that is rendered when the template is validated."""

    name: Label
    """The name of the sample in findings and tables."""
    data: dict[str, Any]
    """The data of such an event."""
    locale: LocaleTag | None = None
    """The locale of such an event, a BCP 47 tag."""
    recipient: AddressText | None = None
    """The recipient of such an event; decides between subject variants."""
    content_ids: Annotated[list[ContentIdInList], Field(max_length=10)] = Field(default_factory=list)
    """The content IDs of images that such an event brings itself, so that cid: references to them are no
    findings.
    """


class LocaleSpec(ManifestModel):
    """The template in one language; absent fields come from the next entry of the chain (de-AT, de,
    template).
    """

    tag: LocaleTag
    """A BCP 47 language tag such as de or pt-BR."""
    subject: SubjectText | None = None
    """In place of the template's subject."""
    preheader: SubjectText | None = None
    """In place of the template's preheader."""
    html: HtmlInList | None = None
    """In place of the template's html."""
    text: PlainTextInList | None = None
    """In place of the template's text."""
    messages: Messages = Field(default_factory=dict)
    """In place of the template's messages, each by its key; a key that is absent comes from the next language
    of the chain.
    """


class SubjectVariantSpec(ManifestModel):
    """One of several subjects, chosen by a hash of the recipient."""

    name: Label
    """The name of the variant in reports."""
    subject: SubjectText
    """The subject, one line; a template over the variables."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """The share of recipients, in proportion to the other variants."""


class AttachmentSpec(ManifestModel):
    """A file that is sent with every letter of the template."""

    filename: Annotated[
        str,
        Field(max_length=255),
        FieldRule(
            _filename,
            CelRule(
                r"!(self in ['', '.', '..']) && !self.matches(r'^[\s\p{Z}]|[\s\p{Z}]$')",
                "is not a file name; give a name like invoice.pdf",
            ),
            CelRule(r"!self.contains('/') && !self.contains(r'\')", "holds a path; give the bare file name"),
            no_line_end("holds a control character; remove it"),
            CelRule("bytes(self).size() <= 255", "is longer than 255 octets"),
        ),
    ]
    """A bare name without a path, such as terms.pdf."""
    content_type: Annotated[
        str,
        Field(max_length=300),
        FieldRule(
            _content_type,
            CelRule(
                r"self.matches(r'(?i)^[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"
                r"(; *[!#$%&\x27*+.^_\x60{|}~0-9a-z-]+=([!#$%&\x27*+.^_\x60{|}~0-9a-z-]+"
                r"""|"([ !#-\[\]-~]|\\[ -~])*"))*$')"""
                " && !self.matches('(?i)^(multipart|message)/')",
                "is not a file's content type; write type/subtype like application/pdf, or with parameters"
                " like text/calendar; method=REQUEST (not multipart, not message)",
            ),
        ),
    ]
    """A media type such as application/pdf, with parameters where they are needed, as in text/calendar;
    method=REQUEST.
    """
    content: Annotated[
        str,
        Field(max_length=BASE64_CHARACTERS),
        FieldRule(
            _base64,
            CelRule(r"self.size() % 4 == 0 && !self.matches(r'[^\w+/=]')", _NOT_BASE64),
            CelRule("!self.contains('_')", _NOT_BASE64),
            CelRule(
                "!self.contains('=') || (self.indexOf('=') >= self.size() - 2 && self.endsWith('='))",
                _NOT_BASE64,
            ),
        ),
    ]
    """The file in base64, without line ends."""
    content_id: ContentId | None = None
    """The ID by which the html refers to the part: cid:logo for logo. The part is then shown in place and is
    no file. An image without a content ID can be referred to by its file name.
    """


class InliningSpec(ManifestModel):
    """How CSS is applied to elements, beside the style attributes that every letter gets."""

    add_attributes: Annotated[
        list[Literal["align", "bgcolor", "height", "valign", "width"]], Field(max_length=5)
    ] = Field(default_factory=list)
    """HTML attributes that are written from CSS where the author wrote none."""
    style_elements: Literal["Reduce", "Keep"] = "Reduce"
    """Whether style elements keep only the rules that could not be inlined (Reduce), or all rules (Keep)."""


class PartialSpec(ManifestModel):
    """A named piece of html that the layout and its templates may include."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-_.a-z0-9]*[a-z0-9])?$")]
    """The name by which it is included."""
    html: HtmlInList
    """The piece; a template."""


class LayoutLocaleSpec(ManifestModel):
    """The layout's messages in another language."""

    tag: LocaleTag
    """A BCP 47 language tag such as de or pt-BR."""
    messages: Messages = Field(default_factory=dict)
    """Texts by their keys."""


# --- the objects --------------------------------------------------------------------------------------------


class EmailTemplateSpec(ManifestModel):
    """The spec of an EmailTemplate."""

    smtp_profile_ref: NameRef
    """The SmtpProfile that sends the letter."""
    event_types: Annotated[list[EventTypeText], Field(min_length=1, max_length=64), ListSet]
    """The event types that become this letter, such as shop.order.paid. Within a profile, an event type
    belongs to one template.
    """
    category: Literal["Transactional", "Subscription"] = "Transactional"
    """Transactional, or Subscription for letters that readers can unsubscribe from with one click (RFC 8058);
    those need unsubscribeUrl.
    """
    subject: SubjectText
    """The subject, one line; a template over the variables."""
    preheader: SubjectText | None = None
    """The preview text that inboxes show after the subject; hidden in the letter itself. A template."""
    format: PageFormat = "HTML"
    """The language of html. MJML is compiled to HTML when the template is validated."""
    html: HtmlText
    """The letter, a Jinja2 template over the variables. With layoutRef it fills the layout's blocks, or is
    the content of the block named content.
    """
    mjml: MjmlSpec | None = None
    """How a page in MJML is compiled. With a layout, the layout's own choice takes precedence."""
    text: PlainText | None = None
    """The plain text part, a template. When absent it is derived from html."""
    css: PlainText | None = None
    """A style sheet that is inlined when the template is validated. What cannot be inlined, such as media
    queries, stays in a style element.
    """
    inlining: InliningSpec | None = None
    """How CSS is applied to elements, beside the style attributes that every letter gets."""
    layout_ref: NameRef | None = None
    """The EmailLayout that the letter fills."""
    variables: DataSchemaObject = Field(default_factory=lambda: {"type": "object", "properties": {}})
    """The JSON Schema of the event's data; it begins with type object. Defaults are filled in; a missing or
    unknown variable is an error.
    """
    samples: Annotated[list[SampleSpec], Field(min_length=1, max_length=32), ListMap("name")]
    """Named data sets that are rendered whenever the template is validated; at least one."""
    messages: Messages = Field(default_factory=dict)
    """Texts by their keys, for {{ t("key", name=value) }}; {name} is filled in. A key ending in _html holds
    markup; key_one and key_other are plural forms, chosen by count=.
    """
    locales: Annotated[list[LocaleSpec], Field(max_length=64), ListMap("tag"), _no_name_twice("tag")] = Field(
        default_factory=list
    )
    """The letter in other languages, chosen by the event's locale along its fallback chain: de-AT falls back
    to de, then to the template itself.
    """
    default_locale: LocaleTag = "en"
    """The language of the template itself, a BCP 47 tag."""
    sender: Mailbox | None = Field(default=None, alias="from")
    """The sender. When absent it is the profile's. The profile must allow its domain."""
    reply_to: ReplyToText | None = None
    """The address of answers: an address or Name <name@example.org>, several separated by commas. Names and
    addresses may hold {{ }}. The event's own replyto takes precedence.
    """
    headers: Annotated[list[HeaderSpec], Field(max_length=32), ListMap("name"), _no_name_twice("name")] = (
        Field(default_factory=list)
    )
    """Further headers of the letter."""
    subject_variants: Annotated[list[SubjectVariantSpec], Field(max_length=16), ListMap("name")] = Field(
        default_factory=list
    )
    """Several subjects; a recipient always gets the same one."""
    attachments: Annotated[
        list[AttachmentSpec],
        Field(max_length=MAX_ATTACHMENTS),
        ListMap("filename"),
        CelRules(
            CelRule(
                f"self.map(file, file.content.size()).sum() <= {BASE64_CHARACTERS}",
                f"are larger than {MAX_ATTACHMENTS_BYTES // 1024} KiB together; link to the file instead",
            )
        ),
    ] = Field(default_factory=list)
    """Files that are sent with every letter; 512 KiB together."""
    expires_after: Duration | None = None
    """How long after the event's time the letter is still worth sending, such as 10m for a one-time code.
    When absent it never expires.
    """
    unsubscribe_url: (
        Annotated[
            str,
            Field(max_length=2048),
            OneLine,
            FieldRule(
                _unsubscribe_url,
                CelRule(
                    "self.startsWith('https://') || self.startsWith('{{')",
                    "begins with https:// or a template expression like {{ unsubscribe_url }} (RFC 8058)",
                ),
            ),
        ]
        | None
    ) = None
    """The URL that unsubscribes with one click (RFC 8058): https, or a template that gives such a URL."""
    suspend: bool = False
    """While true, events of these types are deferred, at most for the profile's retry.maxAge."""

    cel_rules: ClassVar = (
        CelRule(
            "self.category != 'Subscription' || has(self.unsubscribeUrl)",
            "is required for category Subscription, for one-click unsubscribe (RFC 8058)",
            field_path=".unsubscribeUrl",
            reason="FieldValueRequired",
        ),
    )

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        raise_broken_rules(self._broken_rules())
        return self

    def _broken_rules(self) -> Iterator[BrokenRule]:
        if self.category == "Subscription" and self.unsubscribe_url is None:
            rule = "is required for category Subscription, for one-click unsubscribe (RFC 8058)"
            yield "unsubscribeUrl", rule
        yield from _duplicates("eventTypes", "", self.event_types)
        yield from _duplicates("samples", ".name", [sample.name for sample in self.samples])
        yield from _duplicates("locales", ".tag", [locale.tag.lower() for locale in self.locales])
        yield from _duplicates("headers", ".name", [header.name.lower() for header in self.headers])
        yield from _duplicates("subjectVariants", ".name", [each.name for each in self.subject_variants])
        yield from _duplicates("attachments", ".filename", [file.filename for file in self.attachments])
        # a file without a content ID stands for its index, in a form that no content ID has
        content_ids = [file.content_id or f"[{n}]" for n, file in enumerate(self.attachments)]
        yield from _duplicates("attachments", ".contentId", content_ids)
        if sum(len(file.content) for file in self.attachments) > BASE64_CHARACTERS:
            yield (
                "attachments",
                f"are larger than {MAX_ATTACHMENTS_BYTES // 1024} KiB together; link to the file instead",
            )


def _duplicates(field: str, key: str, names: Iterable[str]) -> Iterator[BrokenRule]:
    for index, name in find_duplicates(names):
        yield f"{field}[{index}]{key}", f"{name!r} occurs twice; it must be unique"


class EmailLayoutSpec(ManifestModel):
    """A page that templates fill: `{% block NAME %}` in html, partials for `{% include "NAME" %}`."""

    format: PageFormat = "HTML"
    """The language of html. MJML is compiled to HTML when the layout is validated."""
    html: HtmlText
    """The page; {% block NAME %} marks what templates fill."""
    mjml: MjmlSpec | None = None
    """How a page in MJML is compiled."""
    css: PlainText | None = None
    """A style sheet shared by all letters of the layout."""
    inlining: InliningSpec | None = None
    """How CSS is applied to elements, beside the style attributes that every letter gets."""
    partials: Annotated[list[PartialSpec], Field(max_length=64), ListMap("name")] = Field(
        default_factory=list
    )
    """Named pieces for {% include "NAME" %}."""
    messages: Messages = Field(default_factory=dict)
    """Texts by their keys, for {{ t("key") }} in the layout and its templates. A template's message of the
    same key and language takes precedence.
    """
    locales: Annotated[list[LayoutLocaleSpec], Field(max_length=64), ListMap("tag")] = Field(
        default_factory=list
    )
    """The messages in other languages; templates that have these languages use them."""
    default_locale: LocaleTag = "en"
    """The language of messages, a BCP 47 tag."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        raise_broken_rules(
            [
                *_duplicates("partials", ".name", [partial.name for partial in self.partials]),
                *_duplicates("locales", ".tag", [locale.tag.lower() for locale in self.locales]),
            ]
        )
        return self


class EmailTemplate(ManifestModel):
    """An EmailTemplate declares a letter: the events that it answers, its text, the data that it needs, and
    samples that are rendered to check it. It is validated before it is used, and an invalid edit never
    replaces a valid version.
    """

    api_version: Literal["postroom.dev/v1alpha1"]
    """postroom.dev/v1alpha1"""
    kind: Literal["EmailTemplate"]
    """EmailTemplate"""
    metadata: TemplateMetadata
    spec: EmailTemplateSpec
    """The letter."""
    status: dict[str, Any] | None = None
    """The observed state. Written by the operator."""

    resource: ClassVar = CustomResource(
        plural="emailtemplates",
        singular="emailtemplate",
        short_names=("et",),
        printer_columns=ready_columns(
            "Whether its newest version is in use and its profile sends.",
            PrinterColumn("Revision", ".status.revision", "The revision that letters are written with."),
            PrinterColumn(
                "Profile", ".spec.smtpProfileRef.name", "The profile that sends its letters.", priority=1
            ),
        ),
    )


class EmailLayout(ManifestModel):
    """An EmailLayout is a page that several templates share: they fill its blocks and include its partials. A
    change is validated with every template that uses it before it is used.
    """

    api_version: Literal["postroom.dev/v1alpha1"]
    """postroom.dev/v1alpha1"""
    kind: Literal["EmailLayout"]
    """EmailLayout"""
    metadata: TemplateMetadata
    spec: EmailLayoutSpec
    """The page."""
    status: dict[str, Any] | None = None
    """The observed state. Written by the operator."""

    resource: ClassVar = CustomResource(
        plural="emaillayouts",
        singular="emaillayout",
        short_names=("el",),
        printer_columns=ready_columns(
            "Whether the layout can be used.",
            PrinterColumn(
                "Templates", ".status.templates", "The number of templates that use it.", type="integer"
            ),
        ),
    )
