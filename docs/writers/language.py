"""The page of the template language: what the sandbox allows and where its bounds are."""

import inspect

from jinja2.runtime import LoopContext

from postroom.letter import event
from postroom.letter.header import ALLOWED
from postroom.letter.incoming import form, strict
from postroom.letter.language import bounds
from postroom.letter.language.filters import MEASURED
from postroom.letter.language.formats import FORMATS
from postroom.letter.language.vocabulary import FILTERS, METHODS, TESTS
from postroom.letter.live import FACTS
from writers.tables import Words, table

KINDS = {str: "texts", dict: "maps", LoopContext: "`loop`"}


def language(words: Words) -> str:
    """Filters, tests, methods, the variable `letter`, headers and bounds."""
    bounded = sorted({name for name in MEASURED if name[0] != "_"} | FILTERS)
    formats = [
        (f"`{name}`", (inspect.getdoc(function) or "").partition("\n")[0])
        for name, function in FORMATS.items()
    ]
    facts = [(f"`letter.{name}`", words.of("facts", name)) for name in FACTS]
    limits = [
        (words.of("limits", name), f"{getattr(bounds, name):,}")
        for name in ("MAX_ITERATIONS", "MAX_OUTPUT", "MAX_STRING", "MAX_BUILT", "MAX_RANGE", "MAX_SECONDS")
    ]
    return "\n".join(
        [
            "# The template language\n",
            words.of("language", "introduction"),
            "\n## Formats\n",
            words.of("language", "formats") + "\n",
            table(("Filter", "Use"), formats),
            "## Filters, tests, methods\n",
            "The other filters are Jinja2's own: " + listed(bounded) + ".\n",
            "Tests: " + listed(sorted(test for test in TESTS if test.isalpha())) + ".\n",
            *(f"Methods of {KINDS[kind]}: {listed(sorted(names))}.\n" for kind, names in METHODS),
            "Functions: `range`.\n",
            "## What Postroom knows of the letter\n",
            table(("Variable", "What it is"), facts),
            "## Headers\n",
            f"`spec.headers` may set `X-…` and {listed(sorted(each.title() for each in ALLOWED))}.\n",
            "## Bounds\n",
            table(("What", "At most"), limits),
        ]
    )


def listed(names: list[str]) -> str:
    """Names as code, separated by commas."""
    return ", ".join(f"`{name}`" for name in names)


def event_limits(words: Words) -> str:
    """The limits of an event, to be included in its page."""
    limits = [
        (words.of("event_limits", name), f"{value:,}")
        for name, value in {
            "MAX_BYTES": strict.MAX_BYTES,
            "MAX_DEPTH": strict.MAX_DEPTH,
            "MAX_DIGITS": strict.MAX_DIGITS,
            "ID_CHARACTERS": event.ID_CHARACTERS,
            "SOURCE_CHARACTERS": event.SOURCE_CHARACTERS,
            "TYPE_CHARACTERS": event.TYPE_CHARACTERS,
            "REFERENCE_CHARACTERS": event.REFERENCE_CHARACTERS,
            "ATTACHMENTS": event.ATTACHMENTS,
            "ATTACHMENTS_BYTES": event.ATTACHMENTS_BYTES,
            "SCHEDULE_AHEAD": event.SCHEDULE_AHEAD.days,
            "METADATA_ENTRIES": form.METADATA_ENTRIES,
            "METADATA_VALUE_CHARACTERS": form.METADATA_VALUE_CHARACTERS,
        }.items()
    ]
    return "# Limits of an event\n\n" + table(("What", "At most"), limits)
