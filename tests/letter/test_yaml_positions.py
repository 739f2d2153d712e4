"""The line and columns of a problem are those of its text in the file, in each form of YAML scalar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.letter.language.environment import HTML, TEXT, Script
from postroom.letter.language.pieces import join, split
from postroom.letter.manifest import read_manifests
from postroom.letter.problems import Code, Position, Problem, Rejected, advance_position
from postroom.letter.validation.validate import validate_manifests
from postroom.letter.yaml_positions import yaml_documents
from tests.letter.factories import layout, problem_of, validated

WORDS = [
    "a: |\n  w1 w2\n\n    w3\n  w4\n",
    "a: |2\n    w1\n  w2\n",
    "a: |-\n\n  w1\n  w2",
    "a: >\n  w1 w2\n  w3\n\n  w4\n    w5\n    w6\n  w7\n",
    "a: 'w1 it''s w2\n  w3\n\n  w4''w5'\n",
    'a: "w1 \\"w2\\" \\n w3 \\u00e9w4 \\x41w5 \\\n   w6\n  w7\n\n  w8"\n',
    "a: w1 w2\n  w3\n\n  w4 w5\n",
    '{"a": "w1\\nw2 \\u2014 w3\\tw4", "b": 1}',
    "a: &x 'w1 w2'\n",
    "a: é𝄞 w1\n",
]


@pytest.mark.parametrize("text", WORDS)
def test_a_word_of_a_scalar_has_its_position_in_the_file(text: str) -> None:
    (document,) = yaml_documents(text)
    value = document.value["a"]
    for number in range(1, 9):
        word = f"w{number}"
        if word not in value:
            continue
        line = value.count("\n", 0, value.index(word)) + 1
        column = value.index(word) - value.rfind("\n", 0, value.index(word))
        stretch = document.text_range("a", line, column, len(word))
        assert document.lines[stretch.line - 1][stretch.column - 1 : stretch.end - 1] == word


def test_a_key_and_a_value_have_their_own_columns() -> None:
    (document,) = yaml_documents("spec:\n  subject: Hello  # a comment\n  html: |\n    x\n  list: [a, bc]\n")
    key, value = document.key_range("spec.subject"), document.value_range("spec.subject")
    assert (key.line, key.column, key.end) == (2, 3, 10)
    assert (value.line, value.column, value.end) == (2, 12, 17)
    assert document.value_range("spec.html") == document.key_range("spec.html")  # a block has no one line
    assert document.key_range("spec.absent") == document.key_range("spec")
    item = document.value_range("spec.list[1]")
    assert (item.column, item.end) == (13, 15)


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ("é <b>{{ name }}</b> {{ nmae }}", "nmae"),
        ("{{ letter.recipeint }}", "recipeint"),
        ("{{ name|center(9) }}", "center"),
        ("{{ name }}\n  {{ name|safe }}", "safe"),
        ("{{ ''.__class__ }}", "__class__"),
        ("a {{ name ! }}", "!"),
        ("a {{ name b }}", "{{ name b }}"),
        ("a\n {%- endfor %}", "endfor"),
        ("{{ name }}{# a", "{#"),
        ("{% if name %}{% for a in name %}{{ a }}{% endfor %}", "if"),
        ("x {{ name", "{{"),
        ("{{ (name] }}", "]"),
        ("<p title={{ name }}>x</p>", "{{ name }}"),
    ],
)
def test_a_problem_of_a_template_has_line_and_columns(html: str, words: str) -> None:
    problem = problem_of(html)
    assert problem.line is not None
    assert problem.column is not None
    line = html.split("\n")[problem.line - 1]
    assert line[problem.column - 1 :].startswith(words)
    assert problem.length in (len(words), 1)


def test_a_problem_in_css_has_its_column() -> None:
    (problem,) = validated("<p>{{ name }}</p>", css="p { color: red }\n  b:: { color: red }").warnings
    assert (problem.line, problem.column) == (2, 3)


def test_a_problem_in_a_filled_layout_has_the_column_of_its_source() -> None:
    page = layout("<p>a</p>{% block content %}{% endblock %}<i>{{ letter.locale }}</i>{{ letter.no }}")
    problem = problem_of("{{ name }}", page=page)
    assert (problem.field, problem.line, problem.column) == ("EmailLayout/page.spec.html", 1, 78)
    problem = problem_of("{{ name }}{{ nam }}", page=layout(page.spec.html.replace("letter.no", "name")))
    assert (problem.field, problem.line, problem.column) == ("spec.html", 1, 14)


@given(
    st.lists(st.sampled_from(["<p>", "é", " ", "\n", "{{ a }}", "{%- if a %}", "{% endif -%}", "{# c\n #}"]))
)
def test_every_piece_of_an_assembled_page_is_at_its_span(parts: list[str]) -> None:
    source = "".join(parts)
    try:
        pieces = split(source, "spec.html")
    except Rejected:
        return
    page = join(pieces)
    for piece in pieces:
        if piece.text.strip():
            assert isinstance(piece.line, Position)
            line = source.split("\n")[piece.line - 1]
            assert line[piece.line.column - 1 :].startswith(piece.text.partition("\n")[0])
    for offset, character in enumerate(page.text):
        field, number, column = page.place_of(offset)
        assert (field, column is None) == ("spec.html", False)
        if not character.isspace():
            assert source.split("\n")[number - 1][(column or 0) - 1] == character


def test_positions_survive_the_compiler_and_the_advance_of_a_text() -> None:
    assert Script(HTML, "{{ a }}\n{% for b in a %}{{ b }}{% endfor %}", "spec.html").field == "spec.html"
    with pytest.raises(Rejected) as raised:
        Script(TEXT, "a\n{{ a|nothing }}", "spec.text")
    problem = raised.value.problems[0]
    assert (problem.line, problem.column, problem.length) == (2, 6, 7)
    assert type(problem.line) is int
    moved = advance_position(Position(3, 5), "ab")
    assert (int(moved), moved.column if isinstance(moved, Position) else 0) == (3, 7)
    moved = advance_position(Position(3, 5), "a\nbcd")
    assert (int(moved), moved.column if isinstance(moved, Position) else 0) == (4, 4)
    assert advance_position(3, "ab") == 3


TEMPLATE = """\
apiVersion: postroom.dev/v1alpha1
kind: EmailTemplate
metadata: {name: welcome}
spec:
  smtpProfileRef: {name: shop}
  eventTypes: [user.welcomed]
  subject: "Hi {{ \\"a\\" }} {{ nam }}"
  html: |

      <p>
        Hello {{ naem }}</p>
  samples: [{name: ada, data: {}}]
  unknown: 1
"""


def spots(text: str) -> list[tuple[int, str]]:
    found = []
    for located in read_manifests(text, "a.yaml"):
        problems = located.problems
        if located.object is not None:
            problems = next(iter(validate_manifests([located.object]).results.values())).problems
        for problem in problems:
            spot = located.source_range(problem)
            found.append((spot.line, spot.source[spot.column - 1 : spot.end - 1]))
    return found


def test_a_problem_in_a_separate_file_has_its_columns() -> None:
    assert spots(TEMPLATE) == [(13, "unknown")]
    assert spots(TEMPLATE.replace("  unknown: 1\n", "")) == [(5, "shop"), (7, "nam"), (11, "naem")]
    assert spots("a: [\n") == [(2, "")]
    assert spots(TEMPLATE.replace("eventTypes: [user.welcomed]", "eventTypes: []")) == [
        (6, "eventTypes"),
        (13, "unknown"),
    ]
    assert spots(TEMPLATE.replace("kind: EmailTemplate", "kind: EmailTemplat")) == [(2, "EmailTemplat")]


def test_a_problem_without_a_column_gets_that_of_the_name_in_its_message() -> None:
    (located,) = read_manifests(TEMPLATE.replace("  unknown: 1\n", ""), "a.yaml")
    spot = located.source_range(Problem(Code.RENDER_FAILED, "spec.html", "`naem` is not there", 3))
    assert (spot.line, spot.source[spot.column - 1 : spot.end - 1]) == (11, "naem")
    spot = located.source_range(Problem(Code.RENDER_FAILED, "spec.html", "something else", 3))
    assert spot.source[spot.column - 1 : spot.end - 1] == "Hello {{ naem }}</p>"
    spot = located.source_range(Problem(Code.CSS_INVALID, "spec.html", "something else", 3, 5))
    assert spot.source[spot.column - 1 : spot.end - 1] == "llo"
