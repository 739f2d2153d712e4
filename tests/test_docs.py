"""The documentation keeps its word: its manifests pass the proof, its links lead somewhere."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from postroom.letter.event import Record, parse_event
from postroom.letter.profile import SmtpProfile
from postroom.letter.template import EmailLayout, EmailTemplate
from postroom.letter.validation.validate import validate_manifests
from tests.test_house import ROOT, committed, shown

PAGES = [path for path in committed("*.md") if path.relative_to(ROOT).parts[0] not in {"tests", "worker"}]
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
METRIC = re.compile(r"\bpostroom_[a-z_]+")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#]+)")
KINDS: dict[str, type[EmailTemplate] | type[EmailLayout] | type[SmtpProfile]] = {
    "EmailTemplate": EmailTemplate,
    "EmailLayout": EmailLayout,
    "SmtpProfile": SmtpProfile,
}


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Every fenced block of a language, with its page."""
    for page in PAGES:
        for found in BLOCK.finditer(page.read_text()):
            if found[1] == language:
                yield shown(page), found[2]


MANIFESTS = [(page, text) for page, text in blocks("yaml") if text.startswith("apiVersion: postroom.dev")]
ENVELOPES = [(page, text) for page, text in blocks("json") if "recipient" in text]


def objects(text: str) -> list[Any]:
    return [KINDS[each["kind"]].model_validate(each) for each in yaml.safe_load_all(text)]


@pytest.mark.parametrize(("page", "text"), MANIFESTS, ids=[page for page, _ in MANIFESTS])
def test_a_manifest_in_the_documentation_passes_the_proof_without_advice(page: str, text: str) -> None:
    verdict = validate_manifests(objects(text))
    for proof in verdict.results.values():
        assert (proof.problems, proof.warnings) == ((), ())


@pytest.mark.parametrize(("page", "text"), ENVELOPES, ids=[page for page, _ in ENVELOPES])
def test_an_event_in_the_documentation_is_read(page: str, text: str) -> None:
    record = Record("postroom.default.shop", 0, 0, datetime(2026, 11, 23, tzinfo=UTC), None, text.encode())
    assert parse_event(record).recipient == "ada@example.org"


def test_an_alert_in_the_documentation_asks_for_metrics_that_exist() -> None:
    known = set(METRIC.findall((ROOT / "docs" / "reference" / "metrics.md").read_text()))
    asked = {name for _, text in blocks("yaml") if "expr:" in text for name in METRIC.findall(text)}
    assert {name.removesuffix("_bucket") for name in asked} - known == set()
    assert "postroom_ledger_ok" in asked


def test_the_readme_shows_a_complete_template() -> None:
    assert any(page == "README.md" and "kind: EmailTemplate" in text for page, text in MANIFESTS)


def test_every_link_to_a_file_leads_there() -> None:
    dead = {
        f"{shown(page)}: {target}"
        for page in PAGES
        for target in LINK.findall(page.read_text())
        if not (page.parent / target.split(" ")[0]).exists()
    }
    assert dead == set()
