"""The proof of a template: may it go live, and what would its letters look like?

`prove` takes a template and its layout, compiles them, checks every variable against the schema and
renders every sample, with the code that workers send with. It gives a `Proof`: the compiled template, or
the problems that stand in its way, each with field and line; warnings; and the letters of the samples.
It never raises for what is wrong with a manifest. `proofs.prove_all` does so for a whole set.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from postroom.letter.compiled import CompiledTemplate, File
from postroom.letter.duration import seconds
from postroom.letter.html.layout import stand_in
from postroom.letter.html.stylesheet import read_sheet
from postroom.letter.html.template_source import template_source
from postroom.letter.language.bounds import Clocks
from postroom.letter.language.environment import TEXT
from postroom.letter.language.pieces import Source
from postroom.letter.language.printing import number_text
from postroom.letter.language.stylesheets import first_construct
from postroom.letter.live import FACTS
from postroom.letter.mailboxes import split_mailboxes
from postroom.letter.problems import Code, Problem, Rejected, Severity
from postroom.letter.proving.draft import Draft, Part, drafts, locate, read_draft, read_part
from postroom.letter.proving.lint import IGNORE_ANNOTATION, Delivered, lint, silence
from postroom.letter.proving.message_use import read_messages
from postroom.letter.proving.references_in_page import check_references
from postroom.letter.proving.trial import Trial, tries, try_out
from postroom.letter.proving.variables import Reader, Reading, always_there, unused
from postroom.letter.references import layout_field
from postroom.letter.render import Rendered
from postroom.letter.rules import RULES
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
    static, reading = _read(template.spec, layout, languages)
    messages = read_messages(template.spec, layout, languages, _shared_parts(template.spec))
    languages = messages.languages
    samples, unfit = _admit_samples(template.spec, contract)
    sheets = list(_check_css(template.spec, layout, languages))
    broken_css = [each for each in sheets if each.severity is Severity.ERROR]
    problems = [*static, *messages.problems, *broken_css, *unfit]
    if problems:
        return Proof(name, problems=tuple(dict.fromkeys(problems)))
    sure = _compiled(template, languages)
    letters = list(tries(sure, samples))
    pages = {draft.tag: draft.page for draft in languages}
    trial = try_out(sure, letters, clocks)
    problems = list(_refusals(trial, pages))
    if problems:
        return Proof(name, problems=tuple(dict.fromkeys(problems)))
    final = trial.compiled.sealed()
    results = tuple(
        SampleResult(letter.sample.name, rendered.language, replace(rendered, revision=final.revision))
        for letter, rendered in zip(letters, trial.letters, strict=True)
    )
    found = [
        *(each for each in sheets if each.severity is not Severity.ERROR),
        *messages.warnings,
        *_unused(template.spec, reading.used),
        *reading.advice,
        *_of_samples(reading, [data for _, _, data in samples]),
        *(_slow(reason) for reason in trial.reasons),
        *(_beaten(hook) for hook in trial.beaten_hooks),
        *lint(
            languages,
            _sheets(template.spec, layout),
            [Delivered(result.name, result.rendered) for result in results],
            template.spec.category,
        ),
        *check_references(
            template.spec, layout, languages, [(result.name, result.rendered) for result in results]
        ),
    ]
    warnings = silence(dict.fromkeys(found), _html_fields(template.spec, layout), _ignored(template, layout))
    return Proof(name, final, warnings=tuple(dict.fromkeys(warnings)), samples=results)


def _html_fields(spec: EmailTemplateSpec, layout: EmailLayout | None) -> dict[str, str]:
    """The sources in which an author can write a request to ignore a rule."""
    fields = {"spec.html": spec.html}
    fields |= {f"spec.locales[{n}].html": each.html for n, each in enumerate(spec.locales) if each.html}
    if layout:
        own = layout_field(layout.metadata.name)
        fields[f"{own}.html"] = layout.spec.html
        fields |= {f"{own}.partials[{n}].html": each.html for n, each in enumerate(layout.spec.partials)}
    return fields


def _ignored(template: EmailTemplate, layout: EmailLayout | None) -> dict[str, str]:
    """The annotations that ask to ignore rules, by the beginning of the fields that they hold for."""
    ignored = {"spec": template.metadata.annotation(IGNORE_ANNOTATION)}
    if layout:
        ignored[layout_field(layout.metadata.name)] = layout.metadata.annotation(IGNORE_ANNOTATION)
    return ignored


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
        languages = drafts(spec.model_copy(update={"format": "HTML"}), asked)
    except Rejected as rejected:
        return rejected.problems
    static, _ = _read(spec, None, languages, whole=False)
    _, unfit = _admit_samples(spec, contract)
    return tuple(dict.fromkeys((*static, *_check_css(spec, None, languages), *unfit)))


def _read(
    spec: EmailTemplateSpec, layout: EmailLayout | None, languages: list[Draft], *, whole: bool = True
) -> tuple[list[Problem], Reading]:
    problems: list[Problem] = []
    whole_reading = Reading()
    for draft in languages:
        found, reading = read_draft(draft, spec.variables, layout, whole=whole)
        problems += found
        whole_reading.add(reading)
    for part in _shared_parts(spec):
        reader = Reader(spec.variables, part.field)
        problems += [*read_part(TEXT, part, reader), *reader.reading.problems]
        whole_reading.add(reader.reading)
    if "letter" in spec.variables.get("properties", {}):
        message = f"`letter` is the name of what Postroom knows itself ({', '.join(FACTS)}); choose another"
        problems.append(Problem(Code.SCHEMA_INVALID, "spec.variables.properties.letter", message))
    return problems, whole_reading


def _shared_parts(spec: EmailTemplateSpec) -> list[Part]:
    """The parts that all languages have in common."""
    extra = [Part(f"spec.headers[{i}].value", header.value) for i, header in enumerate(spec.headers)]
    if spec.unsubscribe_url:
        extra.append(Part("spec.unsubscribeUrl", spec.unsubscribe_url))
    if spec.reply_to:
        mailboxes = split_mailboxes(spec.reply_to, "spec.replyTo")
        extra += [Part("spec.replyTo", source) for mailbox in mailboxes for source in mailbox]
    return extra


def _check_css(
    spec: EmailTemplateSpec, layout: EmailLayout | None, languages: list[Draft]
) -> Iterator[Problem]:
    for field, sheet in _sheets(spec, layout):
        yield from _template_in_css(sheet, field) or css_problems(sheet, field)
    for draft in languages:
        yield from _check_style_elements(draft)


def _check_style_elements(draft: Draft) -> Iterator[Problem]:
    source = draft.page.text
    try:
        styles = template_source(source).markup.styles
    except Rejected:  # the same is found where the source is read
        return
    for style in styles:
        start = style.content_start
        lines, column = source.count("\n", 0, start), start - (source.rfind("\n", 0, start) + 1)
        for problem in css_problems(source[start : style.content_end], draft.html.field):
            line = problem.line or 1
            on_first = problem.column + column if problem.column and line == 1 else problem.column
            yield locate(replace(problem, line=line + lines, column=on_first), draft.page)


def _sheets(spec: EmailTemplateSpec, layout: EmailLayout | None) -> list[tuple[str, str]]:
    """The style sheets beside the page, by their fields."""
    sheets = [("spec.css", spec.css)]
    if layout:
        sheets.append((f"{layout_field(layout.metadata.name)}.css", layout.spec.css))
    return [(field, sheet) for field, sheet in sheets if sheet]


def _template_in_css(css: str, field: str) -> list[Problem]:
    """A sheet is no template: what it says to Jinja would reach readers as it is, or break the CSS."""
    place = first_construct(css)
    if place is None:
        return []
    line = css.count("\n", 0, place) + 1
    written = css[place:].split("\n", 1)[0][:40].strip()
    message = (
        f"`{written}` is not read in a style sheet, which is the same for every event; write the rule into a"
        " <style> of the html, or a `style` attribute"
    )
    return [Problem(Code.CSS_INVALID, field, message, line)]


def css_problems(css: str, field: str) -> tuple[Problem, ...]:
    """What is wrong with a sheet."""
    if first_construct(css) is not None:
        return ()  # it is CSS only once it is rendered, and is read again then
    return tuple(replace(problem, field=field) for problem in read_sheet(css).problems)


def _admit_samples(
    spec: EmailTemplateSpec, contract: Contract
) -> tuple[list[tuple[int, Any, Mapping[str, Any]]], list[Problem]]:
    admitted, problems = [], []
    for index, sample in enumerate(spec.samples):
        try:
            admitted.append((index, sample, contract.admit(sample.data)))
        except Rejected as rejected:
            for problem in rejected.problems:
                place = INDEX.sub(r"[\1]", problem.field)
                hint = yaml_hint(sample.data, problem) if problem.code is Code.VARIABLE_INVALID else ""
                message = f"sample `{sample.name}`: {problem.message}{hint}"
                problems.append(Problem(problem.code, f"spec.samples[{index}].{place}", message))
    return admitted, problems


INDEX = re.compile(r"\.(\d+)(?=\.|$)")
"""An item's place in the path of a problem: `data.items.0.name` is `data.items[0].name` in a manifest."""
UNQUOTED = " (YAML reads NO, no, yes and on as booleans unless they stand in quotes)"
WORDS = {True: "yes, on, y and true", False: "NO, no, off, n and false"}


def yaml_hint(data: Mapping[str, Any], problem: Problem) -> str:
    """Why a value of a sample is no text: what YAML reads without quotes. Empty for other problems."""
    if '"string"' not in problem.message:
        return ""
    value: Any = data
    for step in problem.field.split(".")[1:]:
        value = value[int(step)] if isinstance(value, list) else value.get(step)
    match value:
        case bool():
            read = f"YAML reads {WORDS[value]} as {str(value).lower()}"
        case int() | float():
            read = f"YAML reads it as the number {number_text(value)}"
        case None:
            read = "YAML reads an empty value, ~ and null as null"
        case _:
            return ""
    return f"; {read} unless it stands in quotes"


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
        **_reply_to(spec),
        headers=tuple((header.name, header.value) for header in spec.headers),
        attachments=tuple(
            File(f.filename, f.content_type, f.content, f.content_id) for f in spec.attachments
        ),
        expires_after=seconds(spec.expires_after) if spec.expires_after else None,
        unsubscribe_url=spec.unsubscribe_url,
        suspend=spec.suspend,
    )


def _reply_to(spec: EmailTemplateSpec) -> dict[str, Any]:
    mailboxes = split_mailboxes(spec.reply_to, "spec.replyTo") if spec.reply_to else ()
    if not mailboxes:
        return {}
    known = next((address for _, address in mailboxes if "{{" not in address), None)
    return {"reply_to": known, "reply_to_list": () if mailboxes == (("", known),) else mailboxes}


def _refusals(trial: Trial, pages: Mapping[str, Source]) -> Iterator[Problem]:
    """Why samples' letters cannot be made, each at its place in the manifest."""
    for letter, tag, rejected in trial.refused:
        for problem in rejected.problems:
            placed = locate(problem, pages[tag]) if problem.field == "spec.html" else problem
            hint = UNQUOTED if "is a boolean" in placed.message else ""
            yield replace(placed, message=f"sample `{letter.sample.name}`: {placed.message}{hint}")


def _of_samples(reading: Reading, samples: list[Mapping[str, Any]]) -> Iterator[Problem]:
    """What the samples don't show, and what the schema leaves open: worth knowing, and no fault."""
    if reading.required:
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(reading.required.values()))
        message = f"`required` is missing: an event without {names} is accepted and becomes a dead letter"
        yield Problem(Code.VARIABLES_NOT_REQUIRED, "spec.variables", message, severity=Severity.INFO)
    there = dict.fromkeys(always_there(reading.optional, samples))
    if there:
        names = ", ".join(f"`{name}`" for name in there)
        message = (
            f"no sample leaves out {names}, which `variables` allows; add one to see the letter without it"
        )
        yield Problem(Code.SAMPLE_WITHOUT_OPTIONAL_MISSING, "spec.samples", message, severity=Severity.INFO)


def _unused(spec: EmailTemplateSpec, used: set[str]) -> Iterator[Problem]:
    for name in unused(spec.variables, used):
        message = f"`{name}` is declared and nothing reads it"
        yield _finding(Code.VARIABLE_UNUSED, f"spec.variables.properties.{name}", message)


def _slow(reason: str) -> Problem:
    message = f"CSS is inlined anew for each letter, which takes milliseconds: {reason}"
    return _finding(Code.CSS_INLINED_PER_LETTER, "spec.html", message)


def _beaten(selector: str) -> Problem:
    message = (
        f"`{selector}`, which a mail client brings to match, is beaten by a declaration that went onto"
        " elements: with `!important` it would beat an important rule, too, which it must not"
    )
    return _finding(Code.CSS_HOOK_BEATEN, "spec.html", message)


def _finding(code: Code, field: str, message: str) -> Problem:
    return Problem(code, field, message, severity=RULES[code].severity)
