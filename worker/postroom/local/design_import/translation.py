"""What every translation of placeholders has in common: notes, names, dates and amounts.

A dialect's function takes the page and gives a `Translation`: the page with Jinja in the place of each
placeholder and every other character as it was, and a `Note` for each construct that has no translation or
whose translation a person should look at. Nothing is left out without a note.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from keyword import iskeyword

_OPENING = re.compile(r"\{(?=[{%#])")


@dataclass(frozen=True, slots=True)
class Note:
    """Something to look at: a line of the page, what stood there, what to do."""

    line: int
    construct: str
    way_out: str
    lost: bool = True
    """Whether the construct's effect is missing in the translation."""


@dataclass(slots=True)
class Translation:
    """The page in Postroom's language so far."""

    source: str
    parts: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    position: int = 0

    @property
    def text(self) -> str:
        """What there is of the translation."""
        return "".join(self.parts)

    def line(self, position: int) -> int:
        """The line of the page that a position is on."""
        return self.source.count("\n", 0, position) + 1

    def keep(self, until: int) -> None:
        """Copy the source up to a position."""
        self.parts.append(self._literal(self.source[self.position : until]))
        self.position = until

    def _literal(self, text: str) -> str:
        """Source that is no construct of its own dialect, so that none of it is one of the template language.

        In a style sheet, where `{#a` begins a rule, a space does it.
        """
        if not _OPENING.search(text):
            return text
        at = self.position
        parts: list[str] = []
        for found in _OPENING.finditer(text):
            before = self.source[: at + found.start()].lower()
            in_style = before.rfind("<style") > before.rfind("</style")
            parts.append("{ " if in_style else "{{ '{' }}")
        pieces = _OPENING.split(text)
        return "".join(
            piece + (parts[index] if index < len(parts) else "") for index, piece in enumerate(pieces)
        )

    def put(self, found: re.Match[str], text: str) -> None:
        """Write text in the place of a construct; one that is the same but for its spaces stays as it is."""
        self.keep(found.start())
        same = "".join(text.split()) == "".join(found[0].split())
        self.parts.append(found[0] if same else text)
        self.position = found.end()

    def note(self, found: re.Match[str], way_out: str, *, lost: bool = True) -> None:
        self.notes.append(Note(self.line(found.start()), shortened(found[0]), way_out, lost))

    def leave(self, found: re.Match[str], way_out: str) -> None:
        """Put a comment in the place of a construct that has no translation."""
        self.put(found, comment(found[0]))
        self.note(found, way_out)


Translate = Callable[[str], Translation]


def comment(text: str) -> str:
    """A construct that was not translated, as a comment of the template language."""
    return "{# not translated: " + text.replace("#}", "# }").replace("{#", "{ #") + " #}"


def shortened(text: str) -> str:
    """A construct as messages show it."""
    whole = " ".join(text.split())
    return whole if len(whole) <= 60 else f"{whole[:57]}…"


_WORDS = frozenset(("and", "or", "not", "in", "is", "if", "else", "none", "true", "false", "loop", "letter"))


def identifier(name: str) -> str:
    """A name that Jinja can read: `first-name` → `first_name`."""
    found = re.sub(r"\W+", "_", name.strip(), flags=re.ASCII).strip("_") or "value"
    if found[0].isdigit() or iskeyword(found) or found.lower() in _WORDS:
        found = f"{found}_" if not found[0].isdigit() else f"v{found}"
    return found


def path(name: str) -> str:
    """A dotted name, each step of it as Jinja reads it: `order.items.0.sku` → `order.items[0].sku`."""
    steps = [step for step in re.split(r"[./]|\[(?=[^\]]*\])|\]", name.strip()) if step]
    shown = ""
    for step in steps:
        step = step.strip("'\"")
        if step.isdigit() and shown:
            shown += f"[{step}]"
        else:
            shown += f".{identifier(step)}" if shown else identifier(step)
    return shown


_PLURALS = (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("s", ""))


def singular(name: str) -> str:
    """What one element of a list is called: `order.items` → `item`."""
    last = re.split(r"\W", name)[-1] or "item"
    for end, replaced in _PLURALS:
        if last.lower().endswith(end) and len(last) > len(end):
            return last[: -len(end)] + replaced
    return f"{last}_item" if last != "item" else "one"


def is_plural(name: str) -> bool:
    """Whether a name is that of a list, most likely."""
    last = re.split(r"\W", name)[-1].lower()
    return (last.endswith("s") and not last.endswith(("ss", "us", "is"))) or last.endswith(("list", "rows"))


def quoted(text: str) -> str:
    """A string of the template language."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'" if "'" not in text else f'"{text}"'


DATE_NOTE = "the date is written in the reader's language; choose short, medium, long or full"


def date_filter(pattern: str) -> str:
    """The filter for a date pattern of strftime, PHP, Moment or Unicode, by what it shows."""
    shown = pattern.strip("'\" ")
    if "%" in shown:
        day, hour = r"%-?[AaBbcDdeFhjmUuVWwxYy]", r"%-?[cHIklMpRrSTX]"
        styles = (("full", r"%A"), ("long", r"%B"), ("medium", r"%[bhac]"))
    elif re.search(r"[yY]{2,}|MM|[dD]{2,}|[hH]{1,2}:mm|EEE", shown):
        day, hour = r"[yYMDd]", r"[hH]{1,2}:mm|LT"
        styles = (("full", r"EEEE|dddd"), ("long", r"MMMM"), ("medium", r"MMM"))
    else:
        day, hour = r"[dDjlFMmnYyN]", r"[HhGgP]:?i|P\b"
        styles = (("full", r"\bl\b"), ("long", r"F|\blong\b|^N"), ("medium", r"M|medium|^$"))
        if shown in ("short", "medium", "long", "full"):
            return f"date({quoted(shown)})"
    has_hour = bool(re.search(hour, shown))
    has_day = bool(re.search(day, shown))
    if has_hour and not has_day:
        return "time"
    style = next((style for style, signs in styles if re.search(signs, shown)), "short")
    return f"{'datetime' if has_hour else 'date'}({quoted(style)})"
