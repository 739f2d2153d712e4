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


def deliver(manifests: Path, bundles: Path) -> list[ServedProfile]:
    manifest_set = read_manifest_folder(manifests)
    return write_bundles(bundles, manifest_set.validation, complete=manifest_set.complete)


def served(bundles: Path, profile_dir: str = "shop") -> list[str]:
    return [each.name for each in unpack_bundle((bundles / profile_dir / "templates.json").read_text())]


def test_a_profile_gets_its_manifest_and_its_templates(manifests: Path, bundles: Path) -> None:
    (stand,) = deliver(manifests, bundles)
    assert (stand.profile_dir, stand.held_back) == ("shop", ())
    assert served(bundles) == ["welcome"]
    profile = yaml.safe_load((bundles / "shop" / "profile.yaml").read_text())
    assert profile["spec"]["from"]["address"] == "shop@example.org"


def test_files_that_say_the_same_are_not_touched(manifests: Path, bundles: Path) -> None:
    deliver(manifests, bundles)
    before = (bundles / "shop" / "templates.json").stat()
    deliver(manifests, bundles)
    assert (bundles / "shop" / "templates.json").stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    "bad", [TEMPLATE.replace("{{ name }}", "{{ nam }}"), "a: [", TEMPLATE.replace("html", "htm")]
)
def test_a_bad_edit_keeps_the_last_good_revision(manifests: Path, bundles: Path, bad: str) -> None:
    (good,) = deliver(manifests, bundles)
    write_manifests(manifests, welcome=bad)
    (held,) = deliver(manifests, bundles)
    assert held.held_back == ("welcome",)
    assert held.templates == good.templates
    write_manifests(manifests, welcome=TEMPLATE.replace("Hello", "Good day"))
    (mended,) = deliver(manifests, bundles)
    assert mended.held_back == ()
    assert mended.templates != good.templates


def test_a_last_good_revision_gives_way_to_another_template_that_has_its_event_type_now(
    manifests: Path, bundles: Path
) -> None:
    deliver(manifests, bundles)
    write_manifests(
        manifests,
        second=TEMPLATE.replace("name: welcome", "name: second"),
        welcome=TEMPLATE.replace("{{ name }}", "{{ nam }}"),
    )
    (stand,) = deliver(manifests, bundles)
    assert (served(bundles), stand.held_back) == (["second"], ())


def test_a_template_whose_manifest_is_gone_is_gone(manifests: Path, bundles: Path) -> None:
    write_manifests(
        manifests, second=TEMPLATE.replace("name: welcome", "name: second").replace("welcomed", "left")
    )
    deliver(manifests, bundles)
    assert served(bundles) == ["second", "welcome"]
    (manifests / "second.yaml").unlink()
    deliver(manifests, bundles)
    assert served(bundles) == ["welcome"]


def test_a_profile_that_cannot_be_read_keeps_serving(manifests: Path, bundles: Path) -> None:
    deliver(manifests, bundles)
    write_manifests(manifests, profile=PROFILE.replace("spec:", "spce:"))
    (stand,) = deliver(manifests, bundles)
    assert (stand.profile_dir, stand.held_back) == ("shop", ("welcome",))


def test_a_profile_that_is_gone_is_withdrawn(manifests: Path, bundles: Path) -> None:
    deliver(manifests, bundles)
    for file in manifests.iterdir():
        file.unlink()
    assert deliver(manifests, bundles) == []
    assert list((bundles / "shop").iterdir()) == []


def test_a_namespace_of_its_own_is_part_of_the_folders_name(manifests: Path, bundles: Path) -> None:
    write_manifests(
        manifests,
        profile=PROFILE.replace("{name: shop}", "{name: shop, namespace: team-a}"),
        welcome=TEMPLATE.replace("{name: welcome}", "{name: welcome, namespace: team-a}"),
    )
    assert [stand.profile_dir for stand in deliver(manifests, bundles)] == ["team-a.shop"]
    assert served(bundles, "team-a.shop") == ["welcome"]
