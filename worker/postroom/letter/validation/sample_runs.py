"""A template tried on its samples: the slow and sure way of making a letter against the fast one.

The sure way renders the flat source, then inlines the CSS. The fast one has the CSS inlined on source, once,
where `template_source.find_dynamic` proves that every event gets the same letter. Every sample is rendered
with what workers send with. As a check of that proof, not of the template, the largest letter of each
language is made the sure way too: where it comes out otherwise, the language is inlined at each letter, and
the trial gives the reason. (Property tests compare both ways for random templates and data: tests/letters.)

The source page of each sample: rendered as the letter is, with nothing inlined.

It is what the author wrote, with data filled in: what the delivered page is compared with
(`postroom check --browser`). Input: a template that passed its proof. Output: one page for each of the
proof's samples, in the same order, with the separate style sheet that comes before the page's own styles.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from postroom.letter.bundle import CompiledTemplate, LocaleVariant
from postroom.letter.catalog import RenderedLetter
from postroom.letter.data_schema import DataSchema
from postroom.letter.event import Event
from postroom.letter.html.markup import Markup
from postroom.letter.html.template_source import inlined
from postroom.letter.html.tokens import CannotInline
from postroom.letter.language.bounds import Clocks
from postroom.letter.language.environment import HTML
from postroom.letter.language.messages import can_yield_markup
from postroom.letter.problems import Rejected
from postroom.letter.renderer import TemplateRenderer, inline_options
from postroom.letter.template import EmailLayout, EmailTemplate, SampleSpec
from postroom.letter.validation.drafts import locale_drafts

SAMPLE_TIME = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
"""Samples are rendered as of one fixed moment, so that a proof says the same tomorrow."""
SAMPLE_RECIPIENT = "reader@example.org"
MAX_FULL_RUNS = 64
"""Up to so many letters every sample is tried in every language; beyond it, each in its own."""
STYLE_ELEMENT = re.compile(r"<style\b[^>]*>.*?</style\s*>\n?", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SampleRun:
    """One letter to make: a sample in a language."""

    sample: SampleSpec
    index: int
    event: Event
    data: Mapping[str, Any]


def sample_event(sample: SampleSpec, event_type: str, locale: str | None) -> Event:
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


def sample_runs(
    compiled: CompiledTemplate, samples: Iterable[tuple[int, SampleSpec, Mapping[str, Any]]]
) -> Iterator[SampleRun]:
    """Which samples to try in which languages: each in its own first."""
    found = list(samples)
    live = TemplateRenderer(compiled)
    every = len(found) * len(compiled.editions) <= MAX_FULL_RUNS
    for index, sample, data in found:
        own = live.variant(sample.locale).tag
        others = [edition.tag for edition in compiled.editions if edition.tag != own]
        for tag in [sample.locale, *(others if every or index == 0 else [])]:
            yield SampleRun(sample, index, sample_event(sample, compiled.event_types[0], tag), data)


@dataclass(frozen=True, slots=True)
class PrecomputedVariant:
    """An edition with as much done ahead as can be."""

    variant: LocaleVariant
    reason: str = ""
    """Why it is not all."""
    beaten_hooks: tuple[str, ...] = ()


def precompute(edition: LocaleVariant) -> PrecomputedVariant:
    """The edition with as much done in advance as can be, and why it is not all."""
    if edition.messages and can_yield_markup(HTML.parse(edition.html)):
        return PrecomputedVariant(
            edition, "a message whose key ends in `_html`, or is made of data, may bring elements"
        )
    try:
        made = inlined(edition.html, edition.css, inline_options(edition))
    except CannotInline as reason:
        return PrecomputedVariant(edition, str(reason))
    except Rejected:
        return PrecomputedVariant(edition, "its source cannot be read as HTML")
    fast = replace(edition, html=made.text, css="", inline="source")
    return PrecomputedVariant(fast, beaten_hooks=made.beaten_hooks)


@dataclass(frozen=True, slots=True)
class SampleRunResult:
    """What came of the samples of a template."""

    compiled: CompiledTemplate
    """The template with as much done in advance as can be."""
    reasons: tuple[str, ...]
    """Why not all of it is."""
    letters: tuple[RenderedLetter, ...]
    """The samples' letters as they are sent; none where one is refused."""
    beaten_hooks: tuple[str, ...] = ()
    """Selectors of client hooks that inline declarations beat."""
    refused: tuple[tuple[SampleRun, str, Rejected], ...] = ()
    """The letters that cannot be made: sample, language, and why, with lines of the flat source."""


def run_samples(
    sure: CompiledTemplate, letters: Sequence[SampleRun], clocks: Clocks | None
) -> SampleRunResult:
    """Do in advance what can be done, and make every letter."""
    attempts = [precompute(edition) for edition in sure.editions]
    editions = tuple(each.variant for each in attempts)
    slow = TemplateRenderer(sure, clocks)
    quick = TemplateRenderer(replace(sure, editions=editions), clocks, like=slow)
    made = [_write(quick, letter) for letter in letters]
    if any(isinstance(each, Rejected) for each in made):
        expected = [_write(slow, letter) for letter in letters]
        refused = tuple(
            (letter, slow.variant(letter.event.locale).tag, each)
            for letter, each in zip(letters, expected, strict=True)
            if isinstance(each, Rejected)
        )
        if refused:
            return SampleRunResult(sure, (), (), refused=refused)
    ahead = {each.variant.tag for each in attempts if not each.reason}
    differing = _differences(
        _without_text(slow.compiled, clocks), list(zip(letters, made, strict=True)), ahead
    )
    kept = tuple(
        one if one.tag in differing else two for one, two in zip(sure.editions, editions, strict=True)
    )
    sent = tuple(
        slow.render_validated(letter.event, letter.data)
        if isinstance(each, Rejected) or each.language in differing
        else each
        for letter, each in zip(letters, made, strict=True)
    )
    reasons = [each.reason for each in attempts if each.reason]
    reasons += [f"{tag}: {why}" for tag, why in differing.items()]
    hooks = dict.fromkeys(hook for each in attempts for hook in each.beaten_hooks)
    return SampleRunResult(replace(sure, editions=kept), tuple(reasons), sent, tuple(hooks))


def _differences(
    slow: TemplateRenderer, letters: Sequence[tuple[SampleRun, RenderedLetter | Rejected]], ahead: set[str]
) -> dict[str, str]:
    """The languages of `ahead` in which the sure way makes another letter, and which sample shows it.

    Compared are, of each language, the largest letter, which shows the most of what events bring, and what
    only the sure way can make.
    """
    largest: dict[str, tuple[SampleRun, RenderedLetter]] = {}
    reasons: dict[str, str] = {}
    for letter, found in letters:
        tag = slow.variant(letter.event.locale).tag
        if isinstance(found, Rejected):
            reasons.setdefault(tag, _reason(letter, str(found.problems[0].code)))
        elif tag in ahead and (tag not in largest or len(found.html) > len(largest[tag][1].html)):
            largest[tag] = letter, found
    for tag, (letter, found) in largest.items():
        if tag not in reasons and page_differs(found, slow.render_validated(letter.event, letter.data)):
            reasons[tag] = _reason(letter, "html")
    return reasons


def _without_text(sure: CompiledTemplate, clocks: Clocks | None) -> TemplateRenderer:
    """The sure way without text parts, which follow from the page."""
    editions = tuple(replace(edition, text="", text_way="given") for edition in sure.editions)
    return TemplateRenderer(replace(sure, editions=editions), clocks)


def _reason(letter: SampleRun, part: str) -> str:
    return f"sample `{letter.sample.name}` comes out otherwise ({part})"


def _write(live: TemplateRenderer, letter: SampleRun) -> RenderedLetter | Rejected:
    try:
        rendered = live.render_validated(letter.event, letter.data)
        Markup(rendered.html)  # raises where it is nested too deeply
    except Rejected as rejected:
        return rejected
    return rendered


def page_differs(found: RenderedLetter, expected: RenderedLetter) -> bool:
    """Whether the page is another one than is expected."""
    # rules for elements that this sample does not bring are in one sheet and not in the other
    return STYLE_ELEMENT.sub("", found.html) != STYLE_ELEMENT.sub("", expected.html)


@dataclass(frozen=True, slots=True)
class SourcePage:
    """A sample's page before inlining."""

    sample: str
    locale: str
    page: str
    css: str


def source_pages(
    template: EmailTemplate, layout: EmailLayout | None, compiled: CompiledTemplate
) -> Iterator[SourcePage]:
    """The pages of `prove(template, layout).samples` before inlining. Raises Rejected as a rendering does."""
    sources = [draft.variant() for draft in locale_drafts(template.spec, layout)]
    sheets = {edition.tag: edition.css for edition in sources}
    plain = replace(
        compiled,
        editions=tuple(
            replace(edition, css="", inline="source", text="", text_way="given") for edition in sources
        ),
    )
    data_schema = DataSchema(template.spec.variables)
    samples = [
        (n, sample, data_schema.validate(sample.data)) for n, sample in enumerate(template.spec.samples)
    ]
    live = TemplateRenderer(plain)
    for letter in sample_runs(plain, samples):
        rendered = live.render_validated(letter.event, letter.data)
        yield SourcePage(letter.sample.name, rendered.language, rendered.html, sheets[rendered.language])
