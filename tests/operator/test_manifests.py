"""Golden manifests: a profile goes in, these objects come out.

A case is a folder of tests/golden/manifests:

    profile.yaml     the SmtpProfile; the annotations `test/…` say what else the operator sees
    expected.yaml    everything that is applied for it and for its sandbox, in order

`make golden` writes the last anew. Read the diff before you commit it.
"""

import json
from pathlib import Path

import pytest
import yaml

from tests.operator.golden_profiles import CASES, everything, view_of


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_manifests_are_the_golden_ones(case: Path, rewrite: bool) -> None:
    view, fixed = view_of((case / "profile.yaml").read_text())
    objects = json.loads(json.dumps(everything(view, fixed)))  # plain, and without shared parts
    found = yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True, width=110)
    expected = case / "expected.yaml"
    if rewrite:
        expected.write_text(found)
    assert found == expected.read_text(), "`make golden` writes the golden manifests anew; read the diff"
