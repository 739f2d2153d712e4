"""Did you mean …? The closing words of an error about a name that nobody knows."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

_LONGEST = 64
"""Longer names are no misspelling of ours, and comparing them takes long."""


def did_you_mean(word: str, known: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str:
    """`; did you mean NAME?` for the nearest known name, or nothing. Case and separators don't count."""
    if len(word) > _LONGEST:
        return ""
    folded = {_fold(name): name for name in known}
    if synonyms:
        folded = {_fold(wrong): right for wrong, right in synonyms.items()} | folded
    nearest = get_close_matches(_fold(word), folded, n=1, cutoff=0.7)
    return f"; did you mean {folded[nearest[0]]}?" if nearest else ""


def _fold(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")
