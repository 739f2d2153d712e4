"""Render a template's samples, and precompute what can be precomputed.

Each locale variant exists in two forms. The reference form renders the source and inlines the CSS afterwards,
for each letter. The precomputed form has the CSS inlined in the source, once, where
`template_source.find_dynamic` proves that every event gives the same letter. Every sample is rendered with
the code that workers send with. As a check of that validation, the largest letter of each language is also
rendered in the reference form; if it differs, the language keeps the reference form, and the result gives the
reason. Property tests compare both forms for random templates and data (tests/letters).

`source_pages` renders the samples with nothing inlined: the author's page with data filled in, which
`postroom check --browser` compares with the delivered page.
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
from postroom.letter.html.stylesheet import CannotInline
from postroom.letter.html.template_source import inlined
from postroom.letter.language.bounds import Timers
from postroom.letter.language.environment import HTML
from postroom.letter.language.messages import can_yield_markup
from postroom.letter.problems import Rejected
from postroom.letter.renderer import TemplateRenderer, inline_options
from postroom.letter.template import EmailLayout, EmailTemplate, SampleSpec
from postroom.letter.validation.drafts import locale_drafts

SAMPLE_TIME = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
"""Samples are rendered at one fixed time, so that a later validation gives the same result."""
SAMPLE_RECIPIENT = "reader@example.org"
MAX_FULL_RUNS = 64
"""Up to this number of letters every sample is rendered in every language, beyond it only in its own."""
STYLE_ELEMENT = re.compile(r"<style\b[^>]*>.*?</style\s*>\n?", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SampleRun:
    """One letter to render: a sample in one language."""

    sample: SampleSpec
    index: int
    event: Event
    data: Mapping[str, Any]


def sample_event(sample: SampleSpec, event_type: str, locale: str | None) -> Event:
    """The event that a sample represents."""
    return Event(
        id=f"sample-{sample.name}",
        source="sample",
        type=event_type,
        recipient=sample.recipient or SAMPLE_RECIPIENT,
        time=SAMPLE_TIME,
        data=sample.data,
        locale=locale,
    )


def sample_runs(
    compiled: CompiledTemplate, samples: Iterable[tuple[int, SampleSpec, Mapping[str, Any]]]
) -> Iterator[SampleRun]:
    """The samples to render in each language; each sample in its own language first."""
    validated = list(samples)
    renderer = TemplateRenderer(compiled)
    is_full = len(validated) * len(compiled.variants) <= MAX_FULL_RUNS
    for index, sample, data in validated:
        own = renderer.variant(sample.locale).tag
        others = [variant.tag for variant in compiled.variants if variant.tag != own]
        for tag in [sample.locale, *(others if is_full or index == 0 else [])]:
            yield SampleRun(sample, index, sample_event(sample, compiled.event_types[0], tag), data)


@dataclass(frozen=True, slots=True)
class PrecomputedVariant:
    """A variant with everything precomputed that can be."""

    variant: LocaleVariant
    reason: str = ""
    """Why not everything is precomputed; empty if everything is."""
    beaten_hooks: tuple[str, ...] = ()
    """Selectors of client hooks that inline declarations override."""


def precompute(variant: LocaleVariant) -> PrecomputedVariant:
    """Inline the CSS in the source of a variant if that gives the same letter for every event."""
    if variant.messages and can_yield_markup(HTML.parse(variant.html)):
        return PrecomputedVariant(
            variant, "a message whose key ends in `_html`, or is made of data, may add elements"
        )
    try:
        source = inlined(variant.html, variant.css, inline_options(variant))
    except CannotInline as reason:
        return PrecomputedVariant(variant, str(reason))
    except Rejected:
        return PrecomputedVariant(variant, "its source cannot be read as HTML")
    precomputed = replace(variant, html=source.text, css="", inline="source")
    return PrecomputedVariant(precomputed, beaten_hooks=source.beaten_hooks)


@dataclass(frozen=True, slots=True)
class SampleRunResult:
    """The result of rendering a template's samples."""

    compiled: CompiledTemplate
    """The template with everything precomputed that can be."""
    reasons: tuple[str, ...]
    """Why not everything is precomputed."""
    letters: tuple[RenderedLetter, ...]
    """The samples' letters as they are sent; empty if one of them was rejected."""
    beaten_hooks: tuple[str, ...] = ()
    """Selectors of client hooks that inline declarations override."""
    rejected_runs: tuple[tuple[SampleRun, str, Rejected], ...] = ()
    """Letters that could not be rendered: run, language, and the problems with lines of the assembled source.
    """


def run_samples(
    reference: CompiledTemplate, runs: Sequence[SampleRun], clocks: Timers | None
) -> SampleRunResult:
    """Precompute what can be precomputed, and render every letter.

    `reference` is the template in its reference form. A letter that only the precomputed form rejects is
    rendered in the reference form.
    """
    attempts = [precompute(variant) for variant in reference.variants]
    variants = tuple(attempt.variant for attempt in attempts)
    reference_renderer = TemplateRenderer(reference, clocks)
    fast_renderer = TemplateRenderer(replace(reference, variants=variants), clocks, like=reference_renderer)
    rendered = [_render(fast_renderer, run) for run in runs]
    if any(isinstance(letter, Rejected) for letter in rendered):
        expected = [_render(reference_renderer, run) for run in runs]
        rejected_runs = tuple(
            (run, reference_renderer.variant(run.event.locale).tag, letter)
            for run, letter in zip(runs, expected, strict=True)
            if isinstance(letter, Rejected)
        )
        if rejected_runs:
            return SampleRunResult(reference, (), (), rejected_runs=rejected_runs)
    precomputed = {attempt.variant.tag for attempt in attempts if not attempt.reason}
    differing = _differences(
        _without_text(reference, clocks), list(zip(runs, rendered, strict=True)), precomputed
    )
    kept = tuple(
        original if original.tag in differing else variant
        for original, variant in zip(reference.variants, variants, strict=True)
    )
    letters = tuple(
        reference_renderer.render_validated(run.event, run.data)
        if isinstance(letter, Rejected) or letter.language in differing
        else letter
        for run, letter in zip(runs, rendered, strict=True)
    )
    reasons = [attempt.reason for attempt in attempts if attempt.reason]
    reasons += [f"{tag}: {reason}" for tag, reason in differing.items()]
    hooks = dict.fromkeys(hook for attempt in attempts for hook in attempt.beaten_hooks)
    return SampleRunResult(replace(reference, variants=kept), tuple(reasons), letters, tuple(hooks))


def _differences(
    reference: TemplateRenderer,
    letters: Sequence[tuple[SampleRun, RenderedLetter | Rejected]],
    precomputed: set[str],
) -> dict[str, str]:
    """The precomputed languages whose letters differ from the reference form, each with the reason.

    Of each language the largest letter is compared, because it contains most of what events bring. A letter
    that the precomputed form rejected differs.
    """
    largest: dict[str, tuple[SampleRun, RenderedLetter]] = {}
    reasons: dict[str, str] = {}
    for run, letter in letters:
        tag = reference.variant(run.event.locale).tag
        if isinstance(letter, Rejected):
            reasons.setdefault(tag, _reason(run, str(letter.problems[0].code)))
        elif tag in precomputed and (tag not in largest or len(letter.html) > len(largest[tag][1].html)):
            largest[tag] = run, letter
    for tag, (run, letter) in largest.items():
        if tag not in reasons and page_differs(letter, reference.render_validated(run.event, run.data)):
            reasons[tag] = _reason(run, "html")
    return reasons


def _without_text(reference: CompiledTemplate, clocks: Timers | None) -> TemplateRenderer:
    """A renderer of the reference form without text parts, which are derived from the page."""
    variants = tuple(replace(variant, text="", text_origin="given") for variant in reference.variants)
    return TemplateRenderer(replace(reference, variants=variants), clocks)


def _reason(run: SampleRun, part: str) -> str:
    return f"sample `{run.sample.name}` renders differently ({part})"


def _render(renderer: TemplateRenderer, run: SampleRun) -> RenderedLetter | Rejected:
    try:
        letter = renderer.render_validated(run.event, run.data)
        Markup(letter.html)  # raises Rejected for elements that are nested too deeply
    except Rejected as rejected:
        return rejected
    return letter


def page_differs(letter: RenderedLetter, expected: RenderedLetter) -> bool:
    """Whether the page differs from the expected one, apart from `<style>` elements.

    The two forms may keep different rules for elements that do not occur in this sample.
    """
    return STYLE_ELEMENT.sub("", letter.html) != STYLE_ELEMENT.sub("", expected.html)


@dataclass(frozen=True, slots=True)
class SourcePage:
    """A sample's page before inlining."""

    sample: str
    locale: str
    page: str
    css: str
    """The style sheet beside the page, which precedes the page's own styles."""


def source_pages(
    template: EmailTemplate, layout: EmailLayout | None, compiled: CompiledTemplate
) -> Iterator[SourcePage]:
    """The pages of the samples of a validated template before inlining, in the order of its sample letters.

    Raises Rejected if a sample cannot be rendered.
    """
    variants = [draft.variant() for draft in locale_drafts(template.spec, layout)]
    sheets = {variant.tag: variant.css for variant in variants}
    plain = replace(
        compiled,
        variants=tuple(
            replace(variant, css="", inline="source", text="", text_origin="given") for variant in variants
        ),
    )
    data_schema = DataSchema(template.spec.variables)
    samples = [
        (n, sample, data_schema.validate(sample.data)) for n, sample in enumerate(template.spec.samples)
    ]
    renderer = TemplateRenderer(plain)
    for run in sample_runs(plain, samples):
        letter = renderer.render_validated(run.event, run.data)
        yield SourcePage(run.sample.name, letter.language, letter.html, sheets[letter.language])
