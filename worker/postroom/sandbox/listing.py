"""The list as its page shows it: what was searched → slips, piles and figures, ready to print."""

from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlencode

from postroom.sandbox import wording
from postroom.sandbox.inbox import Inbox
from postroom.sandbox.search import Filter, Unknown, read_query
from postroom.sandbox.store import Counts, Limits, Pile
from postroom.sandbox.summary import Summary

PAGE = 50
HINTS = ("to:", "from:", "subject:", "template:", "has:attachment", "is:unread")
SEND_COMMAND = "postroom send shop.user.code-requested --to mira@example.com code=492087"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the reader is: the search line, the page of the list, the view of the letter."""

    query: str = ""
    before: int | None = None
    view: str = "html"

    def list_url(self) -> str:
        """The list at this place."""
        return _url("/", q=self.query, before=self.before)

    def letter_url(self, letter: int, view: str | None = None) -> str:
        """A letter, opened from this place."""
        wanted = view or self.view
        return _url(
            f"/letters/{letter}", q=self.query, before=self.before, view="" if wanted == "html" else wanted
        )


@dataclass(frozen=True, slots=True)
class Slip:
    """One line of the list. `day` is the heading above it, where a new day begins."""

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


def describe(inbox: Inbox, place: Place) -> dict[str, object]:
    """Everything that the list and the rack need; the wanted letters newest first."""
    found = read_query(place.query)
    unknown = found if isinstance(found, Unknown) else None
    wanted = found if isinstance(found, Filter) else None
    counts, now = inbox.store.counts(), wording.at(inbox.store.now())
    letters = inbox.store.find(replace(wanted, before=place.before), PAGE + 1) if wanted else []
    newest = inbox.store.find(Filter(), 1)
    older = replace(place, before=letters[PAGE - 1].id) if len(letters) > PAGE else None
    return {
        "query": place.query,
        "before": place.before,
        "unknown": unknown,
        "corrected_url": _url("/", q=unknown.corrected) if unknown else "",
        "slips": slips(letters[:PAGE], place, now),
        "total": inbox.store.count(wanted) if wanted else 0,
        "older_url": older.list_url() if older else None,
        "newest_url": replace(place, before=None).list_url(),
        "list_url": place.list_url(),
        "newest": newest[0].id if newest else 0,
        "last_came": wording.lately(wording.at(newest[0].received_at), now) if newest else "",
        "hints": HINTS,
        "send_command": SEND_COMMAND,
        "smtp": inbox.smtp,
    } | _rack(inbox, counts)


def slips(letters: list[Summary], place: Place, now: datetime) -> list[Slip]:
    """Letters → slips, with a heading where a day before today begins."""
    made, last = list[Slip](), "Today"
    for letter in letters:
        moment = wording.at(letter.received_at)
        today = wording.day(moment, now)
        made.append(
            Slip(
                id=letter.id,
                url=place.letter_url(letter.id),
                subject=subject_of(letter),
                to=recipients_of(letter),
                template=letter.template,
                attachments=letter.attachments,
                read=letter.read,
                when=f"{moment:%H:%M}",
                full=wording.full(moment),
                iso=moment.isoformat(),
                day=today if today != last else "",
            )
        )
        last = today
    return made


def subject_of(letter: Summary) -> str:
    """The subject, or words in its place."""
    return letter.subject or "(no subject)"


def recipients_of(letter: Summary) -> str:
    """The first recipient and how many more there are."""
    first, *more = map(wording.address, letter.recipients)
    return f"{first} and {len(more)} more" if more else first


def _rack(inbox: Inbox, counts: Counts) -> dict[str, object]:
    limits = inbox.limits
    return {
        "letters_kept": counts.letters,
        "unread": counts.unread,
        "piles": [_pile(pile) for pile in inbox.store.templates()],
        "keeps": f"{wording.counted(limits.letters, 'letter')}, {wording.size(limits.bytes)}, "
        f"{wording.counted(limits.days, 'day')}",
        "holds": f"{wording.counted(counts.letters, 'letter')}, {wording.size(counts.bytes)}",
        "full": _percent(counts, limits),
    }


def _pile(pile: Pile) -> dict[str, object]:
    query = f"template:{pile.template}"
    return {
        "template": pile.template,
        "letters": pile.letters,
        "unread": pile.unread,
        "said": wording.counted(pile.letters, "letter") + (f", {pile.unread} unread" if pile.unread else ""),
        "query": query,
        "url": _url("/", q=query),
    }


def _percent(counts: Counts, limits: Limits) -> int:
    share = max(counts.letters / limits.letters, counts.bytes / limits.bytes)
    return min(100, round(100 * share))


def _url(path: str, **arguments: object) -> str:
    given = {name: value for name, value in arguments.items() if value}
    return f"{path}?{urlencode(given)}" if given else path
