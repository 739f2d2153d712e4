"""The pages work without a script, show nothing as markup that is not theirs, and answer no foreign page."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from postroom.local.studio.pages import VIEWS
from tests.local.studio.conftest import ORDER, Ask, Folder

PAGE = "/templates/default/order"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</textarea><script>alert(1)</script>",
    "javascript:alert(1)",
]


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def visible(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def sent(page: str) -> dict[str, list[str]]:
    """What a browser sends of the data form."""
    form: dict[str, list[str]] = {}
    text = page[page.index('id="form"') : page.index('id="beside"')]
    for attributes in Elements(text).named("input"):
        form.setdefault(str(attributes["name"]), []).append(attributes.get("value") or "")
    for name, value in re.findall(r'<textarea[^>]* name="([^"]+)"[^>]*>\n(.*?)</textarea>', text, re.DOTALL):
        form.setdefault(name, []).append(value)
    return form


def test_the_list_says_state_locales_samples_size_event_types_and_layout(ask: Ask) -> None:
    page = visible(ask("GET", "/templates").text)
    for words in ("order", "Passes", "en, de", "order.paid", "page", "bytes", "1 template"):
        assert words in page


def test_the_list_is_searched(ask: Ask) -> None:
    assert "Nothing matches" in ask("GET", "/templates?q=welcome").text
    assert "/templates/default/order" in ask("GET", "/templates?q=ORD").text


def test_a_folder_without_templates_says_what_to_do(folder: Folder, ask: Ask) -> None:
    (folder.path / "order.yaml").unlink()
    folder.read()
    assert "No templates" in ask("GET", "/templates").text


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_answers(ask: Ask, view: str) -> None:
    answer = ask("GET", f"{PAGE}?view={view}")
    assert answer.status_code == 200
    (current,) = (
        each for each in Elements(answer.text).named("a") if each.get("data-tab") and each.get("aria-current")
    )
    assert current["data-tab"] == view


@pytest.mark.parametrize(
    "query", ["view=x", "width=1", "scheme=x", "sample=x", "draft=x", "outcome=x", "file=../x"]
)
def test_nonsense_in_an_address_shows_the_page_as_always(ask: Ask, query: str) -> None:
    assert ask("GET", f"{PAGE}?{query}").status_code == 200


def test_what_is_not_there_says_so(ask: Ask) -> None:
    answer = ask("GET", "/templates/default/other")
    assert answer.status_code == 404
    assert "There is no template <code>default/other</code>" in answer.text
    assert ask("GET", "/nothing").status_code == 404
    assert ask("GET", "/templates/default/other/frame").status_code == 404


def test_a_frame_runs_and_fetches_nothing(ask: Ask) -> None:
    (frame,) = Elements(ask("GET", PAGE).text).named("iframe")
    assert frame["sandbox"] in ("", None)
    answer = ask("GET", str(frame["src"]))
    policy = answer.headers["content-security-policy"]
    directives = {name: value for name, _, value in (part.partition(" ") for part in policy.split("; "))}
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    assert directives["sandbox"] == ""
    assert directives["style-src"] == "'unsafe-inline'"
    assert "script-src" not in directives
    assert "cdn.example" not in answer.text
    assert "Hello Ada" in answer.text


def test_three_widths_are_three_frames(ask: Ask) -> None:
    assert len(Elements(ask("GET", f"{PAGE}?width=all").text).named("iframe")) == 3


def test_sample_locale_scheme_and_images_reach_the_frame(ask: Ask) -> None:
    (frame,) = Elements(ask("GET", f"{PAGE}?sample=bob&scheme=inverted&images=off").text).named("iframe")
    shown = ask("GET", str(frame["src"])).text
    assert "Hello Bob" in shown
    assert "data:image" not in shown
    assert "#1b1b1b" in shown


def test_a_frames_address_changes_with_its_letter_only(folder: Folder, ask: Ask) -> None:
    def address() -> Any:
        return Elements(ask("GET", PAGE).text).named("iframe")[0]["src"]

    before = address()
    folder.write(order=ORDER.replace("maxLength: 20", "maxLength: 30"))
    assert address() == before
    folder.write(order=ORDER.replace("Hello", "Hi"))
    assert address() != before


def test_pages_allow_no_inline_script_or_style(ask: Ask) -> None:
    for view in VIEWS:
        answer = ask("GET", f"{PAGE}?view={view}")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        page = Elements(answer.text)
        assert page.named("style") == []
        assert [each.get("src") for each in page.named("script")] == ["/studio/studio.js"]
        assert not any("style" in attributes for _, attributes in page.found)


def test_a_foreign_name_and_a_foreign_page_are_refused(ask: Ask) -> None:
    assert ask("GET", PAGE, headers={"host": "evil.example"}).status_code == 421
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert ask("POST", f"{PAGE}/send", headers=headers).status_code == 403
        assert ask("POST", f"{PAGE}/data", headers=headers).status_code == 403


@pytest.mark.parametrize("payload", HOSTILE)
def test_nothing_that_data_or_a_manifest_says_becomes_markup(folder: Folder, ask: Ask, payload: str) -> None:
    quoted = payload.replace("'", "''")
    folder.write(
        order=ORDER.replace('data: {id: "7", name: Ada', f"data: {{id: '{quoted}', name: Ada").replace(
            'note: {type: string, default: ""}',
            f"note: {{type: string, default: '', description: '{quoted}'}}",
        )
    )
    for view in VIEWS:
        page = Elements(ask("GET", f"{PAGE}?view={view}").text)
        assert len(page.named("script")) == 1
        assert page.named("img") == []
        for tag, attributes in page.found:
            assert not any(name.startswith("on") for name in attributes), (tag, attributes)
            assert not (attributes.get("href") or "").startswith("javascript:")


def test_the_form_begins_with_the_sample_and_renders_what_is_typed(ask: Ask) -> None:
    form = sent(ask("GET", f"{PAGE}?view=data").text)
    assert form["/name"] == ["Ada"]
    form["/name"] = ["Grace"]
    answer = ask("POST", f"{PAGE}/data?view=data", data=form)
    assert answer.status_code == 303
    page = ask("GET", answer.headers["location"]).text
    (frame,) = Elements(page).named("iframe")
    assert "Hello Grace" in ask("GET", str(frame["src"])).text
    assert "2 Mug" in ask("GET", str(frame["src"])).text
    assert sent(page)["/name"] == ["Grace"]


def test_a_mistake_stands_at_its_field_and_no_letter_is_shown(ask: Ask) -> None:
    form = sent(ask("GET", f"{PAGE}?view=data").text)
    form["/name"] = ["A name that is longer than allowed"]
    form["/items/0/count"] = ["none"]
    page = ask("GET", ask("POST", f"{PAGE}/data?view=data", data=form).headers["location"]).text
    assert 'id="error:/name"' in page
    assert 'id="error:/items/0/count"' in page
    assert Elements(page).named("iframe") == []
    assert sent(page)["/items/0/count"] == ["none"]


def test_rows_are_added_and_removed_without_a_script(ask: Ask) -> None:
    form = sent(ask("GET", f"{PAGE}?view=data").text)
    page = ask(
        "GET", ask("POST", f"{PAGE}/data?view=data", data={**form, "add": "/items"}).headers["location"]
    ).text
    form = sent(page)
    assert form["rows:/items"] == ["2"]
    form["/items/1/title"] = ["Pot"]
    page = ask(
        "GET", ask("POST", f"{PAGE}/data?view=data", data={**form, "remove": "/items/0"}).headers["location"]
    ).text
    assert sent(page)["/items/0/title"] == ["Pot"]


def test_typed_data_lives_on_when_the_template_changes(folder: Folder, ask: Ask) -> None:
    form = sent(ask("GET", f"{PAGE}?view=data").text)
    form["/name"] = ["Grace"]
    address = ask("POST", f"{PAGE}/data?view=letter", data=form).headers["location"]
    folder.write(order=ORDER.replace("Hello", "Hi"))
    (frame,) = Elements(ask("GET", address).text).named("iframe")
    assert "Hi Grace" in ask("GET", str(frame["src"])).text


def test_a_form_that_is_too_large_is_not_read(ask: Ask) -> None:
    answer = ask("POST", f"{PAGE}/data", content=b"/name=" + b"x" * (3 * 1024 * 1024))
    assert answer.status_code == 303


def test_a_bad_edit_is_reported_and_the_last_good_letter_stays_marked(folder: Folder, ask: Ask) -> None:
    folder.write(order=ORDER.replace("Order {{ id }}", "Order {{ nmbr }}"))
    page = ask("GET", PAGE).text
    assert 'id="behind"' in page
    assert "Last edit refused" in page
    assert "the last good revision" in page
    (frame,) = Elements(page).named("iframe")
    assert "Hello Ada" in ask("GET", str(frame["src"])).text
    source = ask("GET", f"{PAGE}?view=source").text
    assert "<mark>nmbr</mark>" in source
    assert "variable_undeclared" in source


def test_a_template_that_never_passed_has_pages_too(folder: Folder, ask: Ask) -> None:
    folder.write(other=ORDER.replace("name: order}", "name: other}").replace("{{ id }}", "{{ nmbr }}"))
    for view in VIEWS:
        answer = ask("GET", f"/templates/default/other?view={view}")
        assert answer.status_code == 200
        assert "Refused" in answer.text
        assert Elements(answer.text).named("iframe") == []
    assert ask("GET", "/templates/default/other/frame").text == ""


def test_headers_are_those_that_a_worker_writes(ask: Ask) -> None:
    page = visible(ask("GET", f"{PAGE}?view=inbox&sample=bob").text)
    assert "Content-Language de" in page
    assert "To bob@example.org" in page
    assert "From Shop <shop@example.org>" in page.replace("&lt;", "<").replace("&gt;", ">")
    assert "Thank you, Bob." in page


def test_the_proof_names_each_letter_with_its_sizes(ask: Ask) -> None:
    page = visible(ask("GET", f"{PAGE}?view=proof").text)
    assert "Order 7" in page
    assert "Bestellung 8" in page
    assert "No letter is clipped" in page


def test_sending_without_a_live_profile_says_why(ask: Ask) -> None:
    answer = ask("POST", f"{PAGE}/send", data={"recipient": "a@example.org"})
    assert answer.status_code == 303
    assert "there is nothing to send it with" in ask("GET", answer.headers["location"]).text


def test_the_source_shows_the_layout_and_the_html_as_sent(ask: Ask) -> None:
    assert "{% block content %}" in ask("GET", f"{PAGE}?view=source&file=1").text
    assert "Hello Ada" in ask("GET", f"{PAGE}?view=source&file=html").text


@pytest.mark.parametrize(
    "schema",
    [
        "{type: object, properties: {id: 5}}",
        "{type: object, properties: {id: true, name: {type: 7}}}",
        "{type: object, properties: {id: {enum: 5}}, required: 5}",
        "{type: object, properties: {id: {type: array, items: []}}}",
        '{type: object, properties: {id: {$ref: "https://example.org/x"}}}',
        '{type: object, properties: {id: {type: number, minimum: "x", default: {}}}}',
    ],
)
def test_a_faulty_schema_has_a_page_while_it_is_being_written(folder: Folder, ask: Ask, schema: str) -> None:
    head, rest = ORDER.replace("name: order}", "name: other}").split("  variables:\n")
    samples = rest.split("  samples:")[1]
    folder.write(other=f"{head}  variables: {schema}\n  samples:{samples}")
    answer = ask("GET", "/templates/default/other?view=data")
    assert answer.status_code == 200


@pytest.mark.parametrize(("typed", "words"), [("{", "is not JSON"), ("[1]", "is no JSON object"), ("", "")])
def test_all_data_in_one_area_is_kept_as_it_was_typed(
    folder: Folder, ask: Ask, typed: str, words: str
) -> None:
    folder.write(
        order=ORDER.replace(
            "    type: object\n    required: [id", "    type: object\n    allOf: [{}]\n    required: [id"
        )
    )
    page = ask("GET", ask("POST", f"{PAGE}/data?view=data", data={"json:": typed}).headers["location"]).text
    assert words in page
    assert sent(page)["json:"][0].replace("\n", "").replace(" ", "") in (typed, "{}")
