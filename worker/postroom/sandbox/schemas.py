"""The shapes of the JSON API, and how a stored letter gets them. Times are RFC 3339, UTC."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, Field

from postroom.sandbox.extract import extract_links, one_time_codes
from postroom.sandbox.fts_index import plain_text
from postroom.sandbox.mime import MimePart, ParsedLetter, StoredLetter, decode_header_text


class LetterSummary(BaseModel):
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


class LetterPage(BaseModel):
    """A page of the list, newest first."""

    letters: list[LetterSummary]
    total: int = Field(description="How many letters meet the filter.")
    unread: int = Field(description="How many letters of the whole inbox nobody has opened.")
    next: str | None = Field(description="The `cursor` of the next page; null at the end.")


class LetterLink(BaseModel):
    """A link in the letter."""

    url: str
    text: str


class LetterFile(BaseModel):
    """An attachment."""

    number: int = Field(description="Its number in `attachments/{number}`.")
    filename: str
    content_type: str
    size: int


class LetterHeader(BaseModel):
    """One header, encoded words decoded."""

    name: str
    value: str


class LetterDetail(LetterSummary):
    """A letter with what is in it, and what tests look for."""

    headers: list[LetterHeader]
    text: str = Field(description="The text part; for a letter without one, the HTML without its markup.")
    has_html: bool
    has_text: bool
    links: list[LetterLink] = Field(description="The links, each once, in order.")
    codes: list[str] = Field(description="What looks like a one-time code, the likeliest first.")
    files: list[LetterFile]


class MarkRequest(BaseModel):
    """What can be changed about a letter."""

    read: bool


class DeletionResult(BaseModel):
    """A deletion; its number undoes it within ten minutes."""

    deletion: int
    letters: int


class ErasureRequest(BaseModel):
    """Whose letters are to be erased."""

    address: Annotated[str, Field(min_length=3, max_length=320)]
    dry_run: bool = False


class InboxErasureResult(BaseModel):
    """How many letters were erased, or would be."""

    letters: int


class RestoreResult(BaseModel):
    """How many letters are back."""

    letters: int


def utc_time(milliseconds: int) -> datetime:
    """Milliseconds since 1970 as an aware time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def letter_summary(letter: StoredLetter) -> LetterSummary:
    """A stored letter as the list shows it."""
    return LetterSummary.model_validate(_summary_fields(letter))


def letter_detail(letter: StoredLetter, content: ParsedLetter) -> LetterDetail:
    """A stored letter with its content."""
    return LetterDetail.model_validate(
        _summary_fields(letter)
        | {
            "headers": [
                {"name": name, "value": decode_header_text(value)} for name, value in content.headers
            ],
            "text": plain_text(content),
            "has_html": content.first("text/html") is not None,
            "has_text": content.first("text/plain") is not None,
            "links": [{"url": link.url, "text": link.text} for link in extract_links(content)],
            "codes": one_time_codes(content, letter.subject),
            "files": [
                attachment_entry(number, part) for number, part in enumerate(content.attachments, start=1)
            ],
        }
    )


def attachment_entry(number: int, part: MimePart) -> dict[str, object]:
    """An attachment's entry."""
    return {
        "number": number,
        "filename": part.filename or f"part-{number}",
        "content_type": part.content_type,
        "size": len(part.payload()),
    }


def _summary_fields(letter: StoredLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "received_at": utc_time(letter.received_at),
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
