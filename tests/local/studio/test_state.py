"""A save changes what is shown; a bad one changes the findings and leaves the last good letter."""

import asyncio
from pathlib import Path

import pytest

from postroom.letter.problems import Rejected
from postroom.letter.references import ObjectKey
from postroom.letter.validation import validate
from postroom.local.manifests import FolderReader
from postroom.local.studio.state import MOST_DRAFTS, Changes, Draft, ShownTemplate, Studio
from tests.local.manifest_texts import LAYOUT, TEMPLATE
from tests.local.studio.conftest import ORDER, Folder

KEY = ObjectKey("EmailTemplate", "default", "order")


def shown(folder: Folder) -> ShownTemplate:
    return folder.studio.templates[KEY]


def subject(folder: Folder, sample: str = "ada", locale: str | None = None) -> str:
    return folder.studio.render(KEY, shown(folder).sample(sample), locale).subject


def test_a_template_renders_for_every_sample_and_locale(folder: Folder) -> None:
    assert subject(folder) == "Order 7"
    assert subject(folder, "bob") == "Bestellung 8"
    assert subject(folder, "bob", "en") == "Order 8"
    assert shown(folder).locales == ("en", "de")


def test_a_good_edit_is_shown(folder: Folder) -> None:
    version = folder.studio.changes.version
    folder.write(order=ORDER.replace('"Order {{', '"Your order {{'))
    assert subject(folder) == "Your order 7"
    assert folder.studio.changes.version == version + 1


def test_a_bad_edit_shows_its_finding_and_the_last_good_letter(folder: Folder) -> None:
    before = shown(folder).compiled
    folder.write(order=ORDER.replace("Order {{ id }}", "Order {{ nmbr }}"))
    assert [finding.rule for finding in shown(folder).errors] == ["variable_undeclared"]
    assert shown(folder).is_behind
    assert shown(folder).compiled is before
    assert subject(folder) == "Order 7"
    folder.write(order=ORDER)
    assert not shown(folder).is_behind
    assert not shown(folder).findings


def test_a_bad_edit_of_the_samples_leaves_those_that_made_the_last_good_letter(folder: Folder) -> None:
    folder.write(order=ORDER.replace('id: "7", name: Ada', 'id: "7", name: 5'))
    assert subject(folder) == "Order 7"


def test_a_file_that_is_no_yaml_leaves_its_template(folder: Folder) -> None:
    folder.write(order=ORDER.replace("metadata:", "metadata: ["))
    assert shown(folder).is_behind
    assert shown(folder).errors
    assert subject(folder) == "Order 7"


def test_a_finding_in_the_layout_is_the_templates_too(folder: Folder) -> None:
    folder.write(page=LAYOUT.replace("{% block content %}", "{{ nothing }}{% block content %}"))
    assert any(finding.file.endswith("page.yaml") for finding in shown(folder).errors)
    assert shown(folder).is_behind


def test_a_template_that_never_passed_has_no_letter(folder: Folder) -> None:
    folder.write(welcome=TEMPLATE.replace("{{ name }}", "{{ nmae }}"))
    found = folder.studio.templates[ObjectKey("EmailTemplate", "default", "welcome")]
    assert found.compiled is None
    assert not found.is_behind
    assert found.errors


def test_a_good_revision_of_an_earlier_run_is_shown_until_an_edit_passes(folder: Folder) -> None:
    compiled = shown(folder).compiled
    assert compiled
    bad = folder.path / "order.yaml"
    bad.write_text(ORDER.replace("Order {{ id }}", "Order {{ nmbr }}"))
    studio = Studio()
    studio.update(FolderReader(folder.path).read())
    assert studio.templates[KEY].compiled is None
    studio.hold([compiled])
    assert studio.templates[KEY].is_behind
    assert studio.render(KEY, studio.templates[KEY].sample("ada"), None).subject == "Order 7"


def test_a_manifest_that_cannot_be_read_and_never_could_is_reported(folder: Folder) -> None:
    folder.write(
        other="apiVersion: postroom.dev/v1alpha1\nkind: EmailTemplate\nmetadata: {name: x}\nspec: {}\n"
    )
    assert all(finding.file.endswith("other.yaml") for finding in folder.studio.unread)
    assert folder.studio.unread


def test_a_template_that_is_gone_is_not_shown(folder: Folder) -> None:
    (folder.path / "order.yaml").unlink()
    folder.read()
    assert KEY not in folder.studio.templates


def test_the_viewed_template_is_shown_before_the_others_are_proved(folder: Folder) -> None:
    reader = FolderReader(folder.path)
    reader.read()
    (folder.path / "page.yaml").write_text(LAYOUT.replace("<title>Shop", "<title>Store"))
    order: list[str] = []
    reader.read(KEY, lambda source, made: order.append(f"{source.metadata.name} {made.passed}"))
    assert order == ["order True"]


def test_an_early_proof_is_shown_when_it_passed_and_only_then(folder: Folder) -> None:
    reader = FolderReader(folder.path)
    for text, expected in (("Hi {{ id }}", "Hi 7"), ("Hi {{ nmbr }}", "Hi 7")):
        (folder.path / "order.yaml").write_text(ORDER.replace("Order {{ id }}", text))
        reader.read(KEY, folder.studio.update_one)
        assert subject(folder) == expected


def test_data_that_breaks_the_schema_is_rejected_by_the_workers_rule(folder: Folder) -> None:
    sample = shown(folder).sample("ada").model_copy(update={"data": {"id": "1"}})
    with pytest.raises(Rejected) as refused:
        folder.studio.render(KEY, sample, None)
    assert refused.value.problems[0].field == "data.name"


def test_drafts_are_kept_for_their_template_and_the_oldest_goes(folder: Folder) -> None:
    studio = folder.studio
    names = [studio.keep(Draft(KEY, "ada", {"n": n})) for n in range(MOST_DRAFTS + 1)]
    assert studio.draft(names[0], KEY) is None
    assert studio.draft(names[-1], KEY) == Draft(KEY, "ada", {"n": MOST_DRAFTS})
    assert studio.draft(names[-1], ObjectKey("EmailTemplate", "default", "other")) is None


def test_a_waiting_request_gets_the_next_change_and_the_end() -> None:
    async def story() -> None:
        changes = Changes()
        waiting = asyncio.create_task(changes.after(0, 5))
        await asyncio.sleep(0)
        changes.bump()
        assert await waiting == 1
        assert await changes.after(0, 5) == 1
        ending = asyncio.create_task(changes.after(1, 5))
        await asyncio.sleep(0)
        changes.close()
        assert await ending == 1
        assert await changes.after(1, 0.001) == 1

    asyncio.run(story())


def test_only_what_changed_is_proved_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.path / "welcome.yaml").write_text(TEMPLATE)
    proved: list[str] = []
    prove = validate.validate_template

    def counted(template, *rest):  # type: ignore[no-untyped-def]
        proved.append(template.metadata.name)
        return prove(template, *rest)

    monkeypatch.setattr("postroom.letter.validation.validate.validate_template", counted)
    reader = FolderReader(folder.path)
    for change, expected in (
        (None, ["order", "welcome"]),
        (None, []),
        (("welcome.yaml", TEMPLATE.replace("Hello", "Hi")), ["welcome"]),
        (("page.yaml", LAYOUT.replace("<title>Shop", "<title>Store")), ["order"]),
        (("welcome.yaml", TEMPLATE.replace("name: Ada", "name: true")), ["welcome"]),
    ):
        if change:
            (folder.path / change[0]).write_text(change[1])
        proved.clear()
        reader.read()
        assert proved == expected


def test_a_reader_says_the_same_as_a_first_reading(folder: Folder, tmp_path: Path) -> None:
    del tmp_path
    reader = FolderReader(folder.path)
    for text in (ORDER, ORDER.replace("{{ id }}", "{{ nmbr }}"), "apiVersion: [", ORDER):
        (folder.path / "order.yaml").write_text(text)
        assert reader.read() == FolderReader(folder.path).read()


def test_a_file_beside_the_manifest_is_followed_and_shown(folder: Folder) -> None:
    head, rest = ORDER.split("  html: |\n")
    html, tail = rest.split("  locales:")
    page = folder.path / "order.html"
    page.write_text(html)
    folder.write(order=f"{head}  htmlFile: order.html\n  locales:{tail}")
    assert [Path(file).name for file in shown(folder).files] == ["order.yaml", "order.html", "page.yaml"]
    assert page in FolderReader(folder.path).read().referenced_files
    before = shown(folder).compiled
    page.write_text(html.replace("Hello", "Howdy"))  # as long as before
    folder.read()
    assert shown(folder).compiled != before
    page.write_text(html.replace("{{ name }}", "{{ nmae }}"))
    folder.read()
    assert [Path(finding.file).name for finding in shown(folder).errors] == ["order.html"]
    page.unlink()
    folder.read()
    assert shown(folder).is_behind
    assert "order.html" in shown(folder).errors[0].message
    page.write_text(html)
    folder.read()
    assert not shown(folder).errors
