"""Golden manifests: profile → objects.

A case is a folder of tests/golden/manifests:

    profile.yaml     the SmtpProfile; the annotations `test/…` say what else the operator sees
    expected.yaml    everything that is applied for it and for its sandbox, in order

`make golden` rewrites the last. Read the diff before you commit it.
"""

import json
from pathlib import Path

import pytest
import yaml

from tests.operator.golden_profiles import CASES, everything, view_of


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_manifests_are_the_golden_ones(case: Path, rewrite: bool) -> None:
    effective, defaults = view_of((case / "profile.yaml").read_text())
    objects = json.loads(json.dumps(everything(effective, defaults)))  # plain values without shared parts
    found = yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True, width=110)
    expected = case / "expected.yaml"
    if rewrite:
        expected.write_text(found)
    assert found == expected.read_text(), "`make golden` rewrites the golden manifests; read the diff"
