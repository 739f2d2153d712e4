"""MJML becomes HTML at the proof; the template language, the content and the lines ride through it."""

import re
import subprocess
import sys
from typing import Any

import pytest

from postroom.letter.html import mjml
from postroom.letter.html.mjml import compile_mjml
from postroom.letter.language.pieces import Source, join, split
from postroom.letter.manifest import read_manifests
from postroom.letter.problems import Code, Rejected
from postroom.letter.validation.validate import ManifestValidation, validate_manifests

COLUMN = "<mjml><mj-body><mj-section><mj-column>{}</mj-column></mj-section></mj-body></mjml>"


def compiled(source: str, **options: Any) -> Source:
    return compile_mjml(join(split(source, "spec.html")), **options)


def refused(source: str, **options: Any) -> list[str]:
    with pytest.raises(Rejected) as caught:
        compiled(source, **options)
    return [f"{problem.line}: {problem.message}" for problem in caught.value.problems]


def line_of(page: Source, wanted: str) -> int | None:
    """The source's line of what the page holds."""
    return page.place(page.text[: page.text.index(wanted)].count("\n") + 1)[1]


@pytest.mark.parametrize(
    "content",
    [
        "Hello {{ name }} &amp; &eacute; &nbsp; &#8202;",
        "<b class=x>a</b><br>b<p>no end <img src=a>",
        "{% if a < b and c > d %}<i title='{{ t }}'>x</i>{% endif %}",
        '<a {% if x %}class=\'y\'{% endif %} href="{{ order["url"] }}">z</a>',
        "{% raw %}{{ shown }}{% endraw %}",
        "a\n   b\n\tc",
        "<!--[if mso]>x<![endif]-->",
    ],
)
@pytest.mark.parametrize("component", ["mj-text", "mj-button", "mj-table", "mj-raw"])
def test_the_content_of_a_component_is_taken_character_by_character(component: str, content: str) -> None:
    assert content in compiled(COLUMN.format(f"<{component}>{content}</{component}>")).text


def test_values_of_attributes_ride_through() -> None:
    page = compiled(
        COLUMN.format(
            """<mj-image src="{{ a }}" alt='{{ b["c"] }}' href='x?q="1"&amp;b=2'/>"""
            """<mj-text color="{{ colour }}" css-class="{{ x }} y">t</mj-text>"""
            """<mj-button href="https://x.test/{{ id }}?a=1&b=2" background-color="{{ bg }}">b</mj-button>"""
        )
    ).text
    for shown in (
        'src="{{ a }}"',
        """alt="{{ b["c"] }}\"""",
        'href="x?q=&quot;1&quot;&amp;b=2"',
        "color:{{ colour }};",
        'class="{{ x }} y"',
        'href="https://x.test/{{ id }}?a=1&b=2"',
        "background:{{ bg }};",
    ):
        assert shown in page


@pytest.mark.parametrize("tag", ["{}", "<mj-raw>{}</mj-raw>", "<!-- {} -->"])
def test_branches_and_loops_stand_between_components(tag: str) -> None:
    start, end = tag.format("{% for x in xs %}"), tag.format("{% endfor %}")
    sections = (
        "<mjml><mj-body>{0}<mj-section><mj-column>{0}<mj-text>T</mj-text>{1}</mj-column></mj-section>{1}"
    )
    page = compiled((sections + "</mj-body></mjml>").format(start, end)).text
    rows = re.compile(r"\{%\n? *for x in xs %\}<tr><td.*?</td></tr>\{%\n? *endfor %\}", re.DOTALL)
    assert rows.search(page)
    assert len(re.findall(r"\{%\s*for x in xs %\}", page)) == 2
    assert "<!--pr" not in page
    assert "<!-- {%" not in page


def test_what_a_loop_repeats_is_whole_in_wrappers_groups_and_menus() -> None:
    """Each pair of tags encloses as many opening tags as closing ones, comments for Outlook included."""
    element = "<mj-social-element name='twitter' href='x'>T</mj-social-element>"
    link = "<mj-navbar-link href='x'>N</mj-navbar-link>"
    column = "<mj-column><mj-text>c</mj-text></mj-column>"
    for inner in (
        f"<mj-wrapper>LOOP<mj-section>{column}</mj-section>END</mj-wrapper>",
        f"<mj-section>LOOP{column}END</mj-section>",
        f"<mj-section><mj-group>LOOP{column}END</mj-group></mj-section>",
        f"<mj-section><mj-column><mj-social>LOOP{element}END</mj-social></mj-column></mj-section>",
        f"<mj-section><mj-column><mj-navbar>LOOP{link}END</mj-navbar></mj-column></mj-section>",
        "<mj-hero background-url='{{ u }}'>LOOP<mj-text>h</mj-text>END</mj-hero>",
    ):
        source = inner.replace("LOOP", "{% for x in xs %}").replace("END", "{% endfor %}")
        page = compiled(f"<mjml><mj-body>{source}</mj-body></mjml>").text
        body = re.split(r"\{%\s*(?:for x in xs|endfor) %\}", page)[1]
        shown = re.sub(r"<!--\[if [^\]]*\]>|<!\[endif\]-->", "", body)
        tags = re.findall(r"<(/?)(table|tr|td|div|tbody)\b", shown)
        assert len([tag for tag in tags if tag[0]]) == len([tag for tag in tags if not tag[0]]), inner


def test_tags_around_the_document_stay_around_it() -> None:
    page = compiled("{% set a = 1 %}\n" + COLUMN.format("<mj-text>{{ a }}</mj-text>") + "{# end #}").text
    assert page.startswith("{% set a = 1 %}<!doctype html>")


def test_a_placeholder_is_no_word_of_the_source() -> None:
    page = compiled(COLUMN.format("<mj-text>pr0x0z pr1x1z {{ a }}</mj-text>")).text
    assert "pr0x0z pr1x1z {{ a }}" in page
    assert "pr2x" not in page


def test_each_thing_carries_its_line() -> None:
    source = """<mjml>
<mj-head><mj-style>
  .a { color: {{ colour }} }
</mj-style></mj-head>
<mj-body>
  {%- if a %}
  <mj-section><mj-column>
    <mj-text>
      one
      {{ two }}
    </mj-text>
    <mj-image alt="x" width="10px"
      src="{{ src }}" />
    <mj-raw>{% if b %}</mj-raw>
    <mj-button href="x">go</mj-button>{% endif %}
  </mj-column></mj-section>
  {% endif %}
</mj-body>
</mjml>"""
    page = compiled(source)
    assert line_of(page, ".a {") == 3
    assert line_of(page, " if a") == 6
    assert line_of(page, "one\n") == 9
    assert line_of(page, "{{ two") == 10
    assert line_of(page, "{{ src") == 12, "the line of the tag's first attribute with a place"
    assert line_of(page, "if b") == 14
    assert line_of(page, ">go<") == 15
    assert "{%-\n if a" in page.text, "what strips spaces still does"
    assert len(page.origin) == page.text.count("\n") + 1


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        (COLUMN.format("\n<mj-txt>a</mj-txt>"), "2: there is no component <mj-txt>; did you mean mj-text?"),
        (COLUMN.format("\n<p>a</p>"), "2: <p> is no component of MJML"),
        (COLUMN.format("\nhello {{ x }}"), "2: `hello` stands outside of a component"),
        (COLUMN.format("\n{{ x }}"), "2: `{{ x }}` stands outside of a component"),
        (COLUMN.format("\n<mj-text colour='a'>x</mj-text>"), "2: <mj-text> has no attribute colour; did you"),
        (COLUMN.format("\n<mj-text color>x</mj-text>"), "2: color has no value"),
        (COLUMN.format("\n<mj-text color='a' color='b'>x</mj-text>"), "2: color is there twice"),
        (COLUMN.format("\n<mj-text {{ x }}>x</mj-text>"), "2: `{{ x }}` may not stand among the attributes"),
        (COLUMN.format("\n<mj-image src='x' width='{{ w }}'/>"), "2: MJML computes with width of <mj-image>"),
        (COLUMN.format("\n<mj-text>x"), "2: <mj-text> is not closed"),
        (COLUMN.format("\n</mj-text>"), "2: </mj-text> closes nothing here; </mj-column> is due first"),
        (
            COLUMN.format("\n<mj-section></mj-section>"),
            "2: <mj-section> may not stand in <mj-column>; it stands",
        ),
        (
            COLUMN.format("\n<mj-include path='/etc/passwd' />"),
            "2: mj-include reads a file; put the part into",
        ),
        (
            COLUMN.format("\n<mj-carousel>{% if x %}</mj-carousel>"),
            "2: {% if x %} may not stand directly in <mj-c",
        ),
        (COLUMN.format("\n< b"), "2: `<` begins no tag here"),
        (
            "<mjml><mj-head><mj-html-attributes>\n</mj-html-attributes></mj-head><mj-body/></mjml>",
            "1: mj-html-at",
        ),
        (
            "<mjml><mj-body><mj-hero mode='fluid-height'/></mj-body></mjml>",
            "1: mode fluid-height of <mj-hero>",
        ),
        ("<mj-body></mj-body>", "1: <mj-body> may not stand outside of <mjml>"),
        ("\n<html></html>", "2: <html> is no component"),
        ("<mjml></mjml>", "1: is format MJML and has no <mjml> with an <mj-body>"),
        ("", "1: is format MJML and has no"),
        ("<mjml>\n<mj-body>", "1: <mjml> is not closed"),
    ],
)
def test_what_would_be_lost_is_refused_at_its_line(source: str, rule: str) -> None:
    assert refused(source)[0].startswith(rule)


def test_a_mistake_that_only_the_compiler_sees_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import mjml as compiler

    def fail(text: str, **_: object) -> str:
        at = text.index("<mj-spacer")
        raise ValueError(f"unexpected token in root template at position {at}:{at + 3}")

    monkeypatch.setattr(compiler, "mjml2html", fail)
    (message,) = refused(COLUMN.format("\n<mj-text>é</mj-text>\n<mj-spacer/>"))
    assert message == "3: is not MJML that can be compiled: unexpected token"


def test_components_of_the_head_do_as_they_say() -> None:
    head = """<mj-head><mj-title>T</mj-title><mj-preview>P {{ x }}</mj-preview><mj-breakpoint width="320px" />
    <mj-attributes><mj-all font-family="Verdana" /><mj-class name="big" font-size="30px"></mj-class>
    <mj-text color="#123456" /></mj-attributes><mj-style>@media (x) { .a { b: c } }</mj-style>
    <mj-style inline="inline">.d { e: f }</mj-style><mj-raw><meta name="n" content="{{ y }}"></mj-raw>
    <!-- gone --></mj-head>"""
    page = compiled(f"<mjml>{head}<mj-body><mj-section><mj-column><mj-text mj-class='big'>x</mj-text>"
                    "</mj-column></mj-section></mj-body></mjml>").text  # fmt: skip
    for shown in (
        *(">T</title>", "P {{ x }}</div>", "320px", "font-family:Verdana", "font-size:30px", "#123456"),
        *("@media (x) { .a { b: c } }", ".d { e: f }", '<meta name="n" content="{{ y }}">'),
    ):
        assert shown in page


def test_a_document_without_a_head_has_its_title_and_language() -> None:
    page = compiled(COLUMN.format("<mj-text>x</mj-text>")).text
    assert "<title>{{ letter.subject }}</title>" in page
    assert 'lang="{{ letter.locale }}"' in page
    assert 'lang="de"' in compiled(COLUMN.format("").replace("<mjml>", "<mjml lang='de'>")).text


@pytest.mark.parametrize(
    ("attributes", "height"),
    [
        ("padding='40px 0'", 80),
        ("padding='40px 0 10px'", 110),
        ("padding='40px 0' padding-top='0px'", 120),
        ("padding-bottom='60px'", 100),
        ("padding='30px'", 100),
        ("padding='10px 0 20px 5px'", 130),
        ("background-url='{{ u }}' background-width='600px' background-height='160px'", 160),
    ],
)
def test_the_padding_of_a_hero_is_part_of_its_height(attributes: str, height: int) -> None:
    page = compiled(f"<mjml><mj-body><mj-hero height='160px' {attributes}></mj-hero></mj-body></mjml>").text
    assert f'height="{height}" style=' in page
    assert f"vertical-align:top;height:{height}px;" in page


def test_icons_have_an_empty_alternative_text() -> None:
    icon = "<mj-social><mj-social-element name='web' href='x'>T</mj-social-element></mj-social>"
    assert 'alt=""' in compiled(COLUMN.format(icon)).text


def test_web_fonts_are_a_choice() -> None:
    fonts = "<mj-head><mj-font name='Lato' href='https://fonts.example/lato' /></mj-head><mj-body>"
    source = COLUMN.format("<mj-text font-family='Lato'>x</mj-text>").replace("<mj-body>", fonts)
    assert "https://fonts.example/lato" in compiled(source).text
    without = compiled(source, web_fonts=False).text
    assert "fonts.example" not in without
    assert "font-family:Lato" in without
    assert "googleapis" not in compiled(COLUMN.format("<mj-text>x</mj-text>"), web_fonts=False).text


def test_a_preview_line_is_in_one_place() -> None:
    source = COLUMN.format("").replace(
        "<mj-body>", "<mj-head>\n<mj-preview>P</mj-preview></mj-head><mj-body>"
    )
    assert "P</div>" in compiled(source).text
    assert refused(source, preheader=True)[0].startswith("2: the preview line is here and in spec.preheader")
    both = source.replace(">P<", ">{{ letter.preheader }}<")
    assert "{{ letter.preheader }}</div>" in compiled(both, preheader=True).text


def test_the_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mjml, "CHARACTERS", 50)
    with pytest.raises(Rejected) as caught:
        compiled(COLUMN.format(""))
    assert caught.value.code is Code.TOO_LARGE
    monkeypatch.setattr(mjml, "CHARACTERS", 5000)
    monkeypatch.setattr(mjml, "OUTPUT_CHARACTERS", 50)
    with pytest.raises(Rejected) as caught:
        compiled(COLUMN.format(""))
    assert caught.value.code is Code.TOO_LARGE


def test_the_compiler_is_loaded_for_mjml_only() -> None:
    program = "import sys, postroom.letter.validation.validate; assert 'mjml' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)})


PROFILE = """\
apiVersion: postroom.dev/v1alpha1
kind: SmtpProfile
metadata: {name: shop}
spec: {from: {name: Shop, address: shop@example.org}}
---
"""
TEMPLATE = """\
apiVersion: postroom.dev/v1alpha1
kind: EmailTemplate
metadata: {name: order}
spec:
  smtpProfileRef: {name: shop}
  eventTypes: [order.paid]
  subject: Order
  preheader: Thanks
  format: MJML
  mjml: {webFonts: Omit}
  html: |
    <mjml><mj-body>
      {% for item in items %}
      <mj-section><mj-column><mj-text>{{ item.name }}</mj-text></mj-column></mj-section>
      {% endfor %}
    </mj-body></mjml>
  variables:
    type: object
    required: [items]
    properties:
      items: {type: array, items: {type: object, properties: {name: {type: string}}, required: [name]}}
  samples:
    - {name: two, data: {items: [{name: Tea & Co}, {name: Cup}]}}
"""
LAYOUT = """\
---
apiVersion: postroom.dev/v1alpha1
kind: EmailLayout
metadata: {name: page}
spec:
  format: MJML
  mjml: {webFonts: Omit}
  html: |
    <mjml><mj-head><mj-preview>{{ letter.preheader }}</mj-preview></mj-head><mj-body>
      {% block content %}{% endblock %}
      <mj-section><mj-column>
      {% include "foot" %}
      </mj-column></mj-section>
    </mj-body></mjml>
  partials:
    - name: foot
      html: |
        <mj-text>Larkfield Ltd</mj-text>
"""


def proved(text: str) -> ManifestValidation:
    located = list(read_manifests(text, "all.yaml"))
    assert not [problem for each in located for problem in each.problems]
    return validate_manifests([each.object for each in located if each.object])


def order(text: str) -> Any:
    return next(validation for key, validation in proved(text).results.items() if key.kind == "EmailTemplate")


def test_a_template_in_mjml_is_proved_and_its_letter_is_html() -> None:
    validation = order(PROFILE + TEMPLATE)
    assert validation.problems == ()
    html = validation.samples[0].rendered.html
    assert html.count("Tea &amp; Co") == 1
    assert html.count("mj-column-per-100 mj-outlook") + html.count("mj-outlook-group-fix mj-column") >= 2
    assert html.count("Thanks") == 1
    assert html.index("<body") < html.index("Thanks") < html.index("Tea")
    assert "mj-text" not in validation.compiled.variants[0].html
    assert "Tea & Co" in validation.samples[0].rendered.text


def test_a_mistake_in_mjml_is_at_its_line_of_the_field() -> None:
    (problem,) = order(PROFILE + TEMPLATE.replace("item.name }}<", "itm.name }}<")).problems
    assert (problem.code, problem.field, problem.line) == (Code.VARIABLE_UNDECLARED, "spec.html", 3)
    (problem,) = order(PROFILE + TEMPLATE.replace("<mj-text>", "<mj-text colour='red'>")).problems
    assert (problem.field, problem.line) == ("spec.html", 3)


def test_a_layout_in_mjml_is_filled_before_it_is_compiled() -> None:
    fills = TEMPLATE.replace("  format: MJML\n  mjml: {webFonts: Omit}\n", "  layoutRef: {name: page}\n")
    fills = fills.replace("    <mjml><mj-body>\n", "").replace("    </mj-body></mjml>\n", "")
    validation = order(PROFILE + fills + LAYOUT)
    assert validation.problems == ()
    html = validation.samples[0].rendered.html
    assert html.count("Thanks") == 1
    assert html.index("Tea") < html.index("Larkfield Ltd")


def test_a_mistake_of_a_layout_in_mjml_is_reported_for_the_layout() -> None:
    verdict = proved(
        PROFILE + LAYOUT.lstrip("-\n").replace("<mj-text>", "<mj-txt>").replace("</mj-text>", "</mj-txt>")
    )
    (validation,) = verdict.results.values()
    (problem,) = validation.problems
    assert (problem.field, problem.line) == ("spec.partials[0].html", 1)


def test_a_layout_of_partials_alone_takes_the_page_from_its_templates() -> None:
    layout = LAYOUT[: LAYOUT.index("  html: |")] + "  html: '{% block content %}{% endblock %}'\n"
    layout += LAYOUT[LAYOUT.index("  partials:") :]
    uses = TEMPLATE.replace("  format:", "  layoutRef: {name: page}\n  format:")
    uses = uses.replace("      {% endfor %}\n", "      {% endfor %}\n      {% include 'foot-row' %}\n")
    row = "<mj-section><mj-column><mj-text>Larkfield Ltd</mj-text></mj-column></mj-section>"
    layout += f"    - {{name: foot-row, html: '{row}'}}\n"
    verdict = proved(PROFILE + uses + layout)
    assert [problem for validation in verdict.results.values() for problem in validation.problems] == []


def test_a_template_in_mjml_cannot_fill_a_layout_in_html() -> None:
    html = (
        LAYOUT.replace("  format: MJML\n", "")
        .replace("mj-", "x-")
        .replace("  mjml: {webFonts: Omit}\n", "")
        .replace("mjml", "html")
    )
    (problem,) = order(
        PROFILE + TEMPLATE.replace("  format:", "  layoutRef: {name: page}\n  format:") + html
    ).problems
    assert (problem.field, problem.code) == ("spec.format", Code.MANIFEST_INVALID)


def test_a_template_in_mjml_whose_layout_is_elsewhere_is_read_as_far_as_can_be() -> None:
    text = PROFILE + TEMPLATE.replace("  format:", "  layoutRef: {name: page}\n  format:")
    problems = order(text).problems
    assert {problem.code for problem in problems} == {Code.LAYOUT_NOT_FOUND}


def test_a_whole_design_is_compiled() -> None:
    """Three hundred sections of two columns, as in a long newsletter."""
    part = "<mj-section background-color='#fff'><mj-column width='60%'><mj-text>a</mj-text></mj-column>"
    part += (
        "<mj-column width='40%'><mj-image src='https://x.example/a.png' alt='a' /></mj-column></mj-section>"
    )
    page = compiled(f"<mjml><mj-body>{part * 300}</mj-body></mjml>")
    assert page.text.count("mj-column-per-60") == 302
