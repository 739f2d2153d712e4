"""The proof of a template: may it go live, and what would its letters look like?

`prove` takes a template and its layout, compiles them, checks every variable against the schema and
renders every sample, with the code that workers send with. It gives a `Proof`: the compiled template, or
the problems that stand in its way, each with field and line; warnings; and the letters of the samples.
It never raises for what is wrong with a manifest. `proofs.prove_all` does so for a whole set.

The proof of a whole set of manifests: each template with its layout, and what only the set can tell.

Objects in, oldest first (the first to claim an event type keeps it); out, a `Verdict` with one proof for
each template and layout, and the compiled templates of each profile. A manifest that is wrong takes
nothing else down with it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from postroom.letter.bundle import CompiledTemplate, TemplateFile
from postroom.letter.catalog import RenderedLetter
from postroom.letter.data_schema import DataSchema
from postroom.letter.html.layout import stand_in
from postroom.letter.html.stylesheet import read_sheet
from postroom.letter.html.template_source import template_source
from postroom.letter.language.bounds import Clocks
from postroom.letter.language.environment import TEXT
from postroom.letter.language.pieces import Source
from postroom.letter.language.printing import number_text
from postroom.letter.language.stylesheets import first_construct
from postroom.letter.mailboxes import split_mailboxes
from postroom.letter.manifest_fields import duration_seconds
from postroom.letter.problems import Code, Problem, Rejected, Severity
from postroom.letter.profile import SmtpProfile, allows_sender, topic_of, topics_conflict
from postroom.letter.references import (
    ObjectKey,
    event_type_conflict_problem,
    layout_field,
    not_found_problem,
    sender_problem,
    topic_conflict_problem,
)
from postroom.letter.renderer import LETTER_FACTS
from postroom.letter.template import EmailLayout, EmailTemplate, EmailTemplateSpec
from postroom.letter.validation.drafts import (
    LocaleDraft,
    SourcePart,
    check_draft,
    check_part,
    layout_problems,
    locale_drafts,
    locate_problem,
)
from postroom.letter.validation.lint import IGNORE_ANNOTATION, DeliveredLetter, apply_ignores, lint_template
from postroom.letter.validation.messages import check_messages
from postroom.letter.validation.page_references import check_references
from postroom.letter.validation.rules import RULES
from postroom.letter.validation.sample_runs import SampleRunResult, run_samples, sample_runs
from postroom.letter.validation.variables import (
    VariableCollector,
    VariableUse,
    always_there,
    unused_variables,
)


@dataclass(frozen=True, slots=True)
class SampleLetter:
    """A sample's letter."""

    name: str
    locale: str
    rendered: RenderedLetter

    @property
    def html_bytes(self) -> int:
        """Size of the HTML in UTF-8; Gmail cuts off after 102 KB."""
        return len(self.rendered.html.encode())

    @property
    def text_bytes(self) -> int:
        """Size of the text in UTF-8."""
        return len(self.rendered.text.encode())


@dataclass(frozen=True, slots=True)
class TemplateValidation:
    """What came of a proof. With problems there is no compiled template."""

    name: str
    compiled: CompiledTemplate | None = None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    samples: tuple[SampleLetter, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the template may go live."""
        return self.compiled is not None


def validate_template(
    template: EmailTemplate, layout: EmailLayout | None, clocks: Clocks | None = None
) -> TemplateValidation:
    """Prove one template. `clocks` bounds the time of each rendering."""
    name = template.metadata.name
    try:
        data_schema = DataSchema(template.spec.variables)
        languages = locale_drafts(template.spec, layout)
    except Rejected as rejected:
        return TemplateValidation(name, problems=rejected.problems)
    static, reading = _check_parts(template.spec, layout, languages)
    messages = check_messages(template.spec, layout, languages, _shared_parts(template.spec))
    languages = messages.languages
    samples, unfit = _admit_samples(template.spec, data_schema)
    sheets = list(_check_css(template.spec, layout, languages))
    broken_css = [each for each in sheets if each.severity is Severity.ERROR]
    problems = [*static, *messages.problems, *broken_css, *unfit]
    if problems:
        return TemplateValidation(name, problems=tuple(dict.fromkeys(problems)))
    sure = _compiled(template, languages)
    letters = list(sample_runs(sure, samples))
    pages = {draft.tag: draft.page for draft in languages}
    trial = run_samples(sure, letters, clocks)
    problems = list(_refusals(trial, pages))
    if problems:
        return TemplateValidation(name, problems=tuple(dict.fromkeys(problems)))
    final = trial.compiled.with_revision()
    results = tuple(
        SampleLetter(letter.sample.name, rendered.language, replace(rendered, revision=final.revision))
        for letter, rendered in zip(letters, trial.letters, strict=True)
    )
    found = [
        *(each for each in sheets if each.severity is not Severity.ERROR),
        *messages.warnings,
        *_unused(template.spec, reading.used),
        *reading.lint_warnings,
        *_of_samples(reading, [data for _, _, data in samples]),
        *(_inlined_per_letter(reason) for reason in trial.reasons),
        *(_overridden_hook(hook) for hook in trial.beaten_hooks),
        *lint_template(
            languages,
            _sheets(template.spec, layout),
            [DeliveredLetter(result.name, result.rendered) for result in results],
            template.spec.category,
        ),
        *check_references(
            template.spec, layout, languages, [(result.name, result.rendered) for result in results]
        ),
    ]
    warnings = apply_ignores(
        dict.fromkeys(found), _html_fields(template.spec, layout), _ignored(template, layout)
    )
    return TemplateValidation(name, final, warnings=tuple(dict.fromkeys(warnings)), samples=results)


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


def problems_without_layout(template: EmailTemplate) -> tuple[Problem, ...]:
    """What is wrong with a template, as far as it can be told while its layout is not here.

    That is everything but its page, which is neither read as HTML nor rendered. A variable that the layout
    sets itself is said to be undeclared.
    """
    spec = template.spec
    assert spec.layout_ref is not None
    pages = [("spec", spec.html), *((f"spec.locales[{n}]", each.html) for n, each in enumerate(spec.locales))]
    try:
        data_schema = DataSchema(spec.variables)
        asked = stand_in(spec.layout_ref.name, [(html, f"{at}.html") for at, html in pages if html])
        languages = locale_drafts(spec.model_copy(update={"format": "HTML"}), asked)
    except Rejected as rejected:
        return rejected.problems
    static, _ = _check_parts(spec, None, languages, whole=False)
    _, unfit = _admit_samples(spec, data_schema)
    return tuple(dict.fromkeys((*static, *_check_css(spec, None, languages), *unfit)))


def _check_parts(
    spec: EmailTemplateSpec, layout: EmailLayout | None, languages: list[LocaleDraft], *, whole: bool = True
) -> tuple[list[Problem], VariableUse]:
    problems: list[Problem] = []
    whole_reading = VariableUse()
    for draft in languages:
        found, reading = check_draft(draft, spec.variables, layout, whole=whole)
        problems += found
        whole_reading.add(reading)
    for part in _shared_parts(spec):
        reader = VariableCollector(spec.variables, part.field)
        problems += [*check_part(TEXT, part, reader), *reader.use.problems]
        whole_reading.add(reader.use)
    if "letter" in spec.variables.get("properties", {}):
        message = (
            f"`letter` is the name of what Postroom knows itself ({', '.join(LETTER_FACTS)}); choose another"
        )
        problems.append(Problem(Code.SCHEMA_INVALID, "spec.variables.properties.letter", message))
    return problems, whole_reading


def _shared_parts(spec: EmailTemplateSpec) -> list[SourcePart]:
    """The parts that all languages have in common."""
    extra = [SourcePart(f"spec.headers[{i}].value", header.value) for i, header in enumerate(spec.headers)]
    if spec.unsubscribe_url:
        extra.append(SourcePart("spec.unsubscribeUrl", spec.unsubscribe_url))
    if spec.reply_to:
        mailboxes = split_mailboxes(spec.reply_to, "spec.replyTo")
        extra += [SourcePart("spec.replyTo", source) for mailbox in mailboxes for source in mailbox]
    return extra


def _check_css(
    spec: EmailTemplateSpec, layout: EmailLayout | None, languages: list[LocaleDraft]
) -> Iterator[Problem]:
    for place, sheet in _sheets(spec, layout):
        yield from _template_in_css(sheet, place) or css_problems(sheet, place)
    for draft in languages:
        yield from _check_style_elements(draft)


def _check_style_elements(draft: LocaleDraft) -> Iterator[Problem]:
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
            yield locate_problem(replace(problem, line=line + lines, column=on_first), draft.page)


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
    spec: EmailTemplateSpec, data_schema: DataSchema
) -> tuple[list[tuple[int, Any, Mapping[str, Any]]], list[Problem]]:
    admitted, problems = [], []
    for index, sample in enumerate(spec.samples):
        try:
            admitted.append((index, sample, data_schema.validate(sample.data)))
        except Rejected as rejected:
            for problem in rejected.problems:
                place = ITEM_INDEX.sub(r"[\1]", problem.field)
                hint = yaml_hint(sample.data, problem) if problem.code is Code.VARIABLE_INVALID else ""
                message = f"sample `{sample.name}`: {problem.message}{hint}"
                problems.append(Problem(problem.code, f"spec.samples[{index}].{place}", message))
    return admitted, problems


ITEM_INDEX = re.compile(r"\.(\d+)(?=\.|$)")
"""An item's place in the path of a problem: `data.items.0.name` is `data.items[0].name` in a manifest."""
UNQUOTED = " (YAML reads NO, no, yes and on as booleans unless they stand in quotes)"
BOOLEAN_WORDS = {True: "yes, on, y and true", False: "NO, no, off, n and false"}


def yaml_hint(data: Mapping[str, Any], problem: Problem) -> str:
    """Why a value of a sample is no text: what YAML reads without quotes. Empty for other problems."""
    if '"string"' not in problem.message:
        return ""
    value: Any = data
    for step in problem.field.split(".")[1:]:
        value = value[int(step)] if isinstance(value, list) else value.get(step)
    match value:
        case bool():
            read = f"YAML reads {BOOLEAN_WORDS[value]} as {str(value).lower()}"
        case int() | float():
            read = f"YAML reads it as the number {number_text(value)}"
        case None:
            read = "YAML reads an empty value, ~ and null as null"
        case _:
            return ""
    return f"; {read} unless it stands in quotes"


def _compiled(template: EmailTemplate, languages: list[LocaleDraft]) -> CompiledTemplate:
    spec, metadata = template.spec, template.metadata
    return CompiledTemplate(
        name=metadata.name,
        namespace=metadata.namespace,
        profile=spec.smtp_profile_ref.name,
        event_types=tuple(spec.event_types),
        category=spec.category,
        editions=tuple(draft.variant() for draft in languages),
        variables=spec.variables,
        sender=(spec.sender.name, spec.sender.address) if spec.sender else None,
        **_reply_to(spec),
        headers=tuple((header.name, header.value) for header in spec.headers),
        attachments=tuple(
            TemplateFile(f.filename, f.content_type, f.content, f.content_id) for f in spec.attachments
        ),
        expires_after=duration_seconds(spec.expires_after) if spec.expires_after else None,
        unsubscribe_url=spec.unsubscribe_url,
        suspend=spec.suspend,
    )


def _reply_to(spec: EmailTemplateSpec) -> dict[str, Any]:
    mailboxes = split_mailboxes(spec.reply_to, "spec.replyTo") if spec.reply_to else ()
    if not mailboxes:
        return {}
    known = next((address for _, address in mailboxes if "{{" not in address), None)
    return {"reply_to": known, "reply_to_list": () if mailboxes == (("", known),) else mailboxes}


def _refusals(trial: SampleRunResult, pages: Mapping[str, Source]) -> Iterator[Problem]:
    """Why samples' letters cannot be made, each at its place in the manifest."""
    for letter, tag, rejected in trial.refused:
        for problem in rejected.problems:
            placed = locate_problem(problem, pages[tag]) if problem.field == "spec.html" else problem
            hint = UNQUOTED if "is a boolean" in placed.message else ""
            yield replace(placed, message=f"sample `{letter.sample.name}`: {placed.message}{hint}")


def _of_samples(reading: VariableUse, samples: list[Mapping[str, Any]]) -> Iterator[Problem]:
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
    for name in unused_variables(spec.variables, used):
        message = f"`{name}` is declared and nothing reads it"
        yield _finding(Code.VARIABLE_UNUSED, f"spec.variables.properties.{name}", message)


def _inlined_per_letter(reason: str) -> Problem:
    message = f"CSS is inlined anew for each letter, which takes milliseconds: {reason}"
    return _finding(Code.CSS_INLINED_PER_LETTER, "spec.html", message)


def _overridden_hook(selector: str) -> Problem:
    message = (
        f"`{selector}`, which a mail client brings to match, is beaten by a declaration that went onto"
        " elements: with `!important` it would beat an important rule, too, which it must not"
    )
    return _finding(Code.CSS_HOOK_OVERRIDDEN, "spec.html", message)


def _finding(code: Code, field: str, message: str) -> Problem:
    return Problem(code, field, message, severity=RULES[code].severity)


CheckedObject = EmailTemplate | EmailLayout | SmtpProfile
TemplateWithLayout = tuple[EmailTemplate, EmailLayout | None]
"""A template and its layout."""
ValidateEach = Callable[[Iterable[TemplateWithLayout]], Iterable[TemplateValidation]]
"""Proves pairs, in order; so that a command can do it in several processes."""


@dataclass(frozen=True, slots=True)
class _KnownObjects:
    """What references may lead to: the sound objects, and the names of those that are there but faulty."""

    objects: Mapping[ObjectKey, CheckedObject]
    faulty: frozenset[ObjectKey]
    elsewhere: bool
    """Whether what is missing is elsewhere."""


@dataclass(frozen=True, slots=True)
class ManifestValidation:
    """What came of a set."""

    results: Mapping[ObjectKey, TemplateValidation] = field(default_factory=dict)
    profiles: Mapping[ObjectKey, SmtpProfile] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing at all is wrong."""
        return not any(proof.problems for proof in self.results.values())

    def compiled(self, namespace: str, profile: str) -> list[CompiledTemplate]:
        """A profile's templates, for its bundle."""
        found = (proof.compiled for proof in self.results.values())
        return [each for each in found if each and (each.namespace, each.profile) == (namespace, profile)]


class ValidationCache:
    """Proofs of earlier runs: a template is proved again only when it or its layout is another object.

    Objects are compared by identity, so that a reader has to hand in the same object for what has not
    changed. Equality would not do: to Python `1`, `1.0` and `true` in a sample are equal.
    """

    def __init__(self, clocks: Clocks | None = None) -> None:
        self._clocks = clocks
        self._kept: dict[ObjectKey, tuple[EmailTemplate, EmailLayout | None, TemplateValidation]] = {}

    def validate(self, template: EmailTemplate, layout: EmailLayout | None) -> TemplateValidation:
        """The proof of a template with its layout, kept or made."""
        key = object_key(template)
        kept = self._kept.get(key)
        if kept and kept[0] is template and kept[1] is layout:
            return kept[2]
        proof = validate_template(template, layout, self._clocks)
        self._kept[key] = (template, layout, proof)
        return proof

    def validate_each(self, pairs: Iterable[TemplateWithLayout]) -> Iterator[TemplateValidation]:
        """The proofs of a set, in order; what is not in it is forgotten."""
        asked = list(pairs)
        yield from (self.validate(template, layout) for template, layout in asked)
        self._kept = {object_key(template): self._kept[object_key(template)] for template, _ in asked}


def object_key(item: CheckedObject) -> ObjectKey:
    """Where an object stands in a set."""
    return ObjectKey(item.kind, item.metadata.namespace, item.metadata.name)


def validate_manifests(
    objects: Iterable[CheckedObject],
    clocks: Clocks | None = None,
    faulty: Iterable[ObjectKey] = (),
    *,
    elsewhere: bool = False,
    validate_each: ValidateEach | None = None,
) -> ManifestValidation:
    """Prove every template and layout of a set.

    `faulty` names what is in the set and could not be read. A template that refers to it is not live, and
    nothing more is said of the reference: the mistake is said where it was made. With `elsewhere` the set is
    not all there is: a profile or layout that is missing is a warning. Without its layout no template passes.
    """
    known, proofs = _first_of_each(objects)
    claims: dict[tuple[str, str, str], str] = {}
    second = {
        key: TemplateValidation(key.name, problems=(problem,)) for key, problem in _topic_conflicts(known)
    }
    proofs |= second
    known = {key: item for key, item in known.items() if key not in second}
    around = _KnownObjects(known, frozenset((*faulty, *second)), elsewhere)
    templates = {key: item for key, item in known.items() if isinstance(item, EmailTemplate)}
    pairs = {key: (item, _layout_of(item, around)) for key, item in templates.items()}
    whole = {key: pair for key, pair in pairs.items() if pair[1] or not pair[0].spec.layout_ref}
    each = validate_each or (lambda asked: (validate_template(*pair, clocks) for pair in asked))
    rendered = dict(zip(whole, each(whole.values()), strict=True))
    for key, item in known.items():
        if isinstance(item, EmailTemplate):
            proof = _validate_one(item, around, rendered.get(key))
            conflicts = tuple(_conflicts(item, claims)) if proof.passed else ()
            compiled = None if conflicts else proof.compiled
            found = replace(proof, compiled=compiled, problems=(*proof.problems, *conflicts))
        elif isinstance(item, EmailLayout):
            found = validate_layout(item)
        else:
            continue
        earlier = proofs.get(key)
        proofs[key] = replace(found, problems=found.problems + earlier.problems) if earlier else found
    profiles = {key: item for key, item in known.items() if isinstance(item, SmtpProfile)}
    return ManifestValidation(proofs, profiles)


def _first_of_each(
    objects: Iterable[CheckedObject],
) -> tuple[dict[ObjectKey, CheckedObject], dict[ObjectKey, TemplateValidation]]:
    """The first of each name, and what is to be said of a second."""
    known: dict[ObjectKey, CheckedObject] = {}
    proofs: dict[ObjectKey, TemplateValidation] = {}
    for item in objects:
        if (key := object_key(item)) in known:
            message = f"{key.kind} {key.name} is there twice; the first one counts"
            proofs[key] = TemplateValidation(
                key.name, problems=(Problem(Code.MANIFEST_INVALID, "metadata.name", message),)
            )
        else:
            known[key] = item
    return known, proofs


def _layout_of(template: EmailTemplate, known: _KnownObjects) -> EmailLayout | None:
    name = template.spec.layout_ref and template.spec.layout_ref.name
    found = known.objects.get(ObjectKey("EmailLayout", template.metadata.namespace, name)) if name else None
    return found if isinstance(found, EmailLayout) else None


def _validate_one(
    template: EmailTemplate, known: _KnownObjects, rendered: TemplateValidation | None
) -> TemplateValidation:
    """The proof with what only the set can tell; `rendered` is None where the layout is missing."""
    spec, namespace = template.spec, template.metadata.namespace
    profile = ObjectKey("SmtpProfile", namespace, spec.smtp_profile_ref.name)
    page = ObjectKey("EmailLayout", namespace, spec.layout_ref.name) if spec.layout_ref else None
    missing = [*_check_layout(page, known), *_check_profile(profile, known)]
    proof = rendered or TemplateValidation(template.metadata.name, problems=problems_without_layout(template))
    if known.elsewhere:
        elsewhere = (replace(problem, severity=Severity.WARNING) for problem in missing)
        proof = replace(proof, warnings=(*elsewhere, *proof.warnings))
    problems = [*([] if known.elsewhere else missing), *_check_sender(template, profile, known)]
    if not problems and (profile in known.objects or profile not in known.faulty):
        return proof
    return replace(proof, compiled=None, problems=(*problems, *proof.problems))


def _check_layout(page: ObjectKey | None, known: _KnownObjects) -> Iterator[Problem]:
    if page and page not in known.objects:
        yield from _missing_reference(Code.LAYOUT_NOT_FOUND, page, "spec.layoutRef.name", known)


def _check_profile(profile: ObjectKey, known: _KnownObjects) -> Iterator[Problem]:
    if profile not in known.objects:
        yield from _missing_reference(Code.PROFILE_NOT_FOUND, profile, "spec.smtpProfileRef.name", known)


def _check_sender(template: EmailTemplate, profile: ObjectKey, known: _KnownObjects) -> Iterator[Problem]:
    found, sender = known.objects.get(profile), template.spec.sender
    if isinstance(found, SmtpProfile) and sender and not allows_sender(found, sender.address):
        yield sender_problem(profile.name)


def _missing_reference(code: Code, wanted: ObjectKey, place: str, known: _KnownObjects) -> Iterator[Problem]:
    """That a reference leads nowhere, unless it leads to what is faulty itself."""
    if wanted not in known.faulty:
        yield not_found_problem(code, wanted, place, (*known.objects, *known.faulty))


def _conflicts(template: EmailTemplate, claims: dict[tuple[str, str, str], str]) -> Iterator[Problem]:
    profile, namespace = template.spec.smtp_profile_ref.name, template.metadata.namespace
    for index, event_type in enumerate(template.spec.event_types):
        owner = claims.setdefault((namespace, profile, event_type), template.metadata.name)
        if owner != template.metadata.name:
            yield event_type_conflict_problem(index, event_type, owner, profile)


def _topic_conflicts(known: Mapping[ObjectKey, CheckedObject]) -> Iterator[tuple[ObjectKey, Problem]]:
    """The profiles whose topic an earlier one has."""
    topics: dict[ObjectKey, str] = {}
    for key, item in known.items():
        if isinstance(item, SmtpProfile):
            topic = topic_of(item)
            if by := next((each for each, its in topics.items() if topics_conflict(topic, its)), None):
                yield key, topic_conflict_problem(topic, by.name, topics[by])
            else:
                topics[key] = topic


def validate_layout(layout: EmailLayout) -> TemplateValidation:
    """What can be told of a layout without a template: it compiles, and its CSS and partials do."""
    name = layout.metadata.name
    problems = list(css_problems(layout.spec.css or "", "spec.css"))
    problems += layout_problems(layout)
    own = layout_field(name)
    placed = [replace(problem, field=problem.field.replace(own, "spec", 1)) for problem in problems]
    return TemplateValidation(
        name,
        problems=tuple(each for each in placed if each.severity is Severity.ERROR),
        warnings=tuple(each for each in placed if each.severity is not Severity.ERROR),
    )
