"""`postroom check --browser`: does each sample's letter look as the page that its author wrote?

Input: the objects of a folder and their verdict. Output: the verdict with a warning (`page_differs`) for each
element of a letter that Chromium shows otherwise than in the source page. Nothing is sent, and the browser
fetches nothing. Failure: `Trouble` when there is no Chromium.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from postroom.letter.problems import Code, Problem, Severity
from postroom.letter.references import ObjectKey
from postroom.letter.template import EmailLayout, EmailTemplate
from postroom.letter.validation.sample_runs import source_pages
from postroom.letter.validation.validate import (
    CheckedObject,
    ManifestValidation,
    TemplateValidation,
    object_key,
)
from postroom.local.browser_check import BrowserCheck, Comparison, Difference, Pair, is_consequence

SHOWN_ELEMENTS = 8
"""Elements that are named of one letter; the last finding counts the rest."""
SHOWN_PROPERTIES = 4


def with_browser(
    objects: Iterable[CheckedObject], verdict: ManifestValidation, program: Path | None = None
) -> ManifestValidation:
    """The verdict with what Chromium finds in the letters of the templates that pass; raises Trouble."""
    known = {object_key(item): item for item in objects}
    proofs = dict(verdict.results)
    with BrowserCheck(program) as browser:
        for key, proof in verdict.results.items():
            template = known.get(key)
            if isinstance(template, EmailTemplate) and proof.compiled is not None:
                found = tuple(appearance_problems(template, _layout(template, known), proof, browser))
                proofs[key] = replace(proof, warnings=(*proof.warnings, *found))
    return replace(verdict, results=proofs)


def _layout(template: EmailTemplate, known: Mapping[ObjectKey, CheckedObject]) -> EmailLayout | None:
    reference = template.spec.layout_ref
    if reference is None:
        return None
    found = known.get(ObjectKey("EmailLayout", template.metadata.namespace, reference.name))
    return found if isinstance(found, EmailLayout) else None


def appearance_problems(
    template: EmailTemplate, layout: EmailLayout | None, proof: TemplateValidation, browser: BrowserCheck
) -> Iterator[Problem]:
    """What differs in one template's letters; the same difference in several samples is one problem."""
    assert proof.compiled is not None
    sources = source_pages(template, layout, proof.compiled)
    pairs = [
        Pair(source.page, sent.rendered.html, source.css, source.sample)
        for source, sent in zip(sources, proof.samples, strict=True)
    ]
    seen: set[tuple[str, str]] = set()
    for pair, comparison in zip(pairs, browser.compare(pairs), strict=True):
        yield from _problems(template.spec.html, pair, comparison, seen)


def _problems(html: str, pair: Pair, comparison: Comparison, seen: set[tuple[str, str]]) -> Iterator[Problem]:
    groups: dict[tuple[str, str], list[Difference]] = {}
    for difference in comparison.differences:
        groups.setdefault((difference.check, difference.path), []).append(difference)
    fresh = {key: group for key, group in groups.items() if key not in seen}
    seen.update(fresh)
    lines = pair.source.splitlines()
    for number, group in enumerate(fresh.values()):
        if number == SHOWN_ELEMENTS:
            message = f"sample `{pair.name}`: {len(fresh) - number} more elements differ"
            yield _problem(message, None)
            break
        first = group[0]
        yield _problem(f"sample `{pair.name}`: {_described(group)}", _line_of(html, lines, first.line))


def _problem(message: str, line: int | None) -> Problem:
    return Problem(Code.PAGE_DIFFERS, "spec.html", message, line, severity=Severity.WARNING)


def _described(group: Sequence[Difference]) -> str:
    first = group[0]
    if first.check == "bytes":
        return (
            "the letter differs from the source outside of `style` attributes and `<style>` elements: "
            f"{first.source!r} became {first.delivered!r}"
        )
    if first.check == "elements":
        return f"the browser makes other elements of it: {first.source} became {first.delivered}"
    causes = [each for each in group if not is_consequence(each)] or group
    named = list(dict.fromkeys((each.property, each.source, each.delivered) for each in causes))
    shown = ", ".join(
        f"{name} {was or 'nothing'} became {now or 'nothing'}" for name, was, now in named[:SHOWN_PROPERTIES]
    )
    more = f" and {len(named) - SHOWN_PROPERTIES} properties more" if len(named) > SHOWN_PROPERTIES else ""
    where = CIRCUMSTANCES.get(first.check, "")
    place = f" at {first.width} pixels, {first.scheme}" if first.width and not where else where
    return f"`{first.path}`: {shown}{more}{place}"


CIRCUMSTANCES = {
    "hover": " while it is hovered or focused",
    "visited": " as a visited link",
    "checked": " while inputs are checked",
    "outlook": " with what Outlook puts into a page",
    "gmail": " with what Gmail puts into a page",
    "apple": " with what Apple Mail puts into a page",
    "inlined": " in clients that ignore `<style>`",
}


def _line_of(html: str, lines: Sequence[str], line: int | None) -> int | None:
    """The line of `spec.html` that reads as this line of the page, if there is exactly one."""
    if line is None or not 0 < line <= len(lines):
        return None
    wanted = lines[line - 1].strip()
    found = [number for number, each in enumerate(html.splitlines(), 1) if each.strip() == wanted]
    return found[0] if len(found) == 1 else None
