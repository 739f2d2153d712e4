"""Did you mean …? A short tail for messages about a name that is not there."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean `subject`?`, else the known names when they are few, else nothing."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{close[0]}`?"
    if 0 < len(names) <= 8:
        return f"; there is {', '.join(f'`{each}`' for each in names)}"
    return ""
