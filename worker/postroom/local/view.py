"""The page that `postroom up` shows: addresses, letters by state, what is wrong, the last letters.

Input: a `Page`. Output: something rich can print, made for 80 columns and 24 lines and better where there
is more: what is wrong comes before the letters, which fill the lines that are left. Pure: it looks at
nothing and decides nothing. Addresses of people are masked.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from postroom.adapters.ledger.reader import LetterView
from postroom.letter.address import mask_address
from postroom.letter.profile import dead_letter_topic
from postroom.local.commands import broken
from postroom.local.manifests import Finding
from postroom.local.observe import ProfileView, Snapshot

STATES = {
    "claimed": "cyan",
    "dotting": "cyan",
    "accepted": "green",
    "delivered": "green",
    "captured": "green",
    "scheduled": "blue",
    "deferred": "yellow",
    "in_doubt": "yellow",
    "suppressed": "dim",
    "expired": "dim",
    "failed": "red",
    "render_failed": "red",
    "bounced": "red",
}
"""Every state of the ledger and its colour, in the order of a letter's life."""
UNKNOWN = "–"
SHOWN_FINDINGS = 6
SHOWN_NOTES = 4


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that is shown at one moment."""

    places: Sequence[tuple[str, str]]
    """Name and address: inbox, gateway, Kafka, workers, manifests, data."""
    snapshot: Snapshot
    rates: Mapping[str, float]
    """Letters per second over the last seconds, by profile."""
    example: str
    """A command that sends a letter."""
    findings: Sequence[Finding] = ()
    notes: Sequence[str] = ()
    check: str = "postroom check"
    """A command that tells every finding."""


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A page on a terminal of some size."""

    page: Page

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown, left = SHOWN_FINDINGS + 1, -1
        while left < 0 and shown > 1:  # with fewer findings, until the way out is in sight
            shown -= 1
            head = Group(*_head(self.page, shown, options.max_width))
            left = options.max_height - len(console.render_lines(head, options, pad=False)) - 1
        yield from _head(self.page, shown, options.max_width)
        if self.page.snapshot.latest and left > 0:
            yield Text()
            yield _latest(self.page.snapshot.latest[:left])


def draw(page: Page) -> RenderableType:
    """The whole page."""
    return _Sheet(page)


def _head(page: Page, findings: int, width: int) -> Iterator[RenderableType]:
    """Everything but the letters."""
    yield _places(page.places)
    yield Text()
    yield _profiles(page.snapshot.profiles, page.rates)
    if trouble := _trouble(page, findings):
        yield Text()
        yield from trouble
    if not page.snapshot.latest:
        yield Text()
        yield Text("No letter yet. In another terminal:", style="dim")
        yield Text(broken(page.example, width), no_wrap=True, overflow="ignore")
    yield Text()
    yield Text("Ctrl-C ends it. Letters and inbox stay in the data folder.", style="dim")


def _places(places: Iterable[tuple[str, str]]) -> RenderableType:
    table = _table()
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, address in places:
        table.add_row(name, Text(address, style="bold" if address.startswith("http") else ""))
    return table


def _profiles(profiles: Sequence[ProfileView], rates: Mapping[str, float]) -> RenderableType:
    if not profiles:
        return Text("No SmtpProfile yet: add one to the manifests.", style="yellow")
    table = _table(show_header=True)
    for name in ("profile", "mode"):
        table.add_column(name, no_wrap=True)
    for name in ("templates", "lag", "letters/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("letters")
    for profile in profiles:
        rate = f"{rates.get(profile.home, 0.0):.1f}"
        table.add_row(
            profile.home,
            profile.mode or UNKNOWN,
            str(profile.templates),
            waiting([profile]),
            rate,
            letters_by_state(profile.letters.items()),
        )
    return table


def waiting(profiles: Sequence[ProfileView]) -> str:
    """How many events wait, where every worker can tell."""
    lags = [profile.lag for profile in profiles if profile.lag is not None]
    return f"{sum(lags):,}" if len(lags) == len(profiles) else UNKNOWN


def letters_by_state(counts: Iterable[tuple[str, int]]) -> Text:
    """`14 captured, 1 deferred`, in the order of a letter's life."""
    found = dict(counts)
    parts = [
        Text(f"{found[state]:,} {state}", style=colour)
        for state, colour in STATES.items()
        if found.get(state)
    ]
    return Text(", ").join(parts) if parts else Text("none yet", style="dim")


def _latest(letters: Sequence[LetterView]) -> RenderableType:
    table = _table()
    for ratio in (None, None, 3, 4):
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=ratio)
    for letter in letters:
        revision = f"@{letter.revision}" if letter.revision else ""
        what = f"{letter.template}{revision}" if letter.template else letter.event_type
        reason = f"  {letter.code}" if letter.code else ""
        table.add_row(
            Text(f"{letter.received.astimezone():%H:%M:%S}", style="dim"),
            Text(letter.state, style=STATES.get(letter.state, "")),
            mask_address(letter.recipient),
            Text(what) + Text(reason, style="yellow"),
        )
    return table


def _trouble(page: Page, findings: int) -> list[Text]:
    lines: list[Text] = []
    errors = [finding for finding in page.findings if finding.severity == "error"]
    lines += [Text(str(finding), style="red") for finding in errors[:findings]]
    if len(errors) > findings:
        lines.append(Text(f"and {len(errors) - findings} more: {page.check}", style="red"))
    for profile in page.snapshot.profiles:
        lines += [Text(f"{profile.home}: {problem}", style="yellow") for problem in profile.problems]
        if profile.refused:
            lines.append(Text(refusals(profile), style="yellow"))
        if profile.held:
            held = ", ".join(profile.held)
            lines.append(Text(f"{profile.home}: {held} serves its last good revision", style="yellow"))
    lines += [Text(note, style="dim") for note in page.notes[-SHOWN_NOTES:]]
    return lines


def refusals(profile: ProfileView) -> str:
    """That records were refused: how many since the worker began, where they are, why the last one was."""
    records = "1 record is" if profile.refused == 1 else f"{profile.refused:,} records are"
    where = dead_letter_topic(profile.topic) if profile.topic else "the dead-letter topic"
    why = f"; the last one: {profile.last_refusal}" if profile.last_refusal else ""
    return f"{profile.home}: {records} refused, on {where}{why}"


def _table(*, show_header: bool = False) -> Table:
    return Table(
        box=None,
        show_header=show_header,
        header_style="dim",
        padding=(0, 2, 0, 0),
        pad_edge=False,
        expand=False,
    )
