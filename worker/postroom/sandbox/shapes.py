"""The shapes of the JSON API, and how a stored letter gets them. Times are RFC 3339, UTC."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, Field

from postroom.sandbox.extract import codes, links
from postroom.sandbox.mime import Letter, Part, readable
from postroom.sandbox.summary import Summary
from postroom.sandbox.words import readable_text


class Line(BaseModel):
    """A letter as the list shows it."""

    id: int
    received_at: datetime
    mail_from: str = Field(description="The envelope's sender; empty for a bounce.")
    to: list[str] = Field(description="The envelope's recipients: whom the letter was really for.")
    sender: str = Field(description="The From header, readable.")
    subject: str
    message_id: str
    date: str = Field(description="The Date header as it came.")
    template: str = Field(description="The template's name from X-Postroom-Template, or empty.")
    revision: str
    size: int = Field(description="Bytes.")
    attachments: int
    read: bool


class Lines(BaseModel):
    """A page of the list, newest first."""

    letters: list[Line]
    total: int = Field(description="How many letters meet the filter.")
    unread: int = Field(description="How many letters of the whole inbox nobody has opened.")
    next: str | None = Field(description="The `cursor` of the next page; null at the end.")


class LinkShape(BaseModel):
    """A link in the letter."""

    url: str
    text: str


class FileShape(BaseModel):
    """An attachment."""

    number: int = Field(description="Its number in `attachments/{number}`.")
    filename: str
    content_type: str
    size: int


class HeaderShape(BaseModel):
    """One header, encoded words decoded."""

    name: str
    value: str


class Whole(Line):
    """A letter with what is in it, and what tests look for."""

    headers: list[HeaderShape]
    text: str = Field(description="The text part; for a letter without one, the HTML without its markup.")
    has_html: bool
    has_text: bool
    links: list[LinkShape] = Field(description="The links, each once, in order.")
    codes: list[str] = Field(description="What looks like a one-time code, the likeliest first.")
    files: list[FileShape]


class Mark(BaseModel):
    """What can be changed about a letter."""

    read: bool


class Deleted(BaseModel):
    """A deletion; its number undoes it within ten minutes."""

    deletion: int
    letters: int


class Erasure(BaseModel):
    """Whose letters are to be erased."""

    address: Annotated[str, Field(min_length=3, max_length=320)]
    dry_run: bool = False


class Erased(BaseModel):
    """How many letters were erased, or would be."""

    letters: int


class Restored(BaseModel):
    """How many letters are back."""

    letters: int


def moment(milliseconds: int) -> datetime:
    """Milliseconds since 1970 as an aware time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def line(letter: Summary) -> Line:
    """A stored letter as the list shows it."""
    return Line.model_validate(_line_fields(letter))


def whole(letter: Summary, content: Letter) -> Whole:
    """A stored letter with its content."""
    return Whole.model_validate(
        _line_fields(letter)
        | {
            "headers": [{"name": name, "value": readable(value)} for name, value in content.headers],
            "text": readable_text(content),
            "has_html": content.first("text/html") is not None,
            "has_text": content.first("text/plain") is not None,
            "links": [{"url": link.url, "text": link.text} for link in links(content)],
            "codes": codes(content, letter.subject),
            "files": [file(number, part) for number, part in enumerate(content.attachments, start=1)],
        }
    )


def file(number: int, part: Part) -> dict[str, object]:
    """An attachment's entry."""
    return {
        "number": number,
        "filename": part.filename or f"part-{number}",
        "content_type": part.content_type,
        "size": len(part.payload()),
    }


def _line_fields(letter: Summary) -> dict[str, object]:
    return {
        "id": letter.id,
        "received_at": moment(letter.received_at),
        "mail_from": letter.mail_from,
        "to": list(letter.recipients),
        "sender": letter.sender,
        "subject": letter.subject,
        "message_id": letter.message_id,
        "date": letter.date,
        "template": letter.template,
        "revision": letter.revision,
        "size": letter.size,
        "attachments": letter.attachments,
        "read": letter.read,
    }
