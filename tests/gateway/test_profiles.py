"""The gateway follows the bundles on disk: a new bundle at the next request, an invalid bundle never."""

import os
from pathlib import Path

import pytest
import yaml

from postroom.gateway.profiles import TemplateStore
from postroom.letter.bundle import CompiledTemplate, LocaleVariant, WeightedSubject, pack_bundle

PROFILE = {
    "apiVersion": "postroom.dev/v1alpha1",
    "kind": "SmtpProfile",
    "metadata": {"name": "shop", "namespace": "team-a"},
    "spec": {"from": {"address": "shop@example.org"}},
}


def compiled(name: str, *event_types: str) -> CompiledTemplate:
    edition = LocaleVariant("en", (WeightedSubject("Hi"),), None, "<p>Hi</p>", "Hi", "source", "given")
    return CompiledTemplate(
        name, "team-a", "shop", event_types, "Transactional", (edition,), {"type": "object"}
    ).with_revision()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "profile.yaml").write_text(yaml.safe_dump(PROFILE))
    (tmp_path / "shop" / "templates.json").write_text(pack_bundle([compiled("welcome", "user.welcomed")]))
    return tmp_path


def replace(path: Path, text: str) -> None:
    """Replace a file as a projected volume does, with a later modification time."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.utime(new, ns=(0, path.stat().st_mtime_ns + 1_000_000))
    new.replace(path)


def test_a_profiles_templates_are_served_on_its_topic(folder: Path) -> None:
    route = TemplateStore(folder).router().find("user.welcomed")
    assert (route.entry.profile, route.entry.topic) == ("shop", "postroom.team-a.shop")
    assert route.template.name == "welcome"


def test_an_unchanged_folder_is_not_read_again(folder: Path) -> None:
    store = TemplateStore(folder)
    assert store.router() is store.router()


def test_a_new_template_is_served_at_the_next_call(folder: Path) -> None:
    store = TemplateStore(folder)
    assert store.router().event_types() == ["user.welcomed"]
    replace(folder / "shop" / "templates.json", pack_bundle([compiled("receipt", "order.paid")]))
    assert store.router().event_types() == ["order.paid"]


def test_an_invalid_bundle_leaves_the_last_good_bundle(folder: Path) -> None:
    store = TemplateStore(folder)
    store.router()
    replace(folder / "shop" / "templates.json", "{")
    assert store.router().event_types() == ["user.welcomed"]
    assert "not a bundle" in store.errors["shop"]
    replace(
        folder / "shop" / "templates.json", pack_bundle([compiled("welcome", "user.welcomed", "user.back")])
    )
    assert store.router().event_types() == ["user.back", "user.welcomed"]
    assert store.errors == {}


def test_a_removed_profile_is_not_served(folder: Path) -> None:
    store = TemplateStore(folder)
    assert store.router().entries
    (folder / "shop" / "profile.yaml").unlink()
    assert store.router().entries == ()


def test_a_missing_folder_serves_nothing(tmp_path: Path) -> None:
    assert TemplateStore(tmp_path / "later").router().entries == ()
