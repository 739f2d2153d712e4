"""What workers read is replaced in one step, and a bad edit never takes down what was good."""

from pathlib import Path

import pytest
import yaml

from postroom.letter.bundle import unpack_bundle
from postroom.local.bundles import ServedProfile, write_bundles
from postroom.local.manifests import read_manifest_folder
from tests.local.manifest_texts import PROFILE, TEMPLATE, write_manifests


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    write_manifests(folder, profile=PROFILE, welcome=TEMPLATE)
    return folder


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


def write(manifests: Path, bundles: Path) -> list[ServedProfile]:
    manifest_set = read_manifest_folder(manifests)
    return write_bundles(bundles, manifest_set.validation, complete=manifest_set.complete)


def served(bundles: Path, profile_dir: str = "shop") -> list[str]:
    return [each.name for each in unpack_bundle((bundles / profile_dir / "templates.json").read_text())]


def test_a_bundle_has_the_profile_and_its_templates(manifests: Path, bundles: Path) -> None:
    (profile,) = write(manifests, bundles)
    assert (profile.profile_dir, profile.held_back) == ("shop", ())
    assert served(bundles) == ["welcome"]
    manifest = yaml.safe_load((bundles / "shop" / "profile.yaml").read_text())
    assert manifest["spec"]["from"]["address"] == "shop@example.org"


def test_unchanged_files_are_not_rewritten(manifests: Path, bundles: Path) -> None:
    write(manifests, bundles)
    before = (bundles / "shop" / "templates.json").stat()
    write(manifests, bundles)
    assert (bundles / "shop" / "templates.json").stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    "bad", [TEMPLATE.replace("{{ name }}", "{{ nam }}"), "a: [", TEMPLATE.replace("html", "htm")]
)
def test_an_invalid_edit_keeps_the_last_good_revision(manifests: Path, bundles: Path, bad: str) -> None:
    (good,) = write(manifests, bundles)
    write_manifests(manifests, welcome=bad)
    (held,) = write(manifests, bundles)
    assert held.held_back == ("welcome",)
    assert held.templates == good.templates
    write_manifests(manifests, welcome=TEMPLATE.replace("Hello", "Good day"))
    (fixed,) = write(manifests, bundles)
    assert fixed.held_back == ()
    assert fixed.templates != good.templates


def test_a_last_good_revision_yields_to_another_template_with_its_event_type(
    manifests: Path, bundles: Path
) -> None:
    write(manifests, bundles)
    write_manifests(
        manifests,
        second=TEMPLATE.replace("name: welcome", "name: second"),
        welcome=TEMPLATE.replace("{{ name }}", "{{ nam }}"),
    )
    (profile,) = write(manifests, bundles)
    assert (served(bundles), profile.held_back) == (["second"], ())


def test_a_template_whose_manifest_was_removed_is_removed(manifests: Path, bundles: Path) -> None:
    write_manifests(
        manifests, second=TEMPLATE.replace("name: welcome", "name: second").replace("welcomed", "left")
    )
    write(manifests, bundles)
    assert served(bundles) == ["second", "welcome"]
    (manifests / "second.yaml").unlink()
    write(manifests, bundles)
    assert served(bundles) == ["welcome"]


def test_an_unreadable_profile_keeps_serving(manifests: Path, bundles: Path) -> None:
    write(manifests, bundles)
    write_manifests(manifests, profile=PROFILE.replace("spec:", "spce:"))
    (profile,) = write(manifests, bundles)
    assert (profile.profile_dir, profile.held_back) == ("shop", ("welcome",))


def test_a_removed_profile_is_withdrawn(manifests: Path, bundles: Path) -> None:
    write(manifests, bundles)
    for file in manifests.iterdir():
        file.unlink()
    assert write(manifests, bundles) == []
    assert list((bundles / "shop").iterdir()) == []


def test_a_namespace_is_part_of_the_folders_name(manifests: Path, bundles: Path) -> None:
    write_manifests(
        manifests,
        profile=PROFILE.replace("{name: shop}", "{name: shop, namespace: team-a}"),
        welcome=TEMPLATE.replace("{name: welcome}", "{name: welcome, namespace: team-a}"),
    )
    assert [profile.profile_dir for profile in write(manifests, bundles)] == ["team-a.shop"]
    assert served(bundles, "team-a.shop") == ["welcome"]
