"""A template tried on its samples: the slow and sure way of making a letter against the fast one.

The sure way renders the flat source, then inlines the CSS, then reads the text off the page. The fast one
has both done on source, once. An edition is fast only when every sample comes out the same; otherwise
it is inlined at each letter, and the trial says why.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from postroom.letter.compiled import CompiledTemplate, Edition
from postroom.letter.event import Event
from postroom.letter.html.template_source import inlined
from postroom.letter.html.textsource import text_of_source
from postroom.letter.html.tokens import CannotInline
from postroom.letter.language.environment import HTML
from postroom.letter.language.messages import can_yield_markup
from postroom.letter.live import Live, options_of
from postroom.letter.problems import Rejected
from postroom.letter.render import Rendered
from postroom.letter.template import Sample

SAMPLE_TIME = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
"""Samples are rendered as of one fixed moment, so that a proof says the same tomorrow."""
SAMPLE_RECIPIENT = "reader@example.org"
FULL_TRIALS = 64
"""Up to so many letters every sample is tried in every language; beyond it, each in its own."""
STYLE_ELEMENT = re.compile(r"<style\b[^>]*>.*?</style\s*>\n?", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Try:
    """One letter to make: a sample in a language."""

    sample: Sample
    index: int
    event: Event
    data: Mapping[str, Any]


def sample_event(sample: Sample, event_type: str, locale: str | None) -> Event:
    """The event that a sample stands for."""
    return Event(
        id=f"sample-{sample.name}",
        source="proof",
        type=event_type,
        recipient=sample.recipient or SAMPLE_RECIPIENT,
        time=SAMPLE_TIME,
        data=sample.data,
        locale=locale,
    )


def tries(
    compiled: CompiledTemplate, samples: Iterable[tuple[int, Sample, Mapping[str, Any]]]
) -> Iterator[Try]:
    """Which samples to try in which languages: each in its own first."""
    found = list(samples)
    live = Live(compiled)
    every = len(found) * len(compiled.editions) <= FULL_TRIALS
    for index, sample, data in found:
        own = live.edition(sample.locale).tag
        others = [edition.tag for edition in compiled.editions if edition.tag != own]
        for tag in [sample.locale, *(others if every or index == 0 else [])]:
            yield Try(sample, index, sample_event(sample, compiled.event_types[0], tag), data)


@dataclass(frozen=True, slots=True)
class Ahead:
    """An edition with as much done ahead as can be."""

    edition: Edition
    reason: str = ""
    """Why it is not all."""
    beaten_hooks: tuple[str, ...] = ()


def quicken(edition: Edition) -> Ahead:
    """The edition with as much done in advance as can be, and why it is not all."""
    if edition.messages and can_yield_markup(HTML.parse(edition.html)):
        return Ahead(edition, "a message whose key ends in `_html`, or is made of data, may bring elements")
    try:
        made = inlined(edition.html, edition.css, options_of(edition))
    except CannotInline as reason:
        return Ahead(edition, str(reason))
    except Rejected:
        return Ahead(edition, "its source cannot be read as HTML")
    fast = replace(edition, html=made.text, css="", inline="source")
    fast = fast if edition.text is not None else with_text(fast)
    return Ahead(fast, beaten_hooks=made.beaten_hooks)


def with_text(edition: Edition) -> Edition:
    """The edition with its text derived from source; as it was where that is only known per letter."""
    try:
        return replace(edition, text=text_of_source(edition.html), text_way="reduced")
    except CannotInline:
        return edition


def differences(
    quick: Live, letters: Iterable[tuple[Try, Rendered]]
) -> tuple[dict[str, str], list[Rendered]]:
    """The editions that make another letter than the sure way did, by tag, and which sample shows it.

    And the letters as they will be sent: the quick ones, and the sure ones of such editions.
    """
    made = [(letter, expected, _write(quick, letter)) for letter, expected in letters]
    reasons: dict[str, str] = {}
    for letter, expected, found in made:
        tag = expected.language
        if tag not in reasons and (part := difference(found, expected)):
            reasons[tag] = f"sample `{letter.sample.name}` comes out otherwise ({part})"
    sent = [expected if expected.language in reasons else found for _, expected, found in made]
    return reasons, [each for each in sent if isinstance(each, Rendered)]


def _write(quick: Live, letter: Try) -> Rendered | Rejected:
    try:
        return quick.write(letter.event, letter.data)
    except Rejected as rejected:
        return rejected


def difference(found: Rendered | Rejected, expected: Rendered) -> str:
    """What differs from the letter that is expected, or nothing."""
    if isinstance(found, Rejected):
        return str(found.problems[0].code)
    # rules for elements that this sample does not bring are in one sheet and not in the other
    if STYLE_ELEMENT.sub("", found.html) != STYLE_ELEMENT.sub("", expected.html):
        return "html"
    return "" if found.text == expected.text else "text"
