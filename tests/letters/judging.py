"""A template of the corpus proved, rendered and compared by the browser, and the table of all of them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from postroom.letter.problems import Problem, Severity
from postroom.letter.validation.sample_runs import source_pages
from postroom.letter.validation.validate import TemplateValidation, validate_template
from postroom.local.browser_check import PICTURE_TOLERANCE, BrowserCheck, Comparison, PagePair
from tests.letters.corpus import CorpusCase

ABOUT_STYLES = re.compile(r"css|styl|inlin|selector|rule|declaration|@\w|color|font", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CorpusResult:
    """The figures of one template."""

    name: str
    letters: int
    elements: int
    """Elements of all its letters that have a style to compare."""
    compared: int
    """Computed styles compared: elements times widths, schemes and states."""
    excluded: int
    """Elements that cannot have a style attribute of their own."""
    kept: int
    """Elements with a declaration that stays in <style> because it competes with a rule that has to."""
    differing: int
    silent: int
    """Differing elements while no finding speaks of styles."""
    false_alarms: tuple[str, ...]
    picture: float
    """The largest share of pixels that differ."""
    refused: str = ""
    ahead: bool = True
    """Whether the CSS is inlined ahead, at proof."""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (
            self.differing or self.silent or self.false_alarms or self.refused or not self.same_picture
        )

    @property
    def same_picture(self) -> bool:
        """Whether the pictures are equal within the tolerance."""
        return self.picture <= PICTURE_TOLERANCE


def pairs_of(case: CorpusCase, proof: TemplateValidation) -> list[PagePair]:
    """The source and the delivered page of each letter."""
    assert proof.compiled is not None
    sources = source_pages(case.template, case.layout, proof.compiled)
    return [
        PagePair(source.page, sent.rendered.html, source.css, f"{case.name}/{source.sample}")
        for source, sent in zip(sources, proof.samples, strict=True)
    ]


def judge_case(case: CorpusCase, browser: BrowserCheck) -> tuple[CorpusResult, list[Comparison]]:
    """Prove, render and compare one template."""
    proof = validate_template(case.template, case.layout)
    if proof.compiled is None:
        words = "; ".join(map(str, proof.problems))
        return CorpusResult(case.name, 0, 0, 0, 0, 0, 0, 0, (), 0.0, words), []
    pairs = pairs_of(case, proof)
    found = browser.compare(pairs)
    differing = sum(each.differing for each in found)
    spoken = any(ABOUT_STYLES.search(f"{each.field} {each.message}") for each in proof.warnings)
    return CorpusResult(
        case.name,
        len(pairs),
        sum(each.elements for each in found),
        sum(each.compared for each in found),
        sum(each.excluded for each in found),
        sum(each.kept for each in found),
        differing,
        0 if spoken else differing,
        tuple(false_alarms(case, proof.warnings)),
        browser.compare_pictures(pairs[0]),
        ahead=all(edition.inline == "source" for edition in proof.compiled.variants),
    ), found


def false_alarms(case: CorpusCase, warnings: Iterable[Problem]) -> list[str]:
    """The findings that the case does not expect. Information is none: nothing needs to be done about it."""
    return [
        str(warning)
        for warning in warnings
        if warning.severity is not Severity.INFO
        and not any(re.search(expected, str(warning)) for expected in case.findings)
    ]


def figures(results: Sequence[CorpusResult]) -> dict[str, object]:
    """What is written as JSON."""
    return {
        "templates": len(results),
        "letters": sum(each.letters for each in results),
        "elements": sum(each.elements for each in results),
        "compared": sum(each.compared for each in results),
        "excluded": sum(each.excluded for each in results),
        "kept": sum(each.kept for each in results),
        "differing": sum(each.differing for each in results),
        "silent_damage": sum(each.silent for each in results),
        "false_alarms": sum(len(each.false_alarms) for each in results),
        "refused": sum(bool(each.refused) for each in results),
        "pictures_differing": sum(not each.same_picture for each in results),
        "inlined_ahead": sum(each.ahead and not each.refused for each in results),
        "each": [asdict(each) for each in results],
    }


def table(results: Sequence[CorpusResult]) -> str:
    """The table for people: one line a template, and the sum."""
    head = ("template", "letters", "elements", "compared", "kept", "differing", "silent", "alarms", "picture")
    rows = [
        (
            each.name,
            str(each.letters),
            str(each.elements),
            str(each.compared),
            str(each.kept),
            "refused" if each.refused else str(each.differing),
            str(each.silent),
            str(len(each.false_alarms)),
            f"{each.picture:.3%}",
        )
        for each in results
    ]
    total = (
        f"{len(results)} templates",
        str(sum(each.letters for each in results)),
        str(sum(each.elements for each in results)),
        str(sum(each.compared for each in results)),
        str(sum(each.kept for each in results)),
        str(sum(each.differing for each in results)),
        str(sum(each.silent for each in results)),
        str(sum(len(each.false_alarms) for each in results)),
        f"{max((each.picture for each in results), default=0):.3%}",
    )
    return "\n".join(
        "  ".join([row[0].ljust(32), *(cell.rjust(10) for cell in row[1:])]) for row in (head, *rows, total)
    )
