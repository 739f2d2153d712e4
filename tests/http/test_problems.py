"""Problem documents: the pointer to a field, and the title of a status."""

import pytest

from postroom.http.problems import HttpProblem, json_pointer


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("$", ""),
        ("$.data.name", "/data/name"),
        ("data.first_name", "/data/first_name"),
        ("data.items[2].name", "/data/items/2/name"),
        ("attachments[0].content", "/attachments/0/content"),
        ("data.a/b~c", "/data/a~1b~0c"),
    ],
)
def test_a_field_becomes_a_json_pointer(field: str, expected: str) -> None:
    assert json_pointer(field) == expected


@pytest.mark.parametrize(
    ("status", "title"), [(404, "Not Found"), (413, "Content Too Large"), (422, "Unprocessable Content")]
)
def test_the_title_is_the_phrase_of_rfc_9110(status: int, title: str) -> None:
    assert HttpProblem(status, "detail").title == title
