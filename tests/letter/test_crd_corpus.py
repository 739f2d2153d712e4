"""The verdicts of the models on the corpus; tests/cluster/test_parity.py compares a real API server."""

import pytest
from pydantic import ValidationError

from postroom.letter.manifest import KINDS, explain_validation_error
from tests.cluster.corpus import Case, cases


def problem_fields(case: Case) -> list[str]:
    """The fields for which the model reports problems."""
    model = KINDS[case.kind]
    try:
        model.model_validate(case.manifest, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        return [problem.field for problem in explain_validation_error(model, error)]
    return []


@pytest.mark.parametrize("case", [case.placed("tenant") for case in cases()], ids=str)
def test_the_models_agree_with_the_corpus(case: Case) -> None:
    assert problem_fields(case) == ([] if case.verdict == "accepted" else [case.field])
