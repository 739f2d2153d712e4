"""Rendered letters, and the catalog of templates that a worker looks up by event type.

These are the types that `delivery` and `ports` know. `renderer` implements `RenderableTemplate` and loads
catalogs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from postroom.letter.event import Attachment, Event


@dataclass(frozen=True, slots=True)
class SenderMailbox:
    """The From mailbox; `address` is normalized."""

    address: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class RenderedLetter:
    """The parts of one letter as text, before MIME encoding."""

    template: str
    revision: str
    subject: str
    html: str
    text: str
    sender: SenderMailbox | None
    """None: the profile's sender."""
    reply_to: str | None
    """A list of mailboxes as `mailboxes.write_mailboxes` writes it: Unicode, without MIME encoding."""
    headers: tuple[tuple[str, str], ...]
    attachments: tuple[Attachment, ...]
    language: str
    """The BCP 47 tag of the variant that was rendered."""
    unsubscribe: str | None = None
    """The one-click URL (RFC 8058) of a subscription."""


class RenderableTemplate(Protocol):
    """A compiled template that can render letters."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def suspended(self) -> bool: ...
    @property
    def category(self) -> str:
        """`Transactional` or `Subscription`."""
        ...

    def expires(self, event: Event) -> datetime | None:
        """The time after which the letter is not sent: the event's own, else its time + expiresAfter."""
        ...

    def render(self, event: Event) -> RenderedLetter:
        """Validate `event.data` and render; raises Rejected (variable_…, render_failed, render_limit)."""
        ...


@dataclass(frozen=True, slots=True)
class TemplateCatalog:
    """The templates of one profile by event type."""

    templates: Mapping[str, RenderableTemplate]

    def find(self, event_type: str) -> RenderableTemplate | None:
        """The template for an event type, or None (the letter is deferred as `template_missing`)."""
        return self.templates.get(event_type)
