"""The source page of each sample: rendered as the letter is, with nothing inlined.

It is what the author wrote, with data filled in: what the delivered page is compared with
(`postroom check --browser`). Input: a template that passed its proof. Output: one page for each of the
proof's samples, in the same order, with the separate style sheet that comes before the page's own styles.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from postroom.letter.compiled import CompiledTemplate
from postroom.letter.live import Live
from postroom.letter.proving.draft import drafts
from postroom.letter.proving.trial import tries
from postroom.letter.schema import Contract
from postroom.letter.template import EmailLayout, EmailTemplate


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
    sources = [draft.edition() for draft in drafts(template.spec, layout)]
    sheets = {edition.tag: edition.css for edition in sources}
    plain = replace(
        compiled,
        editions=tuple(
            replace(edition, css="", inline="source", text="", text_way="given") for edition in sources
        ),
    )
    contract = Contract(template.spec.variables)
    samples = [(n, sample, contract.admit(sample.data)) for n, sample in enumerate(template.spec.samples)]
    live = Live(plain)
    for letter in tries(plain, samples):
        rendered = live.write(letter.event, letter.data)
        yield SourcePage(letter.sample.name, rendered.language, rendered.html, sheets[rendered.language])
