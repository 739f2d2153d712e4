"""Locale drafts: a template in one language, assembled from the manifest and not yet compiled.

Input: a template and its layout. Output: one `LocaleDraft` for the default locale and one for each entry of
`locales`, or Rejected (layouts, blocks, partials, MJML). What an entry leaves out comes from the next one of
the chain (`de-AT`, `de`, the template). Each part keeps the field that it was written in, for the positions
of problems. `check_draft` finds the problems that need no data.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from jinja2.exceptions import TemplateSyntaxError

from postroom.letter.bundle import LocaleVariant, WeightedSubject
from postroom.letter.html.layout import flatten, layout_alone, place_preheader
from postroom.letter.html.mjml import compile_mjml
from postroom.letter.html.template_source import template_source
from postroom.letter.language.environment import HTML, TEXT, LetterEnvironment, compile_source
from postroom.letter.language.messages import Catalogue, merged
from postroom.letter.language.other_languages import placeholders
from postroom.letter.language.pieces import Source, split
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.references import layout_field
from postroom.letter.template import EmailLayout, EmailTemplateSpec, InliningSpec, LocaleSpec, MjmlSpec
from postroom.letter.validation.variables import VariableCollector, VariableUse


@dataclass(frozen=True, slots=True)
class SourcePart:
    """A piece of template source and its field."""

    field: str
    source: str


@dataclass(frozen=True, slots=True)
class LocaleDraft:
    """The template in one language: all its parts, with html and layout assembled in `page`."""

    tag: str
    subjects: tuple[tuple[SourcePart, int], ...]
    preheader: SourcePart | None
    html: SourcePart
    page: Source
    text: SourcePart | None
    css: str
    inlining: InliningSpec
    catalogue: Catalogue = field(default_factory=Catalogue)
    """The message texts for `t(…)` in this language."""
    message_places: Mapping[str, str] = field(default_factory=dict)
    """The field of each message text."""

    def parts(self) -> Iterator[SourcePart]:
        """The parts that are text and not HTML."""
        yield from (part for part, _ in self.subjects)
        yield from (part for part in (self.preheader, self.text) if part)

    def variant(self) -> LocaleVariant:
        """The variant in which nothing is precomputed: CSS is inlined after each rendering."""
        return LocaleVariant(
            tag=self.tag,
            subjects=tuple(WeightedSubject(part.source, weight) for part, weight in self.subjects),
            preheader=self.preheader.source if self.preheader else None,
            html=self.page.text,
            text=self.text.source if self.text else None,
            inline="render",
            text_origin="given" if self.text else "render",
            css=self.css,
            attributes=tuple(self.inlining.add_attributes),
            keep_styles=self.inlining.style_elements == "Keep",
            messages=self.catalogue.texts,
            foreign_messages=self.catalogue.foreign,
        )


def locale_drafts(spec: EmailTemplateSpec, layout: EmailLayout | None) -> list[LocaleDraft]:
    """The drafts of a template, the default language first. Raises Rejected (layouts, blocks, partials,
    MJML).

    If the layout itself cannot be read, only its own problems are reported.
    """
    try:
        return _locale_drafts(spec, layout)
    except Rejected:
        if layout and (own := layout_problems(layout)):
            raise Rejected(*own) from None
        raise


def layout_problems(layout: EmailLayout) -> tuple[Problem, ...]:
    """Why a layout cannot be read by itself; fields have the prefix of `layout_field`."""
    try:
        page = layout_alone(layout)
        if layout.spec.format == "MJML" and "<mjml" in page.text:  # else the templates hold the whole page
            page = compile_mjml(page)
    except Rejected as rejected:
        return rejected.problems
    try:
        compile_source(HTML, page.text, "spec.html")
    except Rejected as rejected:
        return tuple(locate_problem(problem, page) for problem in rejected.problems)
    return ()


def _locale_drafts(spec: EmailTemplateSpec, layout: EmailLayout | None) -> list[LocaleDraft]:
    css = "\n".join(sheet for sheet in (layout and layout.spec.css, spec.css) if sheet)
    chain = {locale.tag.lower(): (index, locale) for index, locale in enumerate(spec.locales)}
    own = [locale.tag for locale in spec.locales if locale.tag.lower() != spec.default_locale.lower()]
    return [_draft(spec, layout, css, list(_chain(tag, chain))) for tag in (spec.default_locale, *own)]


ChainLink = tuple[str, str, LocaleSpec | None]


def _chain(tag: str, locales: dict[str, tuple[int, LocaleSpec]]) -> Iterator[ChainLink]:
    """The tag, with each object that its parts may come from, nearest first; None is the template."""
    for shortened in _shortened(tag):
        if shortened in locales:
            index, locale = locales[shortened]
            yield tag, f"spec.locales[{index}]", locale
    yield tag, "spec", None


def _draft(
    spec: EmailTemplateSpec,
    layout: EmailLayout | None,
    css: str,
    chain: list[ChainLink],
) -> LocaleDraft:
    def find(name: str) -> SourcePart | None:
        for _, place, locale in chain:
            value = getattr(locale or spec, name)
            if value is not None:
                return SourcePart(f"{place}.{name}", value)
        return None

    html, subject, preheader = find("html"), find("subject"), find("preheader")
    assert html is not None, "the template itself has one"
    assert subject is not None, "the template itself has one"
    catalogue, places = merged(_catalogues(spec, layout, chain[0][0]), chain[0][0])
    variants = spec.subject_variants if subject.field == "spec.subject" else []
    subjects = [
        (SourcePart(f"spec.subjectVariants[{index}].subject", variant.subject), variant.weight)
        for index, variant in enumerate(variants)
    ]
    return LocaleDraft(
        tag=chain[0][0],
        subjects=tuple(subjects) or ((subject, 1),),
        preheader=preheader,
        html=html,
        page=_page(spec, html, layout, preheader=preheader is not None),
        text=_text(find("text"), html),
        css=css,
        inlining=spec.inlining or (layout and layout.spec.inlining) or InliningSpec(),
        catalogue=catalogue,
        message_places=places,
    )


def _page(
    spec: EmailTemplateSpec, html: SourcePart, layout: EmailLayout | None, *, preheader: bool
) -> Source:
    """The whole page in HTML. The layout decides the format; a template in HTML may fill a layout in MJML."""
    page_format = layout.spec.format if layout else spec.format
    if page_format == "HTML" and spec.format == "MJML":
        message = "is MJML and its layout is HTML; give the layout format: MJML, or leave layoutRef out"
        raise Rejected(Problem(Code.MANIFEST_INVALID, "spec.format", message))
    if page_format == "HTML":
        return flatten(html.source, html.field, layout, preheader=preheader)
    choices = (layout.spec.mjml if layout else None) or spec.mjml or MjmlSpec()
    source = flatten(html.source, html.field, layout, plain=False)
    page = compile_mjml(source, web_fonts=choices.web_fonts == "Keep", preheader=preheader)
    return place_preheader(page) if preheader else page


def _catalogues(
    spec: EmailTemplateSpec, layout: EmailLayout | None, tag: str
) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """The message catalogues for a language with their fields, nearest first.

    In one language the template's catalogue precedes the layout's. A nearer language precedes both.
    """
    template = {
        each.tag.lower(): (f"spec.locales[{n}].messages", each.messages)
        for n, each in enumerate(spec.locales)
    }
    page = layout.spec if layout else None
    own = f"{layout_field(layout.metadata.name)}." if layout else ""
    shared = enumerate(page.locales) if page else ()
    layout_locales = {each.tag.lower(): (f"{own}locales[{n}].messages", each.messages) for n, each in shared}
    for each in dict.fromkeys((*_shortened(tag), *_shortened(spec.default_locale))):
        if each in template:
            yield each, *template[each]
        if each == spec.default_locale.lower():
            yield each, "spec.messages", spec.messages
        if each in layout_locales:
            yield each, *layout_locales[each]
        if page and each == page.default_locale.lower():
            yield each, f"{own}messages", page.messages
    if page:
        yield page.default_locale, f"{own}messages", page.messages


def _shortened(tag: str) -> Iterator[str]:
    """The prefixes of a tag, longest first: `de-at`, `de`."""
    rest = tag.lower()
    while rest:
        yield rest
        rest = rest.rpartition("-")[0]


def _text(text: SourcePart | None, html: SourcePart) -> SourcePart | None:
    """The text part. If it is from a more general language than the html, it is derived from the html
    instead.
    """
    if text and text.field.rpartition(".")[0] != html.field.rpartition(".")[0]:
        return None
    return text


def check_part(
    environment: LetterEnvironment, part: SourcePart, collector: VariableCollector
) -> list[Problem]:
    """Compile a part, collect its variables, and return its problems."""
    # A part that cannot be compiled can often be parsed; then all its problems are reported at once.
    with suppress(TemplateSyntaxError, RecursionError, ValueError):
        collector.read(environment.read(part.source))
    try:
        compile_source(environment, part.source, part.field)
    except Rejected as rejected:
        return list(rejected.problems)
    return []


def check_draft(
    draft: LocaleDraft, variables: dict[str, object], layout: EmailLayout | None, *, whole: bool = True
) -> tuple[list[Problem], VariableUse]:
    """Find the problems of a draft that need no data; the page is parsed as HTML only if it is `whole`."""
    problems: list[Problem] = []
    use = VariableUse()
    for part in draft.parts():
        collector = VariableCollector(variables, part.field)
        problems += check_part(TEXT, part, collector)
        collector.use.lint_warnings += foreign_placeholders(part.source, part.field, variables)
        problems += collector.use.problems
        use.add(collector.use)
    collector = VariableCollector(variables, draft.html.field)
    # letters compile the page under this field
    page_problems = check_part(HTML, SourcePart("spec.html", draft.page.text), collector)
    own = layout_problems(layout) if page_problems and layout else ()
    problems += own or [locate_problem(problem, draft.page) for problem in page_problems]
    page_use = collector.use
    page_use.lint_warnings += foreign_placeholders(draft.page.text, draft.html.field, variables)
    page_use.problems = [locate_problem(problem, draft.page) for problem in page_use.problems]
    page_use.lint_warnings = [locate_problem(problem, draft.page) for problem in page_use.lint_warnings]
    problems += page_use.problems
    use.add(page_use)
    if whole and not page_problems:
        problems += check_markup(draft.page)
    return problems, use


def foreign_placeholders(source: str, field: str, variables: dict[str, object]) -> list[Problem]:
    """Placeholders of other template languages in the text of a part, which would be sent unchanged."""
    declared = variables.get("properties", {})
    try:
        texts = [(piece.text, field, piece.line) for piece in split(source, field) if piece.kind == "data"]
    except Rejected:
        return []
    return list(placeholders(texts, declared if isinstance(declared, dict) else {}))


def check_markup(page: Source) -> list[Problem]:
    """HTML that a parser would drop, and unquoted values in a tag, which escaping cannot make safe."""
    try:
        source = template_source(page.text)
    except Rejected as rejected:
        return [locate_problem(problem, page) for problem in rejected.problems]
    problems = []
    for piece in source.unquoted:
        message = f"write quotes around `{piece.text}`: a space in the value would begin another attribute"
        problems.append(locate_problem(Problem(Code.TEMPLATE_UNSAFE, "", message, piece.line), page))
    return problems


def locate_problem(problem: Problem, page: Source) -> Problem:
    """A problem of an assembled page, moved to the field and line where the source was written."""
    if problem.line is None or problem.column is None or problem.line > len(page.origin):
        field, line = page.place(problem.line)
        return replace(problem, field=field, line=line, column=None)
    field, line, column = page.place_of(page.offset(problem.line, problem.column))
    return replace(problem, field=field, line=line, column=column)
