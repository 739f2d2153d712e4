"""The variables of the list page: a search → rows, template groups and counts, formatted for the template."""

from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlencode

from postroom.sandbox.formatting import (
    display_address,
    format_count,
    format_day,
    format_recent_time,
    format_size,
    format_time,
    from_milliseconds,
)
from postroom.sandbox.inbox import Inbox
from postroom.sandbox.mime import StoredLetter
from postroom.sandbox.search import LetterFilter, UnknownOperator, parse_query
from postroom.sandbox.store import InboxCounts, RetentionLimits, TemplateGroup

PAGE_SIZE = 50
HINTS = ("to:", "from:", "subject:", "template:", "has:attachment", "is:unread")
SEND_COMMAND = "postroom send shop.user.code-requested --to mira@example.com code=492087"


@dataclass(frozen=True, slots=True)
class PageLocation:
    """What the URL of a page selects: the search line, the page of the list, the view of the letter."""

    query: str = ""
    before: int | None = None
    view: str = "html"

    def list_url(self) -> str:
        """The URL of the list at this location."""
        return _url("/", q=self.query, before=self.before)

    def letter_url(self, letter: int, view: str | None = None) -> str:
        """The URL of a letter that is opened from this location."""
        selected = view or self.view
        return _url(
            f"/letters/{letter}",
            q=self.query,
            before=self.before,
            view="" if selected == "html" else selected,
        )


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A row of the list. `day` is the heading above the row, or empty."""

    id: int
    url: str
    subject: str
    to: str
    template: str
    attachments: int
    read: bool
    when: str
    full: str
    iso: str
    day: str


def list_context(inbox: Inbox, location: PageLocation) -> dict[str, object]:
    """The variables of list and sidebar; letters newest first."""
    parsed = parse_query(location.query)
    unknown = parsed if isinstance(parsed, UnknownOperator) else None
    letter_filter = parsed if isinstance(parsed, LetterFilter) else None
    counts, now = inbox.store.counts(), from_milliseconds(inbox.store.now())
    letters, total = list[StoredLetter](), 0
    if letter_filter:
        letters = inbox.store.find(replace(letter_filter, before=location.before), PAGE_SIZE + 1)
        total = inbox.store.count(letter_filter)
    newest = inbox.store.find(LetterFilter(), 1)
    older = replace(location, before=letters[PAGE_SIZE - 1].id) if len(letters) > PAGE_SIZE else None
    return {
        "query": location.query,
        "before": location.before,
        "unknown": unknown,
        "corrected_url": _url("/", q=unknown.corrected) if unknown else "",
        "rows": letter_rows(letters[:PAGE_SIZE], location, now),
        "total": total,
        "older_url": older.list_url() if older else None,
        "newest_url": replace(location, before=None).list_url(),
        "list_url": location.list_url(),
        "newest": newest[0].id if newest else 0,
        "last_received": format_recent_time(from_milliseconds(newest[0].received_at), now) if newest else "",
        "hints": HINTS,
        "send_command": SEND_COMMAND,
        "smtp": inbox.smtp,
    } | _sidebar_context(inbox, counts)


def letter_rows(letters: list[StoredLetter], location: PageLocation, now: datetime) -> list[LetterRow]:
    """The rows of letters, with a heading at the first letter of each day before today."""
    rows, previous_day = list[LetterRow](), "Today"
    for letter in letters:
        moment = from_milliseconds(letter.received_at)
        day = format_day(moment, now)
        rows.append(
            LetterRow(
                id=letter.id,
                url=location.letter_url(letter.id),
                subject=display_subject(letter),
                to=display_recipients(letter),
                template=letter.template,
                attachments=letter.attachments,
                read=letter.read,
                when=f"{moment:%H:%M}",
                full=format_time(moment),
                iso=moment.isoformat(),
                day=day if day != previous_day else "",
            )
        )
        previous_day = day
    return rows


def display_subject(letter: StoredLetter) -> str:
    """The subject, or a placeholder for an empty subject."""
    return letter.subject or "(no subject)"


def display_recipients(letter: StoredLetter) -> str:
    """The first recipient and the number of the others."""
    first, *more = map(display_address, letter.recipients)
    return f"{first} and {len(more)} more" if more else first


def _sidebar_context(inbox: Inbox, counts: InboxCounts) -> dict[str, object]:
    limits = inbox.limits
    return {
        "letters_kept": counts.letters,
        "unread": counts.unread,
        "groups": [_group_context(group) for group in inbox.store.templates()],
        "retention": f"{format_count(limits.letters, 'letter')}, {format_size(limits.bytes)}, "
        f"{format_count(limits.days, 'day')}",
        "stored": f"{format_count(counts.letters, 'letter')}, {format_size(counts.bytes)}",
        "fill_percent": _fill_percent(counts, limits),
    }


def _group_context(group: TemplateGroup) -> dict[str, object]:
    query = f"template:{group.template}"
    return {
        "template": group.template,
        "letters": group.letters,
        "unread": group.unread,
        "title": format_count(group.letters, "letter") + (f", {group.unread} unread" if group.unread else ""),
        "query": query,
        "url": _url("/", q=query),
    }


def _fill_percent(counts: InboxCounts, limits: RetentionLimits) -> int:
    share = max(counts.letters / limits.letters, counts.bytes / limits.bytes)
    return min(100, round(100 * share))


def _url(path: str, **arguments: object) -> str:
    given = {name: value for name, value in arguments.items() if value}
    return f"{path}?{urlencode(given)}" if given else path
