"""Golden letters: the exact bytes of the letter of each event.

A case is a folder of tests/golden/letters:

    event.json      the event as an application publishes it
    manifest.yaml   the template; where there is none, it is the shipped example that has the event's type
    letter.eml      the finished letter (without the doubled dots of SMTP), or
    refusal.txt     why there is none

`make golden` writes the last two anew. Read the diff before you commit it.
"""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from postroom.letter.bundle import pack_bundle
from postroom.letter.catalog import SenderMailbox, TemplateCatalog
from postroom.letter.event import Event, Record, parse_event
from postroom.letter.identity import Identity, message_id
from postroom.letter.manifest import read_manifests
from postroom.letter.mime.compose import compose_letter
from postroom.letter.problems import Rejected
from postroom.letter.renderer import load_catalog
from postroom.letter.template import EmailTemplate
from postroom.letter.validation.validate import ManifestValidation, validate_manifests

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "manifests" / "examples"
CASES = sorted(path for path in (ROOT / "tests" / "golden" / "letters").iterdir() if path.is_dir())
PUBLISHED = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


@cache
def validate_files(*files: Path) -> ManifestValidation:
    located = [each for file in files for each in read_manifests(file.read_text(), file.name)]
    assert not [problem for each in located for problem in each.problems]
    return validate_manifests([each.object for each in located if each.object])


@pytest.fixture(scope="module")
def examples() -> ManifestValidation:
    return validate_files(*sorted(EXAMPLES.glob("*.yaml")))


def catalog_of(verdict: ManifestValidation) -> tuple[TemplateCatalog, SenderMailbox]:
    """The catalog of the worker of profile `shop`."""
    [profile] = [each for key, each in verdict.profiles.items() if key.name == "shop"]
    mailbox = profile.spec.sender
    templates = verdict.compiled(profile.metadata.namespace, "shop")
    return load_catalog([pack_bundle(templates)]), SenderMailbox(mailbox.address, mailbox.name)


def read_event(case: Path) -> Event:
    value = (case / "event.json").read_bytes()
    return parse_event(Record("postroom.default.shop", 0, 0, PUBLISHED, None, value))


def make(event: Event, catalog: TemplateCatalog, sender: SenderMailbox) -> bytes:
    """Parse, render and compose a letter, as a file that mail programs open."""
    template = catalog.find(event.type)
    assert template is not None, f"no template has {event.type}"
    rendered = template.render(event)
    identity = Identity("shop", event.source, event.id, event.recipient)
    chosen = rendered.sender or sender
    letter = compose_letter(
        rendered,
        to=event.recipient,
        sender=chosen,
        message_id=message_id(identity, chosen.address.rpartition("@")[2]),
        date=event.time,
    )
    return letter.replace(b"\r\n..", b"\r\n.")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_letter_is_the_golden_one(case: Path, examples: ManifestValidation, rewrite: bool) -> None:
    own = case / "manifest.yaml"
    verdict = (
        validate_files(EXAMPLES / "profile.yaml", EXAMPLES / "layout.yaml", own) if own.exists() else examples
    )
    try:
        found = {"letter.eml": make(read_event(case), *catalog_of(verdict))}
    except Rejected as rejected:
        lines = "".join(f"{problem}\n" for problem in rejected.problems)
        found = {"refusal.txt": lines.encode()}
    if rewrite:
        (case / "letter.eml").unlink(missing_ok=True)
        (case / "refusal.txt").unlink(missing_ok=True)
        for name, content in found.items():
            (case / name).write_bytes(content)
    kept = {
        path.name: path.read_bytes() for path in case.iterdir() if path.name in {"letter.eml", "refusal.txt"}
    }
    assert found == kept, "`make golden` writes the golden letters anew; read the diff before you commit it"


def test_the_shipped_examples_are_valid_without_warnings(examples: ManifestValidation) -> None:
    findings = [
        f"{key.name}: {problem}"
        for key, validation in examples.results.items()
        for problem in (*validation.problems, *validation.warnings)
    ]
    assert findings == []


def test_every_shipped_example_has_a_golden_letter() -> None:
    shown = {read_event(case).type for case in CASES if not (case / "manifest.yaml").exists()}
    objects = [
        each.object
        for file in EXAMPLES.glob("*.yaml")
        for each in read_manifests(file.read_text(), file.name)
    ]
    templates = [each for each in objects if isinstance(each, EmailTemplate)]
    assert len(templates) >= 6
    assert {name for each in templates for name in each.spec.event_types} == shown
    assert all(len(each.spec.samples) >= 2 for each in templates)


def test_every_example_letter_costs_no_inlining_at_send_time(examples: ManifestValidation) -> None:
    variants = [
        variant
        for validation in examples.results.values()
        if validation.compiled
        for variant in validation.compiled.variants
    ]
    assert {variant.inline for variant in variants} == {"source"}
