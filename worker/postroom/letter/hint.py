"""Did you mean …? The closing words of an error about a name that nobody knows."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

_LONGEST = 64
"""Longer names are no misspelling of ours, and comparing them takes long."""


def did_you_mean(word: str, known: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str:
    """`; did you mean NAME?` for the nearest known name, or nothing. Case and separators don't count."""
    found = nearest(word, known, synonyms)
    return f"; did you mean {found}?" if found else ""


def nearest(word: str, known: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str | None:
    """The known name that is nearest, when one is near."""
    if len(word) > _LONGEST:
        return None
    folded = {_fold(name): name for name in known}
    if synonyms:
        folded = {_fold(wrong): right for wrong, right in synonyms.items()} | folded
    found = get_close_matches(_fold(word), folded, n=1, cutoff=0.7)
    return folded[found[0]] if found else None


def _fold(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")
