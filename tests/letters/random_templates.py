"""Random templates and random data: is what is inlined ahead what would be inlined for each letter?

A template is a random document with Jinja put into it: branches and loops around elements, classes, styles
and attributes from data, words with characters that HTML knows. Its schema allows every value that is drawn.

Two letters are the same when their bytes are, but for `<style>` elements: a rule that matches nothing in a
letter may be kept in one and not in the other. Whether rules are kept where they matter, the browser judges
(`letters_of` gives source pages too).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from postroom.letter.problems import Rejected
from postroom.letter.renderer import TemplateRenderer
from postroom.letter.template import EmailTemplate, SampleSpec
from postroom.letter.validation.drafts import locale_drafts
from postroom.letter.validation.sample_runs import sample_event
from postroom.letter.validation.validate import validate_template
from postroom.local.browser_check import BLOCK, PagePair, scan_page
from tests.letters.corpus import make_template
from tests.letters.generator import Document, Node, random_document, smaller

KINDS = ("a", "b", "c", "a b", "x", "")
COLORS = ("red", "#00f", "inherit")
WORDS = ("word", "<b>&\"'", "", "{{ 7 * 7 }}", "é")
BOOLEAN = {"type": "boolean"}
STRING = {"type": "string"}
SCHEMA = {
    "type": "object",
    "properties": {
        "flag": BOOLEAN,
        "other": BOOLEAN,
        "kind": STRING,
        "color": STRING,
        "word": STRING,
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"kind": STRING, "flag": BOOLEAN},
                "required": ["kind", "flag"],
            },
        },
    },
    "required": ["flag", "other", "kind", "color", "word", "items"],
}
ATTRIBUTES = (
    ("class", "{{ kind }}"),
    ("class", "a {% if flag %}b{% endif %}"),
    ("class", "{{ 'b' if other else 'c' }} a"),
    ("style", "color: {{ color }}"),
    ("style", "{% if flag %}color: red{% else %}margin: 1px{% endif %}"),
    ("title", "{{ word }}"),
    ("title", "{% if flag %}t{% endif %}"),
    ("id", "{% if other %}x{% else %}y{% endif %}"),
    ("dir", "{{ 'rtl' if flag else 'ltr' }}"),
    ("href", "https://larkfield.example/{{ word|urlencode }}"),
)
AROUND = (
    ("{% if flag %}", "{% endif %}"),
    ("{% if other %}", "{% else %}no{% endif %}"),
    ("{% for item in items %}", "{% endfor %}"),
    ("{% if not flag %}", "{% endif %}"),
    ("{% for item in items %}{% if item.flag %}", "{% endif %}{% endfor %}"),
)
IN_TEXT = ("{{ word }}", "{# remark #}", "{% if flag %}yes{% endif %}", "{{ kind|upper }}")


@dataclass(frozen=True, slots=True)
class Deviation:
    """A letter that comes out otherwise when its CSS is inlined ahead."""

    document: Document
    data: Mapping[str, Any]
    ahead: str
    per_letter: str

    def __str__(self) -> str:
        lines = [self.document.page(), f"css: {self.document.css()}", f"data: {self.data}"]
        return "\n".join([*lines, f"ahead:      {self.ahead}", f"per letter: {self.per_letter}"])


def random_template(rng: Random) -> Document:
    """A document with Jinja in it."""
    document = random_document(rng)
    nodes = tuple(_with_jinja(rng, node) for node in document.nodes)
    return replace(document, tags=True, doctype="<!doctype html>", nodes=nodes)


def _with_jinja(rng: Random, node: Node) -> Node:
    attributes = node.attributes
    if rng.random() < 0.25:
        added = rng.choice(ATTRIBUTES)
        attributes = (*(each for each in attributes if each[0] != added[0]), added)
    children: list[Node | str] = []
    for child in node.children:
        if isinstance(child, str):
            children += [child, *([rng.choice(IN_TEXT)] if rng.random() < 0.3 else [])]
            continue
        inside = _with_jinja(rng, child)
        before, after = rng.choice(AROUND) if rng.random() < 0.2 else ("", "")
        children += [*filter(None, [before]), inside, *filter(None, [after])]
    return Node(node.tag, attributes, tuple(children), node.closed)


def random_data(rng: Random) -> dict[str, Any]:
    """Data that the schema allows."""
    return {
        "flag": rng.random() < 0.5,
        "other": rng.random() < 0.5,
        "kind": rng.choice(KINDS),
        "color": rng.choice(COLORS),
        "word": rng.choice(WORDS),
        "items": [
            {"kind": rng.choice(KINDS), "flag": rng.random() < 0.5} for _ in range(rng.choice((0, 1, 2, 3)))
        ],
    }


def template_of(document: Document, sample: Mapping[str, Any]) -> EmailTemplate:
    """The document as a template with one sample."""
    return make_template(
        "random",
        {
            "html": document.page(),
            **({"css": document.css()} if document.sheet else {}),
            "variables": SCHEMA,
            "samples": [{"name": "only", "data": dict(sample)}],
            "text": "x",
        },
    )


@dataclass(slots=True)
class Tally:
    """How many templates were tried, and what came of them."""

    templates: int = 0
    refused: int = 0
    ahead: int = 0
    letters: int = 0


def deviations(seeds: Iterator[int], letters: int, tally: Tally) -> Iterator[Deviation]:
    """The templates whose letters differ by when the CSS is inlined, made small."""
    for seed in seeds:
        rng = Random(seed)
        document = random_template(rng)
        data = [random_data(rng) for _ in range(letters)]
        if (found := deviation(document, data, tally)) is not None:
            yield _small(found, data)


def deviation(document: Document, data: list[dict[str, Any]], tally: Tally | None = None) -> Deviation | None:
    """The first letter of a template that differs, or None; also None where the template is refused."""
    tally = tally or Tally()
    tally.templates += 1
    template = template_of(document, data[0])
    proof = validate_template(template, None)
    if proof.compiled is None:
        tally.refused += 1
        return None
    if proof.compiled.variants[0].inline != "source":
        return None
    tally.ahead += 1
    quick = TemplateRenderer(proof.compiled)
    slow = TemplateRenderer(
        replace(
            proof.compiled, variants=tuple(draft.variant() for draft in locale_drafts(template.spec, None))
        )
    )
    for each in data:
        tally.letters += 1
        ahead, per_letter = _html(quick, each), _html(slow, each)
        if _compared(ahead) != _compared(per_letter):
            return Deviation(document, each, ahead, per_letter)
    return None


def _compared(page: str) -> tuple[str, list[str]]:
    found = scan_page(page)
    attributes = ((tag, attribute) for tag in found.tags for attribute in tag.attributes)
    styles = [page[start:end].strip() for _, (name, start, end) in attributes if name == "style"]
    return found.without_styles().replace(BLOCK, "").replace("\n", ""), styles


def letters_of(document: Document, data: list[dict[str, Any]]) -> Iterator[PagePair]:
    """The source page and the delivered page of each letter; none where the template is refused."""
    template = template_of(document, data[0])
    proof = validate_template(template, None)
    if proof.compiled is None:
        return
    sources = [draft.variant() for draft in locale_drafts(template.spec, None)]
    plain = (replace(edition, css="", inline="source") for edition in sources)
    source, delivered = (
        TemplateRenderer(replace(proof.compiled, variants=tuple(plain))),
        TemplateRenderer(proof.compiled),
    )
    for each in data:
        yield PagePair(_html(source, each), _html(delivered, each), sources[0].css)


def _html(live: TemplateRenderer, data: dict[str, Any]) -> str:
    event = sample_event(SampleSpec(name="only", data=data), "corpus.random", None)
    try:
        return live.render_validated(event, data).html
    except Rejected as rejected:
        return str(rejected)


def _small(found: Deviation, data: list[dict[str, Any]]) -> Deviation:
    for _ in range(100):
        for candidate in smaller(found.document):
            try:
                less = deviation(candidate, data)
            except Exception:  # noqa: BLE001  half a branch was left out: no template
                continue
            if less is not None:
                found = less
                break
        else:
            return found
    return found
