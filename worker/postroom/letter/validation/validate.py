"""Validate templates: may a template be used, and what do its letters look like? READ FIRST of this package.

`validate_template` takes a template and its layout, compiles them, checks every variable against the schema
and renders every sample with the code that workers send with. The result is a `TemplateValidation`: the
compiled template, or the problems that prevent it, each with field and line; warnings; and the letters of the
samples. An invalid manifest is a result and never an exception.

`validate_manifests` takes a whole set of objects, oldest first (the first template with an event type keeps
it), and gives a `ManifestValidation`: one result for each template and layout, and the compiled templates of
each profile. An invalid manifest does not affect the others, except those that refer to it.
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
from postroom.letter.language.bounds import Timers
from postroom.letter.language.environment import TEXT
from postroom.letter.language.pieces import Source
from postroom.letter.language.printing import number_text
from postroom.letter.language.stylesheets import first_construct
from postroom.letter.mailboxes import split_mailboxes
from postroom.letter.manifest import Manifest
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
    always_present,
    unused_variables,
)


@dataclass(frozen=True, slots=True)
class SampleLetter:
    """The rendered letter of a sample."""

    name: str
    locale: str
    rendered: RenderedLetter

    @property
    def html_bytes(self) -> int:
        """The size of the HTML in UTF-8; Gmail clips it after 102 KB."""
        return len(self.rendered.html.encode())

    @property
    def text_bytes(self) -> int:
        """The size of the text in UTF-8."""
        return len(self.rendered.text.encode())


@dataclass(frozen=True, slots=True)
class TemplateValidation:
    """The result of validating one template or layout. With problems there is no compiled template."""

    name: str
    compiled: CompiledTemplate | None = None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    samples: tuple[SampleLetter, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the template may be used."""
        return self.compiled is not None


def validate_template(
    template: EmailTemplate, layout: EmailLayout | None, clocks: Timers | None = None
) -> TemplateValidation:
    """Validate one template. `clocks` bounds the time of each rendering."""
    name = template.metadata.name
    try:
        data_schema = DataSchema(template.spec.variables)
        languages = locale_drafts(template.spec, layout)
    except Rejected as rejected:
        return TemplateValidation(name, problems=rejected.problems)
    part_problems, use = _check_parts(template.spec, layout, languages)
    messages = check_messages(template.spec, layout, languages, _shared_parts(template.spec))
    languages = messages.languages
    samples, sample_problems = _validate_samples(template.spec, data_schema)
    sheet_problems = list(_check_css(template.spec, layout, languages))
    css_errors = [problem for problem in sheet_problems if problem.severity is Severity.ERROR]
    problems = [*part_problems, *messages.problems, *css_errors, *sample_problems]
    if problems:
        return TemplateValidation(name, problems=tuple(dict.fromkeys(problems)))
    uncompiled = _compiled(template, languages)
    runs = list(sample_runs(uncompiled, samples))
    pages = {draft.tag: draft.page for draft in languages}
    outcome = run_samples(uncompiled, runs, clocks)
    problems = list(_rejections(outcome, pages))
    if problems:
        return TemplateValidation(name, problems=tuple(dict.fromkeys(problems)))
    compiled = outcome.compiled.with_revision()
    letters = tuple(
        SampleLetter(run.sample.name, rendered.language, replace(rendered, revision=compiled.revision))
        for run, rendered in zip(runs, outcome.letters, strict=True)
    )
    found = [
        *(problem for problem in sheet_problems if problem.severity is not Severity.ERROR),
        *messages.warnings,
        *_unused(template.spec, use.used),
        *use.lint_warnings,
        *_sample_coverage(use, [data for _, _, data in samples]),
        *(_inlined_per_letter(reason) for reason in outcome.reasons),
        *(_overridden_hook(hook) for hook in outcome.beaten_hooks),
        *lint_template(
            languages,
            _sheets(template.spec, layout),
            [DeliveredLetter(letter.name, letter.rendered) for letter in letters],
            template.spec.category,
        ),
        *check_references(
            template.spec, layout, languages, [(letter.name, letter.rendered) for letter in letters]
        ),
    ]
    warnings = apply_ignores(
        dict.fromkeys(found), _html_fields(template.spec, layout), _ignored(template, layout)
    )
    return TemplateValidation(name, compiled, warnings=tuple(dict.fromkeys(warnings)), samples=letters)


def _html_fields(spec: EmailTemplateSpec, layout: EmailLayout | None) -> dict[str, str]:
    """The sources in which an author can write a comment that ignores a rule."""
    fields = {"spec.html": spec.html}
    fields |= {f"spec.locales[{n}].html": each.html for n, each in enumerate(spec.locales) if each.html}
    if layout:
        own = layout_field(layout.metadata.name)
        fields[f"{own}.html"] = layout.spec.html
        fields |= {f"{own}.partials[{n}].html": each.html for n, each in enumerate(layout.spec.partials)}
    return fields


def _ignored(template: EmailTemplate, layout: EmailLayout | None) -> dict[str, str]:
    """The annotations that ignore rules, by the prefix of the fields that they apply to."""
    ignored = {"spec": template.metadata.annotation(IGNORE_ANNOTATION)}
    if layout:
        ignored[layout_field(layout.metadata.name)] = layout.metadata.annotation(IGNORE_ANNOTATION)
    return ignored


def problems_without_layout(template: EmailTemplate) -> tuple[Problem, ...]:
    """The problems of a template whose layout is missing.

    Everything is checked except its page, which is neither parsed as HTML nor rendered. A variable that the
    layout itself sets is reported as undeclared.
    """
    spec = template.spec
    assert spec.layout_ref is not None
    pages = [("spec", spec.html), *((f"spec.locales[{n}]", each.html) for n, each in enumerate(spec.locales))]
    try:
        data_schema = DataSchema(spec.variables)
        placeholder = stand_in(spec.layout_ref.name, [(html, f"{at}.html") for at, html in pages if html])
        languages = locale_drafts(spec.model_copy(update={"format": "HTML"}), placeholder)
    except Rejected as rejected:
        return rejected.problems
    part_problems, _ = _check_parts(spec, None, languages, whole=False)
    _, sample_problems = _validate_samples(spec, data_schema)
    css_problems_found = _check_css(spec, None, languages)
    return tuple(dict.fromkeys((*part_problems, *css_problems_found, *sample_problems)))


def _check_parts(
    spec: EmailTemplateSpec, layout: EmailLayout | None, languages: list[LocaleDraft], *, whole: bool = True
) -> tuple[list[Problem], VariableUse]:
    problems: list[Problem] = []
    use = VariableUse()
    for draft in languages:
        draft_problems, draft_use = check_draft(draft, spec.variables, layout, whole=whole)
        problems += draft_problems
        use.add(draft_use)
    for part in _shared_parts(spec):
        collector = VariableCollector(spec.variables, part.field)
        problems += [*check_part(TEXT, part, collector), *collector.use.problems]
        use.add(collector.use)
    if "letter" in spec.variables.get("properties", {}):
        message = f"`letter` is Postroom's own variable ({', '.join(LETTER_FACTS)}); choose another"
        problems.append(Problem(Code.SCHEMA_INVALID, "spec.variables.properties.letter", message))
    return problems, use


def _shared_parts(spec: EmailTemplateSpec) -> list[SourcePart]:
    """The parts that all languages share."""
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
    except Rejected:  # reported by check_draft
        return
    for style in styles:
        start = style.content_start
        lines, column = source.count("\n", 0, start), start - (source.rfind("\n", 0, start) + 1)
        for problem in css_problems(source[start : style.content_end], draft.html.field):
            line = problem.line or 1
            on_first = problem.column + column if problem.column and line == 1 else problem.column
            yield locate_problem(replace(problem, line=line + lines, column=on_first), draft.page)


def _sheets(spec: EmailTemplateSpec, layout: EmailLayout | None) -> list[tuple[str, str]]:
    """The style sheets beside the page: field and CSS."""
    sheets = [("spec.css", spec.css)]
    if layout:
        sheets.append((f"{layout_field(layout.metadata.name)}.css", layout.spec.css))
    return [(field, sheet) for field, sheet in sheets if sheet]


def _template_in_css(css: str, field: str) -> list[Problem]:
    """The problem of a Jinja construct in a style sheet, which is not a template."""
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
    """The problems of a style sheet."""
    if first_construct(css) is not None:
        return ()  # CSS with constructs is read after rendering
    return tuple(replace(problem, field=field) for problem in read_sheet(css).problems)


def _validate_samples(
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
"""An index in the path of a problem: `data.items.0.name` is `data.items[0].name` in a manifest."""
UNQUOTED = " (YAML reads NO, no, yes and on as booleans unless they are quoted)"
BOOLEAN_WORDS = {True: "yes, on, y and true", False: "NO, no, off, n and false"}


def yaml_hint(data: Mapping[str, Any], problem: Problem) -> str:
    """Why a value of a sample is not a text: how YAML reads it without quotes. Empty for other problems."""
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
    return f"; {read} unless it is quoted"


def _compiled(template: EmailTemplate, languages: list[LocaleDraft]) -> CompiledTemplate:
    spec, metadata = template.spec, template.metadata
    return CompiledTemplate(
        name=metadata.name,
        namespace=metadata.namespace,
        profile=spec.smtp_profile_ref.name,
        event_types=tuple(spec.event_types),
        category=spec.category,
        variants=tuple(draft.variant() for draft in languages),
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
    if len(mailboxes) == 1 and mailboxes[0][0] == "" and "{{" not in mailboxes[0][1]:
        return {"reply_to": mailboxes[0][1]}
    return {"reply_to_list": mailboxes}


def _rejections(result: SampleRunResult, pages: Mapping[str, Source]) -> Iterator[Problem]:
    """The problems of samples that cannot be rendered, each at its place in the manifest."""
    for letter, tag, rejected in result.rejected_runs:
        for problem in rejected.problems:
            placed = locate_problem(problem, pages[tag]) if problem.field == "spec.html" else problem
            hint = UNQUOTED if "is a boolean" in placed.message else ""
            yield replace(placed, message=f"sample `{letter.sample.name}`: {placed.message}{hint}")


def _sample_coverage(use: VariableUse, samples: list[Mapping[str, Any]]) -> Iterator[Problem]:
    """Notes about optional variables that every sample has, and about a schema without `required`."""
    if use.required:
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(use.required.values()))
        message = f"`required` is missing: an event without {names} is accepted and becomes a dead letter"
        yield Problem(Code.VARIABLES_NOT_REQUIRED, "spec.variables", message, severity=Severity.INFO)
    present = dict.fromkeys(always_present(use.optional, samples))
    if present:
        names = ", ".join(f"`{name}`" for name in present)
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


TemplateWithLayout = tuple[EmailTemplate, EmailLayout | None]
"""A template and its layout."""
ValidateEach = Callable[[Iterable[TemplateWithLayout]], Iterable[TemplateValidation]]
"""Validates pairs in order. A command may do so in several processes."""


@dataclass(frozen=True, slots=True)
class _KnownObjects:
    """The targets of references: the valid objects, and the keys of those that exist but are invalid."""

    objects: Mapping[ObjectKey, Manifest]
    invalid: frozenset[ObjectKey]
    incomplete: bool
    """Whether missing objects may exist outside the set."""


@dataclass(frozen=True, slots=True)
class ManifestValidation:
    """The result of validating a set of objects."""

    results: Mapping[ObjectKey, TemplateValidation] = field(default_factory=dict)
    profiles: Mapping[ObjectKey, SmtpProfile] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no object has a problem."""
        return not any(result.problems for result in self.results.values())

    def compiled(self, namespace: str, profile: str) -> list[CompiledTemplate]:
        """A profile's templates, for its bundle."""
        found = (result.compiled for result in self.results.values())
        return [each for each in found if each and (each.namespace, each.profile) == (namespace, profile)]


class ValidationCache:
    """Keeps results: a template is validated again only when it or its layout is another object.

    Objects are compared by identity, so the caller must pass the same object for unchanged manifests.
    Equality does not suffice: in Python the values `1`, `1.0` and `true` of a sample are equal.
    """

    def __init__(self, clocks: Timers | None = None) -> None:
        self._clocks = clocks
        self._kept: dict[ObjectKey, tuple[EmailTemplate, EmailLayout | None, TemplateValidation]] = {}

    def validate(self, template: EmailTemplate, layout: EmailLayout | None) -> TemplateValidation:
        """The result for a template with its layout, from the cache or new."""
        key = object_key(template)
        kept = self._kept.get(key)
        if kept and kept[0] is template and kept[1] is layout:
            return kept[2]
        result = validate_template(template, layout, self._clocks)
        self._kept[key] = (template, layout, result)
        return result

    def validate_each(self, pairs: Iterable[TemplateWithLayout]) -> Iterator[TemplateValidation]:
        """The results for a set, in order; other entries are removed from the cache."""
        requested = list(pairs)
        yield from (self.validate(template, layout) for template, layout in requested)
        keys = [object_key(template) for template, _ in requested]
        self._kept = {key: self._kept[key] for key in keys}


def object_key(item: Manifest) -> ObjectKey:
    """The key of an object in a set."""
    return ObjectKey(item.kind, item.metadata.namespace, item.metadata.name)


def validate_manifests(
    objects: Iterable[Manifest],
    clocks: Timers | None = None,
    invalid: Iterable[ObjectKey] = (),
    *,
    incomplete: bool = False,
    validate_each: ValidateEach | None = None,
) -> ManifestValidation:
    """Validate every template and layout of a set.

    `invalid` names objects of the set that could not be parsed. A template that refers to one is not used;
    the problem is reported only where it was made. With `incomplete`, objects may exist outside the set: a
    missing profile or layout is a warning. Without its layout a template never passes.
    """
    known, results = _first_of_each(objects)
    claims: dict[tuple[str, str, str], str] = {}
    conflicting = {
        key: TemplateValidation(key.name, problems=(problem,)) for key, problem in _topic_conflicts(known)
    }
    results |= conflicting
    known = {key: item for key, item in known.items() if key not in conflicting}
    targets = _KnownObjects(known, frozenset((*invalid, *conflicting)), incomplete)
    templates = {key: item for key, item in known.items() if isinstance(item, EmailTemplate)}
    pairs = {key: (item, _layout_of(item, targets)) for key, item in templates.items()}
    complete = {key: pair for key, pair in pairs.items() if pair[1] or not pair[0].spec.layout_ref}
    validate = validate_each or (lambda pairs: (validate_template(*pair, clocks) for pair in pairs))
    rendered = dict(zip(complete, validate(complete.values()), strict=True))
    for key, item in known.items():
        if isinstance(item, EmailTemplate):
            result = _validate_one(item, targets, rendered.get(key))
            conflicts = tuple(_conflicts(item, claims)) if result.passed else ()
            compiled = None if conflicts else result.compiled
            result = replace(result, compiled=compiled, problems=(*result.problems, *conflicts))
        elif isinstance(item, EmailLayout):
            result = validate_layout(item)
        else:
            continue
        earlier = results.get(key)
        results[key] = replace(result, problems=result.problems + earlier.problems) if earlier else result
    profiles = {key: item for key, item in known.items() if isinstance(item, SmtpProfile)}
    return ManifestValidation(results, profiles)


def _first_of_each(
    objects: Iterable[Manifest],
) -> tuple[dict[ObjectKey, Manifest], dict[ObjectKey, TemplateValidation]]:
    """The first object of each key, and a result for each later one."""
    known: dict[ObjectKey, Manifest] = {}
    results: dict[ObjectKey, TemplateValidation] = {}
    for item in objects:
        if (key := object_key(item)) in known:
            message = f"{key.kind} {key.name} occurs twice; the first one counts"
            results[key] = TemplateValidation(
                key.name, problems=(Problem(Code.MANIFEST_INVALID, "metadata.name", message),)
            )
        else:
            known[key] = item
    return known, results


def _layout_of(template: EmailTemplate, known: _KnownObjects) -> EmailLayout | None:
    name = template.spec.layout_ref and template.spec.layout_ref.name
    found = known.objects.get(ObjectKey("EmailLayout", template.metadata.namespace, name)) if name else None
    return found if isinstance(found, EmailLayout) else None


def _validate_one(
    template: EmailTemplate, known: _KnownObjects, rendered: TemplateValidation | None
) -> TemplateValidation:
    """The result of a template with the problems of its references; `rendered` is None without its layout."""
    spec, namespace = template.spec, template.metadata.namespace
    profile = ObjectKey("SmtpProfile", namespace, spec.smtp_profile_ref.name)
    page = ObjectKey("EmailLayout", namespace, spec.layout_ref.name) if spec.layout_ref else None
    missing = [*_check_layout(page, known), *_check_profile(profile, known)]
    result = rendered or TemplateValidation(
        template.metadata.name, problems=problems_without_layout(template)
    )
    if known.incomplete:
        missing_warnings = (replace(problem, severity=Severity.WARNING) for problem in missing)
        result = replace(result, warnings=(*missing_warnings, *result.warnings))
    problems = [*([] if known.incomplete else missing), *_check_sender(template, profile, known)]
    if not problems and (profile in known.objects or profile not in known.invalid):
        return result
    return replace(result, compiled=None, problems=(*problems, *result.problems))


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
    """The problem of a reference to a missing object; none if that object exists and is invalid."""
    if wanted not in known.invalid:
        yield not_found_problem(code, wanted, place, (*known.objects, *known.invalid))


def _conflicts(template: EmailTemplate, claims: dict[tuple[str, str, str], str]) -> Iterator[Problem]:
    profile, namespace = template.spec.smtp_profile_ref.name, template.metadata.namespace
    for index, event_type in enumerate(template.spec.event_types):
        owner = claims.setdefault((namespace, profile, event_type), template.metadata.name)
        if owner != template.metadata.name:
            yield event_type_conflict_problem(index, event_type, owner, profile)


def _topic_conflicts(known: Mapping[ObjectKey, Manifest]) -> Iterator[tuple[ObjectKey, Problem]]:
    """The profiles whose topic an earlier profile uses, each with the problem."""
    topics: dict[ObjectKey, str] = {}
    for key, item in known.items():
        if isinstance(item, SmtpProfile):
            topic = topic_of(item)
            if owner := next((each for each, used in topics.items() if topics_conflict(topic, used)), None):
                yield key, topic_conflict_problem(topic, owner.name, topics[owner])
            else:
                topics[key] = topic


def validate_layout(layout: EmailLayout) -> TemplateValidation:
    """Validate a layout without a template: it compiles, as do its CSS and partials."""
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
