"""The proof of a template: may it go live, and what would its letters look like?

`prove` takes a template and its layout, compiles them, checks every variable against the schema and
renders every sample, with the code that workers send with. It gives a `Proof`: the compiled template, or
the problems that stand in its way, each with field and line; warnings; and the letters of the samples.
It never raises for what is wrong with a manifest. `proofs.prove_all` does so for a whole set.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from postroom.letter.compiled import CompiledTemplate, File
from postroom.letter.duration import seconds
from postroom.letter.html.layout import stand_in
from postroom.letter.html.markup import Markup
from postroom.letter.html.stylesheet import read_sheet
from postroom.letter.html.template_source import TemplateSource
from postroom.letter.language.bounds import Clocks
from postroom.letter.language.environment import TEXT
from postroom.letter.language.pieces import Source
from postroom.letter.live import FACTS, Live
from postroom.letter.problems import Code, Problem, Rejected, Severity
from postroom.letter.proving.advice import advise
from postroom.letter.proving.draft import Draft, Part, drafts, locate, read_draft, read_part
from postroom.letter.proving.trial import Try, differences, quicken, tries
from postroom.letter.proving.variables import Reader, unused
from postroom.letter.references import layout_field
from postroom.letter.render import Rendered
from postroom.letter.schema import Contract
from postroom.letter.template import EmailLayout, EmailTemplate, EmailTemplateSpec


@dataclass(frozen=True, slots=True)
class SampleResult:
    """A sample's letter."""

    name: str
    locale: str
    rendered: Rendered

    @property
    def html_bytes(self) -> int:
        """Size of the HTML in UTF-8; Gmail cuts off after 102 KB."""
        return len(self.rendered.html.encode())

    @property
    def text_bytes(self) -> int:
        """Size of the text in UTF-8."""
        return len(self.rendered.text.encode())


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of a proof. With problems there is no compiled template."""

    name: str
    compiled: CompiledTemplate | None = None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    samples: tuple[SampleResult, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the template may go live."""
        return self.compiled is not None


def prove(template: EmailTemplate, layout: EmailLayout | None, clocks: Clocks | None = None) -> Proof:
    """Prove one template. `clocks` bounds the time of each rendering."""
    name = template.metadata.name
    try:
        contract = Contract(template.spec.variables)
        languages = drafts(template.spec, layout)
    except Rejected as rejected:
        return Proof(name, problems=rejected.problems)
    static, used = _read(template.spec, layout, languages)
    samples, unfit = _admit_samples(template.spec, contract)
    sheets = list(_check_css(template.spec, layout, languages))
    problems = [*static, *(each for each in sheets if each.severity is Severity.ERROR), *unfit]
    if problems:
        return Proof(name, problems=tuple(dict.fromkeys(problems)))
    sure = _compiled(template, languages)
    letters = list(tries(sure, samples))
    pages = {draft.tag: draft.page for draft in languages}
    expected, problems = _render_samples(Live(sure, clocks), letters, pages)
    if problems:
        return Proof(name, problems=tuple(dict.fromkeys(problems)))
    final, reasons, sent = _quickened(sure, list(zip(letters, expected, strict=True)), clocks)
    results = tuple(
        SampleResult(letter.sample.name, rendered.language, replace(rendered, revision=final.revision))
        for letter, rendered in zip(letters, sent, strict=True)
    )
    warnings = [
        *(each for each in sheets if each.severity is not Severity.ERROR),
        *_unused(template.spec, used),
        *(_slow(reason) for reason in reasons),
        *(word for result in results for word in advise(result.rendered, template.spec.category)),
    ]
    return Proof(name, final, warnings=tuple(dict.fromkeys(warnings)), samples=results)


def mistakes_without_layout(template: EmailTemplate) -> tuple[Problem, ...]:
    """What is wrong with a template, as far as it can be told while its layout is not here.

    That is everything but its page, which is neither read as HTML nor rendered. A variable that the layout
    sets itself is said to be undeclared.
    """
    spec = template.spec
    assert spec.layout_ref is not None
    pages = [("spec", spec.html), *((f"spec.locales[{n}]", each.html) for n, each in enumerate(spec.locales))]
    try:
        contract = Contract(spec.variables)
        asked = stand_in(spec.layout_ref.name, [(html, f"{at}.html") for at, html in pages if html])
        languages = drafts(spec, asked)
    except Rejected as rejected:
        return rejected.problems
    static, _ = _read(spec, None, languages, whole=False)
    _, unfit = _admit_samples(spec, contract)
    return tuple(dict.fromkeys((*static, *_check_css(spec, None, languages), *unfit)))


def _read(
    spec: EmailTemplateSpec, layout: EmailLayout | None, languages: list[Draft], *, whole: bool = True
) -> tuple[list[Problem], set[str]]:
    problems: list[Problem] = []
    used: set[str] = set()
    for draft in languages:
        found, reading = read_draft(draft, spec.variables, layout, whole=whole)
        problems += found
        used |= reading.used
    extra = [Part(f"spec.headers[{i}].value", header.value) for i, header in enumerate(spec.headers)]
    if spec.unsubscribe_url:
        extra.append(Part("spec.unsubscribeUrl", spec.unsubscribe_url))
    for part in extra:
        reader = Reader(spec.variables, part.field)
        problems += [*read_part(TEXT, part, reader), *reader.reading.problems]
        used |= reader.reading.used
    if "letter" in spec.variables.get("properties", {}):
        message = f"`letter` is the name of what Postroom knows itself ({', '.join(FACTS)}); choose another"
        problems.append(Problem(Code.SCHEMA_INVALID, "spec.variables.properties.letter", message))
    return problems, used


def _check_css(
    spec: EmailTemplateSpec, layout: EmailLayout | None, languages: list[Draft]
) -> Iterator[Problem]:
    sheets = [("spec.css", spec.css)]
    if layout:
        sheets.append((f"{layout_field(layout.metadata.name)}.css", layout.spec.css))
    for field, sheet in sheets:
        yield from css_problems(sheet or "", field, 0)
    for draft in languages:
        for line, sheet in _style_elements(draft.page.text):
            for problem in css_problems(sheet, draft.html.field, line):
                yield locate(problem, draft.page)


def _style_elements(source: str) -> Iterator[tuple[int, str]]:
    """The CSS of each `<style>` in template source, and the number of lines before it."""
    try:
        styles = TemplateSource(source).markup.styles
    except Rejected:  # the same is found where the source is read
        return
    for style in styles:
        yield source.count("\n", 0, style.content_start), source[style.content_start : style.content_end]


@lru_cache(maxsize=128)
def css_problems(css: str, field: str, offset: int) -> tuple[Problem, ...]:
    """What is wrong with a sheet, with `offset` added to its lines. Kept: many templates share a layout's."""
    if any(sign in css for sign in ("{{", "{%", "{#")):
        return ()  # it is CSS only once it is rendered, and is read again then
    problems = read_sheet(css, field=field).problems
    return tuple(replace(each, line=(each.line or 0) + offset) for each in problems)


def _admit_samples(
    spec: EmailTemplateSpec, contract: Contract
) -> tuple[list[tuple[int, Any, Mapping[str, Any]]], list[Problem]]:
    admitted, problems = [], []
    for index, sample in enumerate(spec.samples):
        try:
            admitted.append((index, sample, contract.admit(sample.data)))
        except Rejected as rejected:
            for problem in rejected.problems:
                field = f"spec.samples[{index}].{problem.field}"
                message = f"sample `{sample.name}`: {problem.message}"
                problems.append(Problem(problem.code, field, message))
    return admitted, problems


def _compiled(template: EmailTemplate, languages: list[Draft]) -> CompiledTemplate:
    spec, metadata = template.spec, template.metadata
    return CompiledTemplate(
        name=metadata.name,
        namespace=metadata.namespace,
        profile=spec.smtp_profile_ref.name,
        event_types=tuple(spec.event_types),
        category=spec.category,
        editions=tuple(draft.edition() for draft in languages),
        variables=spec.variables,
        sender=(spec.sender.name, spec.sender.address) if spec.sender else None,
        reply_to=spec.reply_to,
        headers=tuple((header.name, header.value) for header in spec.headers),
        attachments=tuple(File(f.filename, f.content_type, f.content) for f in spec.attachments),
        expires_after=seconds(spec.expires_after) if spec.expires_after else None,
        unsubscribe_url=spec.unsubscribe_url,
        suspend=spec.suspend,
    )


def _render_samples(
    live: Live, letters: list[Try], pages: Mapping[str, Source]
) -> tuple[list[Rendered], list[Problem]]:
    rendered, problems = [], []
    for letter in letters:
        try:
            made = live.write(letter.event, letter.data)
            Markup(made.html)
            rendered.append(made)
        except Rejected as rejected:
            page = pages[live.edition(letter.event.locale).tag]
            for problem in rejected.problems:
                placed = locate(problem, page) if problem.field == "spec.html" else problem
                message = f"sample `{letter.sample.name}`: {placed.message}"
                problems.append(Problem(placed.code, placed.field, message, placed.line))
    return rendered, problems


def _quickened(
    sure: CompiledTemplate, letters: list[tuple[Try, Rendered]], clocks: Clocks | None
) -> tuple[CompiledTemplate, list[str], list[Rendered]]:
    """The template with as much done in advance as can be, why it is not all, and the letters it makes."""
    attempts = [quicken(edition) for edition in sure.editions]
    fast = replace(sure, editions=tuple(edition for edition, _ in attempts))
    reasons = [reason for _, reason in attempts if reason]
    differing, sent = differences(Live(fast, clocks), letters)
    kept = tuple(
        slow if slow.tag in differing else quick
        for slow, quick in zip(sure.editions, fast.editions, strict=True)
    )
    reasons += [f"{tag}: {why}" for tag, why in differing.items()]
    return replace(fast, editions=kept).sealed(), reasons, sent


def _unused(spec: EmailTemplateSpec, used: set[str]) -> Iterator[Problem]:
    for name in unused(spec.variables, used):
        message = f"`{name}` is declared and nothing reads it"
        yield Problem(Code.ADVICE, f"spec.variables.properties.{name}", message)


def _slow(reason: str) -> Problem:
    message = f"CSS is inlined anew for each letter, which takes milliseconds: {reason}"
    return Problem(Code.ADVICE, "spec.html", message)
