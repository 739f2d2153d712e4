"""The parts of a letter, and what a template that is ready to render can be asked.

These are the types that the programs know; `loaded.load` makes the templates, `live` does the work.
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
    """The parts of one letter, as text; nothing of it is encoded for the wire yet."""

    template: str
    revision: str
    subject: str
    html: str
    text: str
    sender: SenderMailbox | None
    """None: the profile's."""
    reply_to: str | None
    """A list of mailboxes as `mailboxes.write_mailboxes` writes it: Unicode, not yet encoded."""
    headers: tuple[tuple[str, str], ...]
    attachments: tuple[Attachment, ...]
    language: str
    """The BCP 47 tag of the edition that was rendered."""
    unsubscribe: str | None = None
    """The one-click URL (RFC 8058) of a subscription."""


class RenderableTemplate(Protocol):
    """A compiled template, ready to render; the same in worker and proof."""

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
        """When the letter is no longer worth sending: the event's own time, else its time + expiresAfter."""
        ...

    def render(self, event: Event) -> RenderedLetter:
        """Validate `event.data` and render; raises Rejected (variable_…, render_failed, render_limit)."""
        ...


@dataclass(frozen=True, slots=True)
class TemplateCatalog:
    """The live templates of one profile, by event type."""

    templates: Mapping[str, RenderableTemplate]

    def find(self, event_type: str) -> RenderableTemplate | None:
        """The template for an event type, or None (a deferral, `template_missing`)."""
        return self.templates.get(event_type)
