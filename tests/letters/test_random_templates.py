"""Random templates with random data: inlined ahead, a letter is what it would be inlined for itself."""

from random import Random

import pytest

from postroom.local.browser_check import BrowserCheck
from tests.letters.random_templates import Tally, deviations, letters_of, random_data, random_template

CHUNKS, TEMPLATES, LETTERS = 4, 250, 5
SEEN = 120
"""Templates whose letters the browser compares with their source pages, two letters of each."""


@pytest.mark.searches
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_inlined_ahead_a_letter_is_the_same_for_every_event(chunk: int) -> None:
    tally = Tally()
    seeds = iter(range(chunk * TEMPLATES, (chunk + 1) * TEMPLATES))
    assert [str(each) for each in deviations(seeds, LETTERS, tally)] == []
    print(tally)
    assert tally.templates == TEMPLATES
    assert tally.ahead > TEMPLATES // 10
    assert tally.refused < TEMPLATES // 10


@pytest.mark.browser
def test_letters_of_random_templates_look_as_their_source_pages(browser: BrowserCheck) -> None:
    pairs, described = [], []
    for seed in range(SEEN):
        rng = Random(seed)
        document = random_template(rng)
        data = [random_data(rng) for _ in range(2)]
        for pair, each in zip(letters_of(document, data), data, strict=False):
            pairs.append(pair)
            described.append(f"seed {seed}, {each}")
    assert len(pairs) > SEEN
    failures = [
        f"{words}: {found.differences[0]}"
        for words, found in zip(described, browser.compare(pairs), strict=True)
        if not found.equal
    ]
    assert failures == []
