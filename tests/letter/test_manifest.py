"""Manifests: read as kubectl reads them, with the line of each problem."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.manifest import LocatedObject, read_manifests
from postroom.letter.problems import Code, Problem
from postroom.letter.profile import SmtpProfile
from postroom.letter.template import EmailTemplate, EmailTemplateSpec
from postroom.letter.yaml_positions import yaml_documents

EXAMPLES = sorted((Path(__file__).parents[2] / "manifests" / "examples").rglob("*.yaml"))
WELCOME = """\
# the first letter a customer gets
apiVersion: postroom.dev/v1alpha1
kind: EmailTemplate
metadata:
  name: welcome
spec:
  smtpProfileRef: {name: shop}
  eventTypes:
    - shop.user.welcomed
  subject: Welcome, {{ name }}
  html: |  # shown first
    <p>Hello {{ name }}</p>

    <p>Your shop</p>
  text: >
    Hello
    {{ name }},

    your shop
      with lines
      of its own
    at the end
  samples:
    - name: ada
      data: {name: Ada, zip: "01234"}
"""
HEAD = "apiVersion: postroom.dev/v1alpha1\nkind: SmtpProfile\nmetadata:\n  name: shop\n"
PROFILE = HEAD + "spec:\n  from: {address: post@larkfield.example}\n"


def only(text: str) -> LocatedObject:
    (located,) = read_manifests(text, "welcome.yaml")
    return located


def places(text: str) -> list[tuple[str, Code, str]]:
    found = ((located, problem) for located in read_manifests(text, "a.yaml") for problem in located.problems)
    return [(located.location(problem), problem.code, problem.field) for located, problem in found]


# --- what is read --------------------------------------------------------------------------------


def test_a_template_becomes_its_model() -> None:
    located = only(WELCOME)
    assert isinstance(located.object, EmailTemplate)
    assert located.object.spec.samples[0].data == {"name": "Ada", "zip": "01234"}
    assert (located.kind, located.name, located.problems, located.skipped) == (
        "EmailTemplate",
        "welcome",
        (),
        None,
    )


def test_several_documents_are_read_without_empty_ones() -> None:
    found = list(read_manifests(f"---\n{WELCOME}---\n# nothing\n---\n{PROFILE}", "all.yaml"))
    assert [type(located.object) for located in found] == [EmailTemplate, SmtpProfile]
    assert [located.first for located in found] == [3, 30]


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n", "---\n---\nnull\n"])
def test_a_text_without_objects_has_none(text: str) -> None:
    assert list(read_manifests(text, "a.yaml")) == []


def test_json_is_read_too() -> None:
    text = '{"apiVersion": "postroom.dev/v1alpha1", "kind": "SmtpProfile",\n'
    text += '"metadata": {"name": "shop"}, "spec": {"from": {"address": "a@x.org"}}}'
    assert isinstance(only(text).object, SmtpProfile)


def test_objects_of_other_groups_are_skipped_with_a_reason() -> None:
    located = only("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
    assert (located.object, located.problems, located.skipped) == (
        None,
        (),
        "ConfigMap of v1 is not Postroom's",
    )


def test_the_items_of_a_list_are_objects_with_their_own_lines() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n"
    text += "- apiVersion: postroom.dev/v1alpha1\n  kind: SmtpProfile\n  metadata: {name: shop}\n"
    text += "  spec:\n    from: {address: a@x.org}\n    mode: smtp\n"
    assert places(text) == [("a.yaml:11", Code.MANIFEST_INVALID, "spec.mode")]
    assert [located.first for located in read_manifests(text, "a.yaml")] == [4, 6]


def test_anchors_and_merge_keys_work_as_for_kubectl() -> None:
    text = "base: &base {a: 1, b: [x]}\nother:\n  <<: *base\n  a: 2\n"
    (document,) = yaml_documents(text)
    assert document.value["other"] == {"a": 2, "b": ["x"]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("12:30", "12:30"),
        ("2026-11-23", "2026-11-23"),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ('"yes"', "yes"),
        ("!!str 5", "5"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_plain_words_mean_what_they_mean_in_a_cluster(text: str, value: Any) -> None:
    (document,) = yaml_documents(f"a: {text}\n")
    assert document.value == {"a": value}


# --- where things are ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "within", "line"),
    [
        ("spec.subject", None, 10),
        ("spec.subject", 1, 10),
        ("spec.eventTypes[0]", None, 9),
        ("spec.html", None, 11),
        ("spec.html", 1, 12),
        ("spec.html", 3, 14),
        ("spec.html", 99, 14),
        ("spec.text", 1, 16),
        ("spec.text", 2, 19),
        ("spec.text", 3, 20),
        ("spec.text", 4, 21),
        ("spec.text", 5, 22),
        ("spec.samples[0].data.zip", None, 25),
        ("spec.samples[0].recipient", None, 24),
        ("spec.layoutRef.name", None, 6),
        ("spec.locales[3].html", 7, 6),
        ("nothing", None, 2),
        ("", None, 2),
    ],
)
def test_a_field_and_a_line_of_its_text_are_found_in_the_file(
    field: str, within: int | None, line: int
) -> None:
    assert only(WELCOME).line(field, within) == line


def test_a_problem_of_validation_has_its_line_in_the_file() -> None:
    problem = Problem(Code.TEMPLATE_SYNTAX, "spec.html", "unexpected end", line=3)
    assert only(WELCOME).location(problem) == "welcome.yaml:14"


lines_of_text = st.lists(st.sampled_from(["a", "b c", "  d", "", "<p>", "# e"]), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(lines_of_text, st.sampled_from("|>"))
def test_every_line_of_a_block_is_found_in_the_file(lines: list[str], style: str) -> None:
    text = f"k: {style}2-\n" + "".join(f"  {line}\n" for line in lines)
    (document,) = yaml_documents(text)
    source = text.splitlines()
    for number, line in enumerate(document.value["k"].splitlines(), start=1):
        found = source[document.line("k", number) - 1].strip()
        assert not line.strip() or (found and line.strip().startswith(found))


def test_a_line_of_a_quoted_text_over_several_lines_is_found() -> None:
    (document,) = yaml_documents("a: 'one\n\n  two\n  more\n\n\n  four'\nb: plain\n\n  second\n")
    assert [document.line("a", number) for number in (1, 2, 4)] == [1, 3, 7]
    assert [document.line("b", number) for number in (1, 2)] == [8, 10]


# --- what is refused -----------------------------------------------------------------------------


def test_an_unknown_field_has_its_line_and_the_nearest_name() -> None:
    located = only(WELCOME.replace("subject:", "subjet:"))
    assert [located.location(problem) for problem in located.problems] == ["welcome.yaml:10"]
    assert "did you mean subject?" in located.problems[0].message


def test_a_required_field_is_missing_when_nothing_resembles_it() -> None:
    located = only(WELCOME.replace("subject:", "zzz:"))
    assert [problem.code for problem in located.problems] == [Code.FIELD_MISSING, Code.FIELD_UNKNOWN]


def test_snake_case_is_rejected_as_by_the_api_server() -> None:
    found = only(WELCOME.replace("eventTypes:", "event_types:"))
    assert "did you mean eventTypes?" in str(found.problems)


def test_problems_come_in_the_order_of_the_file() -> None:
    text = PROFILE + "  mode: smtp\n  suspend: 5\n  limits: {connections: 0}\n"
    assert [place for place, _, _ in places(text)] == ["a.yaml:7", "a.yaml:8", "a.yaml:9"]


def test_a_secret_reference_has_no_namespace() -> None:
    text = (
        PROFILE
        + "  smtp:\n    host: relay\n    auth:\n      secretRef:\n        name: s\n        namespace: other\n"
    )
    assert places(text) == [("a.yaml:12", Code.FIELD_UNKNOWN, "spec.smtp.auth.secretRef.namespace")]


@pytest.mark.parametrize(
    ("head", "field", "words"),
    [
        ("apiVersion: postroom.dev/v1\nkind: SmtpProfile\n", "apiVersion", "write postroom.dev/v1alpha1"),
        (
            "apiVersion: postrom.dev/v1alpha1\nkind: SmtpProfile\n",
            "apiVersion",
            "write postroom.dev/v1alpha1",
        ),
        ("kind: SmtpProfile\n", "apiVersion", "is required"),
        ("apiVersion: postroom.dev/v1alpha1\nkind: SmtpProfil\n", "kind", "did you mean SmtpProfile?"),
        ("apiVersion: postroom.dev/v1alpha1\n", "kind", "is not a kind"),
        ("apiVersion: v1\n", "kind", "is required"),
        ("metadata: {}\n", "apiVersion", "is required"),
    ],
)
def test_a_wrong_version_or_kind_is_explained(head: str, field: str, words: str) -> None:
    (problem,) = only(head).problems
    assert problem.field == field
    assert words in problem.message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "'a' occurs twice"),
        ("a:\n  b: 1\n  b: 2\n", 3, "'b' occurs twice"),
        ("a: 1\n b: 2\n", 2, "is not YAML"),
        ("a: [1\nb: 2\n", 2, "is not YAML"),
        ("a: 1\n\tb: 2\n", 2, "is not YAML"),
        ("subject: {{ name }}\n", 1, "put a template expression in quotes"),
        ("subject: {{ name }}, hello\n", 1, "a text that begins with { needs quotes"),
        ("a:\n  - {{ name }} and {{ other }}\n", 2, "a text that begins with { needs quotes"),
        ("subject: {% if a %}\n", 1, "needs quotes"),
        ("subject: Welcome: {{ name }}\n", 1, "put a text with a colon in quotes"),
        ("a: 'x\n", 2, "is not YAML"),
        ("a: \x00\n", 1, "U+0000"),
        ("a: \ud800\n", 1, "half a surrogate pair"),
        ("a: *b\n", 1, "no finished anchor &b"),
        ("a: &a [*a]\n", 1, "no finished anchor &a"),
        ("zip: 01234\n", 1, "octal"),
        ("a: .nan\n", 1, "no number that JSON can hold"),
        ("a: 1e999\n", 1, "no number that JSON can hold"),
        ("on: 1\n", 1, "put it in quotes"),
        ("1.5: 1\n", 1, "put it in quotes"),
        ("a: !!python/object/apply:os.system [x]\n", 1, "!!python/object/apply:os.system is not allowed"),
        ("a: !!binary aGk=\n", 1, "!!binary is not allowed"),
        ("- " * 100, 1, "deeper than 64"),
        ("[" * 100_000, 1, "brackets are open"),
        ("- 1\n", 1, "is not an object"),
        ("just text\n", 1, "is not an object"),
    ],
)
def test_a_text_that_is_not_a_manifest_is_one_problem_with_its_line(text: str, line: int, words: str) -> None:
    located = only(text)
    (problem,) = located.problems
    assert located.location(problem) == f"welcome.yaml:{line}"
    assert words in problem.message


def test_aliases_cannot_expand_without_limit() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 7))
    assert "aliases count" in only(text).problems[0].message


def test_objects_before_a_broken_document_are_still_read() -> None:
    found = list(read_manifests(f"{PROFILE}---\na: [\n", "a.yaml"))
    assert isinstance(found[0].object, SmtpProfile)
    assert found[1].problems[0].code is Code.MANIFEST_INVALID


def test_an_object_over_a_mebibyte_is_too_large() -> None:
    locale = "    - tag: {}\n      html: {}\n"
    text = (
        WELCOME
        + "  locales:\n"
        + "".join(locale.format(tag, "x" * 260_000) for tag in ("de", "fr", "it", "es", "pt"))
    )
    assert places(text) == [("a.yaml:6", Code.TOO_LARGE, "spec")]


@settings(max_examples=40, deadline=None)
@given(st.text("ab:-[]{}&*!|>#'\" \n?,0", max_size=30))
def test_no_text_raises_an_exception(text: str) -> None:
    assert all(located.problems or located.skipped for located in read_manifests(text, "a.yaml"))


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 70_000) | st.sampled_from(["", "a", "5m", "a@x.org", "en"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)
fields = [info.alias or name for name, info in EmailTemplateSpec.model_fields.items()]


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(fields), anything, max_size=6))
def test_no_object_raises_an_exception(spec: dict[str, Any]) -> None:
    head = {"apiVersion": "postroom.dev/v1alpha1", "kind": "EmailTemplate", "metadata": {"name": "a"}}
    located = only(json.dumps(head | {"spec": spec}))
    assert located.problems
    assert all(located.location(problem) == "welcome.yaml:1" for problem in located.problems)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_shipped_example_is_accepted(path: Path) -> None:
    assert all(located.object for located in read_manifests(path.read_text(), path.name))
