"""What is worth a word though it breaks no rule: read from a rendered letter and its template.

Each piece of advice names a thing that readers or mail providers mind. None of it stops a template.
"""

from collections.abc import Iterator

from lxml import etree  # type: ignore[import-untyped]

from postroom.letter.html.protect import parse_page
from postroom.letter.problems import Code, Problem
from postroom.letter.render import Rendered

GMAIL_CLIP = 102 * 1024
"""Gmail shows no more of a letter's HTML than this and hides the rest behind a link."""
SUBJECT_SHOWN = 78
IGNORED = ("script", "form", "iframe", "object", "embed", "video", "audio")


def advise(rendered: Rendered, category: str) -> Iterator[Problem]:
    """Warnings about one rendered letter."""
    size = len(rendered.html.encode())
    if size > GMAIL_CLIP:
        yield _warning(f"the HTML is {size // 1024} KB; Gmail cuts a letter off after 102 KB")
    if len(rendered.subject) > SUBJECT_SHOWN:
        yield _warning(
            f"the subject is {len(rendered.subject)} characters long; clients show {SUBJECT_SHOWN} at most",
            "spec.subject",
        )
    tree = parse_page(rendered.html)
    yield from _look_at(tree)
    if category == "Subscription" and rendered.unsubscribe not in set(tree.xpath("//a/@href")):
        yield _warning("a subscription's letter shows its unsubscribe link: {{ letter.unsubscribe_url }}")


def _look_at(tree: etree._Element) -> Iterator[Problem]:
    missing = len(tree.xpath("//img[not(@alt)]"))
    if missing:
        images = "an image has" if missing == 1 else f"{missing} images have"
        yield _warning(f"{images} no alt text; many readers see only that")
    for name in IGNORED:
        if tree.find(f".//{name}") is not None:
            yield _warning(f"mail clients do not show or run <{name}>")
    if tree.xpath("//link[contains(@rel, 'stylesheet')]"):
        yield _warning("a linked style sheet is neither fetched here nor by mail clients; use spec.css")
    if tree.xpath("//a[starts-with(@href, 'http://')]"):
        yield _warning("a link uses http://; https:// keeps what the reader does there private")
    if not tree.xpath("/html/@lang"):
        yield _warning('<html> says no language; write lang="{{ letter.locale }}" for screen readers')


def _warning(message: str, field: str = "spec.html") -> Problem:
    return Problem(Code.ADVICE, field, message)
