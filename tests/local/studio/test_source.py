"""Lines carry their findings and the words at fault."""

from postroom.local.manifests import Finding
from postroom.local.studio.source import lines_of

TEXT = "spec:\n  subject: Hello {{ nmae }}\n- html: x\n"


def at(line: int, message: str) -> Finding:
    return Finding("a.yaml", line, "variable_undeclared", message)


def test_lines_are_numbered_and_whole() -> None:
    lines = lines_of(TEXT)
    assert [each.number for each in lines] == [1, 2, 3]
    rebuilt = [each.indent + each.key + each.before + each.marked + each.after for each in lines]
    assert rebuilt == TEXT.splitlines()


def test_a_finding_stands_at_its_line_and_marks_the_words_that_it_quotes() -> None:
    finding = at(2, "spec.subject `nmae` is not declared; did you mean `name`?")
    _, line, _ = lines_of(TEXT, [finding])
    assert line.findings == (finding,)
    assert (line.key, line.marked, line.after) == ("subject:", "nmae", " }}")


def test_a_finding_about_the_key_itself_marks_the_key() -> None:
    line = lines_of("  sbject: x", [at(1, "`sbject` is no field")])[0]
    assert line.indent + line.key + line.before == "  "
    assert line.marked == "sbject"


def test_a_finding_that_quotes_nothing_on_the_line_marks_nothing() -> None:
    line = lines_of("a: b", [at(1, "is wrong")])[0]
    assert (line.marked, len(line.findings)) == ("", 1)


def test_an_empty_file_has_one_line() -> None:
    assert len(lines_of("")) == 1
