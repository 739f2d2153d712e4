"""What a locale's tag (BCP 47) says about how a letter is written: its language, and its direction.

Pure; any text gives an answer, since an event may name a locale without data.
"""

from functools import lru_cache
from typing import Literal

from babel.core import get_global

RIGHT_TO_LEFT = frozenset(
    "Adlm Arab Aran Hebr Mand Mend Nkoo Rohg Samr Syrc Thaa Yezi".split()  # noqa: SIM905  a table
)
"""Scripts that living languages write from right to left (ISO 15924)."""


def language_of(tag: str) -> str:
    """The primary subtag: `de` of `de-AT`."""
    return tag.partition("-")[0].lower()


@lru_cache(maxsize=256)
def direction_of(tag: str) -> Literal["ltr", "rtl"]:
    """By the script that the tag names (`az-Arab`), else by the likely one (`ks`, `pa-PK`)."""
    language, *others = tag.replace("_", "-").split("-")
    script = next((part.title() for part in others if len(part) == 4 and part.isalpha()), "")
    if not script:
        likely = get_global("likely_subtags")
        region = next((part.upper() for part in others if len(part) == 2 and part.isalpha()), "")
        found = likely.get(f"{language.lower()}_{region}") or likely.get(language.lower(), "")
        script = next((part for part in found.split("_")[1:] if len(part) == 4), "")
    return "rtl" if script in RIGHT_TO_LEFT else "ltr"
