"""EmailTemplate and EmailLayout, group postroom.dev/v1alpha1: what a team declares of a letter."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Spec(BaseModel):
    """The base of every part of a manifest: camelCase outside, unknown fields are errors, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
    )


class NameRef(Spec):
    """A reference to an object in the same namespace; there is no namespace field on purpose."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]


class Mailbox(Spec):
    """An address with an optional display name."""

    name: str = ""
    address: str


class Header(Spec):
    """One additional header; the name is on the allow-list (X-…, List-Id, …), the value may be a template."""

    name: str
    value: str


class Sample(Spec):
    """A named data set that is rendered at proof time."""

    name: str
    data: dict[str, Any]
    locale: str | None = None
    recipient: str | None = None


class Locale(Spec):
    """Overrides for one BCP 47 tag; what is absent falls back along the chain (de-AT → de → the template)."""

    tag: str
    subject: str | None = None
    preheader: str | None = None
    html: str | None = None
    text: str | None = None


class SubjectVariant(Spec):
    """One of several subjects, chosen by a hash of the recipient."""

    name: str
    subject: str
    weight: Annotated[int, Field(ge=1, le=1000)] = 1


class TemplateAttachment(Spec):
    """A file sent with every letter of the template; content is base64."""

    filename: str
    content_type: str
    content: str


class EmailTemplateSpec(Spec):
    """The spec of an EmailTemplate; see docs/reference for each field."""

    smtp_profile_ref: NameRef
    event_types: list[str]
    category: Literal["Transactional", "Subscription"] = "Transactional"
    subject: str
    preheader: str | None = None
    html: str
    text: str | None = None
    css: str | None = None
    layout_ref: NameRef | None = None
    variables: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    samples: list[Sample]
    locales: list[Locale] = Field(default_factory=list)
    default_locale: str = "en"
    sender: Mailbox | None = Field(default=None, alias="from")
    reply_to: str | None = None
    headers: list[Header] = Field(default_factory=list)
    subject_variants: list[SubjectVariant] = Field(default_factory=list)
    attachments: list[TemplateAttachment] = Field(default_factory=list)
    expires_after: str | None = None
    unsubscribe_url: str | None = None
    suspend: bool = False


class EmailLayoutSpec(Spec):
    """A page that templates fill: `{% block NAME %}` in html, partials for `{% include "NAME" %}`."""

    html: str
    css: str | None = None
    partials: list["Partial"] = Field(default_factory=list)


class Partial(Spec):
    """A named piece of html that the layout and its templates may include."""

    name: str
    html: str


class Metadata(BaseModel):
    """What Postroom reads of Kubernetes object metadata; the rest is accepted and ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
    namespace: str = "default"


class EmailTemplate(Spec):
    """`kind: EmailTemplate`."""

    api_version: Literal["postroom.dev/v1alpha1"]
    kind: Literal["EmailTemplate"]
    metadata: Metadata
    spec: EmailTemplateSpec
    status: dict[str, Any] | None = None


class EmailLayout(Spec):
    """`kind: EmailLayout`."""

    api_version: Literal["postroom.dev/v1alpha1"]
    kind: Literal["EmailLayout"]
    metadata: Metadata
    spec: EmailLayoutSpec
    status: dict[str, Any] | None = None
