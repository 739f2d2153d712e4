"""The page of the corpus of letters: the comparison, and the figures of a run."""

import json
import sys
from pathlib import Path

from writers.tables import Words, table

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # the corpus belongs to the tests

from tests.letters.corpus import names, read_case  # noqa: E402

FIGURES = ROOT / "docs" / "reference" / "letters.json"
HEAD = """# Letters compared

Each template of the corpus (`tests/letters/corpus`) is validated and its samples are rendered. Chromium
then compares every letter with its source page: computed styles at 320, 600 and 900 pixels, light and dark,
hovered, visited, with the changes that Outlook, Gmail and Apple Mail make, with all `<style>` removed, and
a screenshot. `postroom check --browser` does the same for your templates.

- *differing*: elements whose styles differ;
- *silent*: differing elements of templates without a finding about styles;
- *false alarms*: findings about elements that do not differ;
- *kept*: elements with a declaration that stays in `<style>`, because a rule that must stay there sets the
  same property;
- *without a tag*: elements that cannot have a `style` attribute, such as an implied `tbody`.

`make letters` writes the figures.
"""


def letters(_: Words) -> str:
    """The sums, then each template with its purpose."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    sums = [
        ("Templates", figures["templates"]),
        ("Letters", figures["letters"]),
        ("Elements", figures["elements"]),
        ("Computed styles compared", figures["compared"]),
        ("Elements differing", figures["differing"]),
        ("Silent damage", figures["silent_damage"]),
        ("False alarms", figures["false_alarms"]),
        ("Refused", figures["refused"]),
        ("Pictures differing", figures["pictures_differing"]),
        ("Elements with kept declarations", figures["kept"]),
        ("Elements without a tag", figures["excluded"]),
    ]
    each = {row["name"]: row for row in figures["each"]}
    shown = [(name, read_case(name).about, *_figures(each.get(name))) for name in names()]
    return "\n".join(
        [
            HEAD,
            table(("Sum", ""), [(what, str(number)) for what, number in sums]),
            "## Templates\n",
            table(("Template", "Purpose", "Elements", "Compared", "Differing"), shown),
        ]
    )


def _figures(row: dict[str, object] | None) -> tuple[str, str, str]:
    if row is None:
        return "", "", "not run yet"
    differing = "refused" if row["refused"] else str(row["differing"])
    return str(row["elements"]), str(row["compared"]), differing
