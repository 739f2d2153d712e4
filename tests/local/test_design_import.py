"""A page with the placeholders of another system becomes a template that `postroom check` passes."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from postroom.cli.app import app
from postroom.letter.language.bounds import RenderBudget
from postroom.letter.language.environment import HTML, compile_source
from postroom.local.design_import.design import Imported, ImportOptions, import_design
from postroom.local.design_import.dialects import Dialect, detect, translate
from postroom.local.design_import.schema import Reader
from postroom.local.design_import.translation import date_filter
from postroom.local.errors import UserError
from postroom.local.manifests import read_manifest_folder

H, L, J, E, G = Dialect.HANDLEBARS, Dialect.LIQUID, Dialect.DJANGO, Dialect.ERB, Dialect.GO
M = Dialect.MERGE_TAGS


@pytest.mark.parametrize(
    ("dialect", "source", "wanted"),
    [
        (H, "{{name}}", "{{name}}"),
        (H, "{{ user.first-name }}", "{{ user.first_name }}"),
        (H, "{{#if a}}x{{else if b}}y{{else}}z{{/if}}", "{% if a %}x{% elif b %}y{% else %}z{% endif %}"),
        (H, "{{#unless a}}x{{/unless}}", "{% if not a %}x{% endif %}"),
        (
            H,
            "{{#each order.items}}{{name}}{{/each}}",
            "{% for item in order.items %}{{ item.name }}{% endfor %}",
        ),
        (H, "{{#each tags}}{{this}}{{/each}}", "{% for tag in tags %}{{ tag }}{% endfor %}"),
        (H, "{{#each xs}}{{../a}}{{@root.b}}{{/each}}", "{% for x in xs %}{{ a }}{{ b }}{% endfor %}"),
        (
            H,
            "{{#each xs}}{{@index}}{{#if @first}}f{{/if}}{{/each}}",
            "{% for x in xs %}{{ loop.index0 }}{% if loop.first %}f{% endif %}{% endfor %}",
        ),
        (
            H,
            "{{#each xs as |row n|}}{{row.a}} {{n}}{{/each}}",
            "{% for row in xs %}{{row.a}} {{ loop.index0 }}{% endfor %}",
        ),
        (
            H,
            "{{#each sums}}{{@key}}: {{this}}{{/each}}",
            "{% for key, sum in sums.items() %}{{ key }}: {{ sum }}{% endfor %}",
        ),
        (
            H,
            "{{#each orders}}{{#each items}}{{sku}}{{/each}}{{/each}}",
            "{% for order in orders %}{% for item in order.items %}{{ item.sku }}{% endfor %}{% endfor %}",
        ),
        (H, "{{#with user}}{{name}}{{/with}}", "{% if user %}{{ user.name }}{% endif %}"),
        (H, "{{#if (eq status 'paid')}}x{{/if}}", '{% if status == "paid" %}x{% endif %}'.replace('"', "'")),
        (H, "{{#if (and a (gt b 3))}}x{{/if}}", "{% if a and (b > 3) %}x{% endif %}"),
        (H, '{{#equals a "b"}}x{{/equals}}', "{% if a == 'b' %}x{% endif %}"),
        (
            H,
            "{{#items}}{{name}}{{/items}}{{^items}}none{{/items}}",
            "{% for item in items %}{{ item.name }}{% endfor %}{% if not items %}none{% endif %}",
        ),
        (H, "{{#is_new}}x{{^}}y{{/is_new}}", "{% if is_new %}x{# not translated: {{^}} #}y{% endif %}"),
        (H, "{{~#if a~}} x {{~/if~}}", "{%- if a -%} x {%- endif -%}"),
        (H, "{{! note }}{{!-- {{x}} --}}", "{# note #}{# {{x}} #}"),
        (H, "{{> site/footerLinks}}", '{% include "footer-links" %}'),
        (H, '{{formatCurrency total "USD"}}', "{{ total|money('USD') }}"),
        (H, '{{formatDate at "MMMM D, YYYY"}}', "{{ at|date('long') }}"),
        (H, '{{insert name "default=friend"}}', "{{ name|default('friend', true) }}"),
        (H, "{{uppercase name}}", "{{ name|upper }}"),
        (H, "{{length items}}", "{{ items|length }}"),
        (L, "{{ a | upcase | truncate: 5 }}", "{{ a|upper|truncate(5) }}"),
        (L, '{{ a | default: "x|y" }}', "{{ a|default('x|y') }}"),
        (L, '{{ at | date: "%b %d, %Y" }}', "{{ at|date('medium') }}"),
        (L, '{{ at | date: "%Y-%m-%d %H:%M" }}', "{{ at|datetime('short') }}"),
        (L, "{% if a == blank or b contains 'x' %}y{% endif %}", "{% if not a or 'x' in b %}y{% endif %}"),
        (L, "{% unless a %}x{% endunless %}", "{% if not (a) %}x{% endif %}"),
        (
            L,
            "{% for x in xs limit:2 offset:1 %}{{ forloop.index }}{% endfor %}",
            "{% for x in xs[1:1 + 2] %}{{ loop.index }}{% endfor %}",
        ),
        (L, "{% for n in (1..3) %}{% endfor %}", "{% for n in range(1, 3 + 1) %}{% endfor %}"),
        (L, "{% assign t = a | plus: 1 %}", "{% set t = (a + 1) %}"),
        (L, "{% capture t %}x{% endcapture %}", "{% set t %}x{% endset %}"),
        (
            L,
            "{% case a %}{% when 1 %}x{% when 2, 3 %}y{% else %}z{% endcase %}",
            "{% if a == 1 %}x{% elif a in [2, 3] %}y{% else %}z{% endif %}",
        ),
        (L, "{%- comment -%} a {%- endcomment -%}", "{# a #}"),
        (L, "{{ order.items.size }}", "{{ order.items|length }}"),
        (L, "{% render 'card' %}", '{% include "card" %}'),
        (J, '{{ a|default:"x" }} {{ row.0 }}', "{{ a|default('x') }} {{ row[0] }}"),
        (
            J,
            "{% for x in xs %}{{ forloop.counter }}{% empty %}none{% endfor %}",
            "{% for x in xs %}{{ loop.index }}{% else %}none{% endfor %}",
        ),
        (J, '{% trans "Hello" %}{% load i18n %}', "Hello"),
        (J, "{% with n=user.name %}{{ n }}{% endwith %}", "{% with n=user.name %}{{ n }}{% endwith %}"),
        (
            J,
            "{{ n }} item{{ n|pluralize }} part{{ n|pluralize:'y,ies' }}",
            "{{ n }} item{{ n|plural(one='', other='s') }} part{{ n|plural(one='y', other='ies') }}",
        ),
        (J, '{{ ok|yesno:"yes,no" }}', "{{ ('yes' if ok else 'no') }}"),
        (E, "<%= @user.name %>", "{{ user.name }}"),
        (
            E,
            "<% if a && !b %>x<% elsif c == 'd' %>y<% else %>z<% end %>",
            "{% if a and not b %}x{% elif c == 'd' %}y{% else %}z{% endif %}",
        ),
        (
            E,
            "<% items.each do |item| %><%= item[:name] %><% end %>",
            "{% for item in items %}{{ item.name }}{% endfor %}",
        ),
        (E, "<% xs.forEach(function(x) { %><%= x.a %><% }); %>", "{% for x in xs %}{{ x.a }}{% endfor %}"),
        (
            E,
            "<% xs.forEach((x, i) => { %><%= i %><% }) %>",
            "{% for x in xs %}{% set i = loop.index0 %}{{ i }}{% endfor %}",
        ),
        (E, "<% for (const x of xs) { %>x<% } %>", "{% for x in xs %}x{% endfor %}"),
        (E, "<% unless a.empty? %>x<% end %>", "{% if not (not a) %}x{% endif %}"),
        (E, "<%= number_to_currency(a.total, unit: 'USD') %>", "{{ a.total|money('USD') }}"),
        (E, '<%= a || "b" %>', "{{ a|default('b', true) }}"),
        (E, "<%= render 'users/foot' %><%- include('foot') %>", '{% include "foot" %}{% include "foot" %}'),
        (E, "<%# note %>", "{#note#}"),
        (E, '<%= link_to "Go", order_url %>', '<a href="{{ order_url }}">Go</a>'),
        (G, "{{.User.Name}}{{ $.Currency }}", "{{ User.Name }}{{ Currency }}"),
        (
            G,
            "{{range .Items}}{{.Title}}{{else}}none{{end}}",
            "{% for Item in Items %}{{ Item.Title }}{% else %}none{% endfor %}",
        ),
        (
            G,
            "{{range $i, $x := .Xs}}{{$i}}{{$x.A}}{{end}}",
            "{% for x in Xs %}{{ loop.index0 }}{{ x.A }}{% endfor %}",
        ),
        (
            G,
            '{{if and .A (eq .B "x")}}y{{else if .C}}z{{end}}',
            "{% if A and (B == 'x') %}y{% elif C %}z{% endif %}",
        ),
        (
            G,
            '{{with .C}}{{.N}}{{end}}{{ printf "%.2f" .P }}',
            "{% if C %}{{ C.N }}{% endif %}{{ P|round(2) }}",
        ),
        (G, '{{ var "first.name" }}{{- .A | upper -}}', "{{ first.name }}{{- A|upper -}}"),
        (M, "*|FNAME|* *|ORDER_ID|*", "{{ first_name }} {{ order_id }}"),
        (
            M,
            "*|IF:VIP|*a*|ELSEIF:NEW|*b*|ELSE:|*c*|END:IF|*",
            "{% if vip %}a{% elif new %}b{% else %}c{% endif %}",
        ),
        (
            M,
            "*|IF:PLAN=gold|*a*|END:IF|**|IFNOT:X|*b*|END:IF|*",
            "{% if plan == 'gold' %}a{% endif %}{% if not x %}b{% endif %}",
        ),
        (Dialect.DOLLAR, "${a.b} $5", "{{ a.b }} $5"),
        (Dialect.PERCENT, "%%First Name%% 100%%", "{{ First_Name }} 100%%"),
        (Dialect.SQUARE, "[[data:name]] [[x]]", "{{ data.name }} {{ x }}"),
        (Dialect.SMARTY, "{$user.name}", "{{ user.name }}"),
    ],
)
def test_each_construct_has_its_translation(dialect: Dialect, source: str, wanted: str) -> None:
    found = translate(source, dialect).text
    assert " ".join(found.replace("{#", "{# ").replace("#}", " #}").split()) == " ".join(
        wanted.replace("{#", "{# ").replace("#}", " #}").split()
    )
    HTML.parse(found)


@pytest.mark.parametrize(
    ("dialect", "source", "construct"),
    [
        (H, "\n{{{html}}}", "{{{html}}}"),
        (H, "\n{{&html}}", "{{&html}}"),
        (H, "\n{{#list xs}}y{{/list}}", "{{#list xs}}"),
        (H, "\n{{fancy a b}}", "{{fancy a b}}"),
        (H, "\n{{> card title='x'}}", "{{> card title='x'}}"),
        (H, "\n{{/if}}", "{{/if}}"),
        (L, "\n{% section 'x' %}", "{% section 'x' %}"),
        (L, "\n{{ a | img_tag }}", "{{ a | img_tag }}"),
        (L, "\n{% include name %}", "{% include name %}"),
        (J, "\n{{ a|safe }}", "{{ a|safe }}"),
        (J, "\n{% now 'Y' %}", "{% now 'Y' %}"),
        (J, "\n{% static 'logo.png' %}", "{% static 'logo.png' %}"),
        (E, "\n<%= Time.now.to_i + offset(3) %>", "<%= Time.now.to_i + offset(3) %>"),
        (E, "\n<% x.save! %>", "<% x.save! %>"),
        (E, "\n<% end %>", "<% end %>"),
        (M, "\n*|RSS:http://x|*", "*|RSS:http://x|*"),
        (G, "\n{{ shout .A }}", "{{ shout .A }}"),
        (G, '\n{{ define "x" }}{{ end }}', '{{ define "x" }}'),
        (Dialect.SMARTY, "\n{$a|upper}", "{$a|upper}"),
        (Dialect.DOLLAR, "\n[[x]] ${y}", "[[x]]"),
    ],
)
def test_what_has_no_translation_is_noted_at_its_line_and_nothing_is_dropped(
    dialect: Dialect, source: str, construct: str
) -> None:
    done = translate(source, dialect)
    notes = [note for note in done.notes if note.lost]
    assert [(note.line, note.construct) for note in notes][:1] == [(2, construct)]
    assert all(note.way_out for note in notes)
    HTML.parse(done.text)


@pytest.mark.parametrize(
    ("source", "dialect"),
    [
        ("{{name}} {{#if a}}{{/if}}", H),
        ("{{#items}}{{.}}{{/items}}", H),
        ("{% assign x = 1 %}{{ x }}", L),
        ('{{ a | date: "%b" }}', L),
        ("{{ a|default:'x' }}{% url 'b' %}", J),
        ("{{ a }}{% for b in c %}{{ loop.index }}{% endfor %}", Dialect.JINJA),
        ("{{ name }}", Dialect.JINJA),
        ("<%= a %>", E),
        ("{{.Name}}{{range .Items}}{{end}}", G),
        ("*|FNAME|*", M),
        ("${a}", Dialect.DOLLAR),
        ("%%a%%", Dialect.PERCENT),
        ("[[a]]", Dialect.SQUARE),
        ("{$a}", Dialect.SMARTY),
        ("<p style='width:100%'>5 % of {x}</p>", Dialect.NONE),
    ],
)
def test_the_dialect_is_seen_by_its_own_signs(source: str, dialect: Dialect) -> None:
    assert detect(source) is dialect


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("%Y-%m-%d %H:%M", "datetime('short')"),
        ("%I:%M %p", "time"),
        ("%A, %d %B", "date('full')"),
        ("F j, Y", "date('long')"),
        ("M d, Y H:i", "datetime('medium')"),
        ("d/m/Y", "date('short')"),
        ("MMM D, YYYY", "date('medium')"),
        ("HH:mm", "time"),
        ("dddd, MMMM Do", "date('full')"),
        ("yyyy-MM-dd", "date('short')"),
        ("long", "date('long')"),
        ("", "date('medium')"),
    ],
)
def test_a_date_pattern_becomes_the_nearest_style(pattern: str, wanted: str) -> None:
    assert date_filter(pattern) == wanted


def rendered(source: str, **data: str) -> str:
    return compile_source(HTML, source, "spec.html").render(data, RenderBudget())


def test_signs_of_the_template_language_in_a_page_of_another_one_are_no_constructs() -> None:
    source = "<style>@media x{#a{b:c}}</style><p>{{ shown }} {% x %}</p><%= a %>"
    text = translate(source, E).text
    assert "@media x{ #a{b:c}}" in text
    assert rendered(text, a="1").endswith("<p>{{ shown }} {% x %}</p>1")


PIECES = st.sampled_from(
    [
        "<p>",
        "</p>\r\n",
        "é",
        "{",
        "}",
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "<%",
        "%>",
        "<%=",
        "*|",
        "|*",
        "${",
        "%%",
        "[[",
        "]]",
        "a",
        " b.c ",
        "#if a",
        "/if",
        "#each xs",
        "/each",
        "else",
        "{{a}}",
        "{{#if a}}",
        "{{/if}}",
        "{% if a %}",
        "{% endif %}",
        "<% if a %>",
        "<% end %>",
        "*|IF:A|*",
        "*|END:IF|*",
        "'",
        '"',
        "|",
        "^x",
        ">p",
        "range .A",
        "end",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join), st.sampled_from(Dialect))
def test_no_page_is_too_odd_to_import(source: str, dialect: Dialect) -> None:
    """It ends, and text that is no construct stays."""
    done = translate(source, dialect)
    assert done.position == len(source)


@given(st.text(alphabet="ab<>/= \n\r\"'{}%#&;é", max_size=60))
def test_a_page_without_placeholders_is_the_same_page(source: str) -> None:
    text = translate(source, Dialect.NONE).text
    if not any(sign in source for sign in ("{{", "{%", "{#")):
        assert text == source
    elif "<style" not in source.lower():
        assert "".join(rendered(text).split()) == "".join(source.split())


def read(*sources: str) -> tuple[dict[str, Any], dict[str, Any]]:
    reader = Reader()
    for source in sources:
        reader.read(source)
    return reader.schema(), reader.sample()


def test_types_come_from_use() -> None:
    schema, sample = read(
        "{{ name }}{{ total|money('EUR') }}{{ at|date('long') }}{{ rate|percent }}"
        "<a href='{{ order.url }}'>x</a>{% if vip %}v{% endif %}{% if note %}{{ note }}{% endif %}"
        "{% for item in order.items %}{{ item.name }}{{ item.qty }}{% endfor %}"
        "{% if state == 'paid' %}{% endif %}{{ nick|default('you') }}"
        "{% for k, v in sums.items() %}{{ v }}{% endfor %}"
        "{% set x = 1 %}{{ x }}{{ letter.subject }}{{ loop }}"
    )
    kinds = {name: each["type"] for name, each in schema["properties"].items()}
    assert kinds == {
        "name": "string",
        "total": "number",
        "at": "string",
        "rate": "number",
        "order": "object",
        "vip": "boolean",
        "note": "string",
        "state": "string",
        "nick": "string",
        "sums": "object",
    }
    assert schema["required"] == ["name", "total", "at", "rate", "order", "state", "sums"]
    assert schema["properties"]["order"]["properties"]["url"]["format"] == "uri"
    assert schema["properties"]["order"]["properties"]["items"]["items"]["properties"]["qty"] == {
        "type": "integer"
    }
    assert schema["properties"]["at"]["format"] == "date"
    assert (sample["rate"], sample["state"], sample["vip"], sample["at"]) == (0.2, "paid", True, "2026-03-14")
    assert sample["order"]["url"].startswith("https://example.com/")
    assert len(sample["order"]["items"]) == 2


ORDER = """<!DOCTYPE html>\r
<html lang="en"><head><title>Order {{order.number}} &amp; thanks</title>\r
<link rel="stylesheet" href="order.css">\r
</head><body>\r
<p CLASS=a>Hi {{customer.firstName}}, &nbsp;<br>\r
{{#each order.items}}<li>{{name}} {{formatCurrency price "EUR"}}</li>{{/each}}\r
<a href="{{order.url}}">See</a></p></body></html>\r
"""


def imported(tmp_path: Path, **files: str) -> tuple[Imported, Path]:
    for name, text in files.items():
        file = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    out = tmp_path / "out"
    pages = [file for file in tmp_path.iterdir() if file.is_file() and file.suffix not in (".css", ".txt")]
    source = (
        pages[0]
        if len(pages) == 1 and not [each for each in tmp_path.iterdir() if each.is_dir()]
        else tmp_path
    )
    return import_design(ImportOptions(source, out)), out


def test_a_page_becomes_a_template_that_passes(tmp_path: Path) -> None:
    done, out = imported(
        tmp_path,
        order_DOT_hbs=ORDER,
        order_DOT_css=".a { color: #333 }\n",
        order_DOT_txt="Order {{order.number}}\n",
    )
    assert not done.lost
    spec = yaml.safe_load((out / "order.yaml").read_text())["spec"]
    assert spec["subject"] == "Order {{order.number}} & thanks"
    assert (spec["htmlFile"], spec["textFile"]) == ("order.html", "order.txt")
    assert (out / "order.css").read_text() == ".a { color: #333 }\n"
    page = ORDER
    for old, new in {
        '<link rel="stylesheet" href="order.css">': "{# order.css is in cssFile #}",
        "{{#each order.items}}": "{% for item in order.items %}",
        "{{name}}": "{{ item.name }}",
        '{{formatCurrency price "EUR"}}': "{{ item.price|money('EUR') }}",
        "{{/each}}": "{% endfor %}",
    }.items():
        page = page.replace(old, new)
    assert (out / "order.html").read_bytes().decode() == page
    manifest_set = read_manifest_folder(out)
    assert [str(each) for each in manifest_set.errors] == []
    (proof,) = [
        proof for key, proof in manifest_set.validation.results.items() if key.kind == "EmailTemplate"
    ]
    assert "€24.90" in proof.samples[0].rendered.html


def test_a_page_in_mjml_keeps_its_format(tmp_path: Path) -> None:
    page = "<mjml><mj-head><mj-title>Hi {{name}}</mj-title></mj-head><mj-body><mj-section><mj-column>"
    page += "{{#if a}}<mj-text font-family='Arial'>{{name}}</mj-text>{{/if}}"
    page += "</mj-column></mj-section></mj-body></mjml>"
    done, out = imported(tmp_path, hello_DOT_mjml=page)
    spec = yaml.safe_load((out / "hello.yaml").read_text())["spec"]
    assert (spec["format"], spec["htmlFile"], spec["subject"]) == ("MJML", "hello.mjml", "Hi {{name}}")
    assert not done.lost


def test_pages_of_a_folder_share_their_partials(tmp_path: Path) -> None:
    done, out = imported(
        tmp_path,
        a_DOT_hbs="<html lang='en'><title>A</title><body>{{> foot}}{{#if x}}x{{/if}}</body></html>",
        b_DOT_hbs="<html lang='en'><head><title>B</title></head><body>{{> foot}}{{> lost}}</body></html>",
        partials__foot_DOT_hbs="<p>{{company}}{{> deep}}</p>",
        partials__deep_DOT_hbs="<i>{{year}}</i>",
        partials__other_DOT_hbs="<i>no letter asks for it</i>",
    )
    layout = yaml.safe_load((out / "shared-layout.yaml").read_text())
    assert [each["name"] for each in layout["spec"]["partials"]] == ["foot", "deep"]
    assert [str(each.note.construct) for each in done.findings if each.note.lost] == ['include "lost"']
    (out / "b.yaml").unlink()
    assert [str(each) for each in read_manifest_folder(out).errors] == []
    spec = yaml.safe_load((out / "a.yaml").read_text())["spec"]
    assert {"company", "year"} <= set(spec["variables"]["properties"])


def test_a_part_that_mjml_includes_becomes_a_partial(tmp_path: Path) -> None:
    column = "<mj-section><mj-column><mj-text>{{#if a}}A{{/if}}</mj-text></mj-column></mj-section>"
    done, out = imported(
        tmp_path,
        order_DOT_mjml=f"<mjml><mj-body><mj-include path='./partials/top.mjml' />{column}</mj-body></mjml>",
        partials__top_DOT_mjml=column,
    )
    assert not done.lost
    for manifest in ("order", "shared-layout"):
        file = out / f"{manifest}.yaml"
        file.write_text(file.read_text().replace("format: MJML", "format: MJML\n  mjml: {webFonts: Omit}"))
    assert [str(each) for each in read_manifest_folder(out).errors] == []


def test_a_base_that_pages_extend_becomes_their_layout(tmp_path: Path) -> None:
    done, out = imported(
        tmp_path,
        base_DOT_html="<html lang='en'><title>x</title><body>{% block content %}{% endblock %}</body></html>",
        note_DOT_html="{% extends 'base.html' %}\n{% block content %}{{ n|default:'you' }}{% endblock %}",
    )
    assert not done.lost
    assert yaml.safe_load((out / "note.yaml").read_text())["spec"]["layoutRef"] == {"name": "base"}
    assert [str(each) for each in read_manifest_folder(out).errors] == []
    assert not (out / "base.yaml").exists()


def test_images_and_sheets_that_no_client_reaches_are_findings(tmp_path: Path) -> None:
    page = "<title>T</title>\n<img src='a/b.png'>\n<img src='https://x/y.png'>"
    page += "<img src='cid:z'><img src='{{u}}'>\n"
    page += "<link rel=stylesheet href='https://x.example/a.css'>\n<link rel='stylesheet' href='../x.css'>"
    done, _ = imported(tmp_path, p_DOT_html=page)
    assert [each.note.line for each in done.findings if each.note.lost] == [2, 4, 5]


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    page.write_text("<title>T</title>x")
    with pytest.raises(UserError, match=r"p\.html is there already"):
        import_design(ImportOptions(page, tmp_path))
    import_design(ImportOptions(page, tmp_path, force=True))
    assert (tmp_path / "p.yaml").exists()
    with pytest.raises(UserError, match="There is no page"):
        import_design(ImportOptions(tmp_path / "no.html", tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no page"):
        import_design(ImportOptions(tmp_path / "empty", tmp_path))


def test_a_page_in_another_encoding_is_read_and_noted(tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    page.write_bytes("<title>é</title>".encode("cp1252"))
    done = import_design(ImportOptions(page, tmp_path / "out"))
    assert (tmp_path / "out" / "p.html").read_text() == "<title>é</title>"
    assert [each.note.construct for each in done.findings] == ["encoding"]


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    page = tmp_path / "welcome.erb"
    page.write_text(
        "<html lang='en'><head><title>Hi</title></head><body><p>Hi <%= @name %></p></body></html>"
    )
    options = ["--to", str(tmp_path / "out"), "--event-type", "user.welcomed", "--subject", "Hello <%= %>"]
    result = CliRunner().invoke(app, ["import", str(page), *options, "--name", "hello"])
    assert result.exit_code == 0, result.output
    assert "welcome.erb: read as erb" in result.output
    spec = yaml.safe_load((tmp_path / "out" / "hello.yaml").read_text())["spec"]
    assert (spec["eventTypes"], spec["subject"]) == (["user.welcomed"], "Hello <%= %>")
    page.write_text("<html lang='en'><title>Hi</title><%= system('x') + 1 %></html>")
    result = CliRunner().invoke(app, ["import", str(page), *options, "--force"])
    assert result.exit_code == 1
    assert "welcome.erb:1: <%= system('x') + 1 %>: write the value as" in result.output
