"""The page of the rules of `postroom check`: each with severity, reason, remedy and example."""

from collections.abc import Iterable, Iterator

from postroom.letter.problems import Severity
from postroom.letter.validation.rules import ERRORS, LINT, Rule
from writers.tables import table

INTRODUCTION = """# Rules of `postroom check`

Each finding belongs to one rule, whose name is a [problem code](problems.md). The operator applies the same
rules: it reports errors in the condition `Compiled` and warnings in `status.warnings`. Only `postroom
check` shows infos.
"""
SEVERITIES = (
    ("error", "The object is refused; a template keeps its last good revision.", "fails"),
    (
        "warning",
        "Readers lose something in most mail clients, and a change of the template avoids it.",
        "fails",
    ),
    (
        "info",
        "The letter is right in some clients and simpler in others, or costs more.",
        "passes",
    ),
)
IGNORING = """Postroom reports only what is certain. Claims about mail clients name their source.

## Ignore a rule

A comment in `html` applies to its own line, to the next line, and to findings about the whole page:

```jinja
{# postroom: ignore image_without_alt #}
<img src="https://shop.example/banner.png" width="600">
```

An annotation applies to the whole template or layout:

```yaml
metadata:
  name: welcome
  annotations:
    postroom.dev/ignore: link_insecure, image_is_svg
```

Several names are separated by commas. Errors cannot be ignored; an unknown rule name is a warning.

## Output for programs

`--format json` writes one document. Fields may be added without a new `version`.
"""
FIELDS = (
    ("`version`", "1"),
    ("`findings[].file`", "The file, as it was named on the command line."),
    (
        "`findings[].line`, `column`, `end_column`",
        "The position: 1-based, in Unicode characters; `end_column` is after the last one.",
    ),
    ("`findings[].severity`", "`error`, `warning` or `info`."),
    ("`findings[].rule`", "The problem code."),
    ("`findings[].message`", "What is wrong here."),
    ("`findings[].why`, `help`", "Why it matters and what to do, as on this page; `why` may be empty."),
    ("`findings[].subject`", "The object: `EmailTemplate welcome`."),
    (
        "`templates[]`",
        "`namespace`, `name`, `passes` (`null`: its layout is elsewhere), `revision`, `samples[]` of each.",
    ),
    ("`templates[].samples[]`", "Each sample's letter: `name`, `locale`, `html_bytes`."),
    ("`skipped[]`", "Objects that are not Postroom's."),
    ("`files`", "The number of files that were read."),
)
OTHERS = """`--format sarif` writes SARIF 2.1.0 for code scanning; an info has the level `note`.
`--format concise` writes one line per finding: `file:line:column: severity[rule] message`.
"""


def rules() -> str:
    """The page."""
    lines = [
        INTRODUCTION,
        table(("Severity", "Meaning", "`--strict`"), SEVERITIES),
        IGNORING,
        table(("Field", "Content"), FIELDS),
        OTHERS,
        "## Warnings and infos\n",
    ]
    for rule in LINT:
        lines += _section(rule)
    lines += ["## Errors\n", table(("Code", "Meaning", "Reason", "Remedy"), _errors(ERRORS))]
    return "\n".join(lines)


def _section(rule: Rule) -> Iterator[str]:
    yield f"### {rule.code}\n"
    yield f"*{'Warning' if rule.severity is Severity.WARNING else 'Info'}.* {rule.title} {rule.why}\n"
    yield f"{rule.help}\n"
    if rule.example and rule.instead:
        yield f"```text\n{rule.example}\n```\n\nInstead:\n\n```text\n{rule.instead}\n```\n"
    if rule.sources:
        yield "Source: " + ", ".join(f"<{source}>" for source in rule.sources) + "\n"


def _errors(found: Iterable[Rule]) -> Iterator[tuple[str, ...]]:
    return ((f"`{rule.code}`", rule.title, rule.why, rule.help) for rule in found)
