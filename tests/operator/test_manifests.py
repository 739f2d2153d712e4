"""Golden manifests: a profile goes in, these objects come out.

A case is a folder of tests/golden/manifests:

    profile.yaml     the SmtpProfile; the annotations `test/…` say what else the operator sees
    expected.yaml    everything that is applied for it, in order

`make golden` writes the last anew. Read the diff before you commit it.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from postroom.letter.bundle import pack
from postroom.letter.manifest import read
from postroom.letter.profile import SmtpProfile
from postroom_operator.desired.profile import Fixed, KafkaAccess, ProfileView, manifests
from tests.fixtures.golden import ROOT

CASES = sorted(path for path in (ROOT / "tests" / "golden" / "manifests").iterdir() if path.is_dir())
UID = "5b0d8a3e-0000-4000-8000-000000000001"
PLAIN = KafkaAccess("kafka.kafka.svc:9092")
SECURED = KafkaAccess("kafka.kafka.svc:9093", "SCRAM-SHA-512", tls=True, authority=True)


def seen(case: Path) -> tuple[ProfileView, Fixed]:
    text = (case / "profile.yaml").read_text()
    [located] = read(text, case.name)
    assert isinstance(located.object, SmtpProfile), located.problems
    told: dict[str, Any] = yaml.safe_load(text)["metadata"].get("annotations", {})
    view = ProfileView(
        located.object,
        UID,
        delivery_allowed=told.get("test/delivery") == "allowed",
        shards={0: pack([])},
        keda_available=told.get("test/keda") == "available",
    )
    kafka = SECURED if told.get("test/kafka") == "secured" else PLAIN
    return view, Fixed("registry.example/postroom:1.2.3", kafka=kafka)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_manifests_are_the_golden_ones(case: Path, rewrite: bool) -> None:
    objects = json.loads(json.dumps(manifests(*seen(case))))  # plain, and without shared parts
    found = yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True, width=110)
    expected = case / "expected.yaml"
    if rewrite:
        expected.write_text(found)
    assert found == expected.read_text(), "`make golden` writes the golden manifests anew; read the diff"
