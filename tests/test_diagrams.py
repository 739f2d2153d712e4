"""The diagrams of the documentation: text source in, SVG out."""

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

sys.path.append(str(Path(__file__).parents[1] / "docs"))

from writers.diagrams import diagram

SOURCE = """
title = "Two boxes"
description = "An arrow leads from a to b."
size = [300, 100]
[[box]]
id = "a"
text = "A & B"
at = [10, 10]
size = [80, 40]
[[box]]
id = "b"
text = "second"
at = [200, 10]
size = [80, 40]
[[arrow]]
from = "a:right"
to = "b:left+5"
"""


def draw(folder: Path, text: str) -> str:
    source = folder / "source.toml"
    source.write_text(text)
    return diagram(source)


def test_a_diagram_is_well_formed_with_title_and_both_colour_schemes(tmp_path: Path) -> None:
    svg = draw(tmp_path, SOURCE)
    assert "Two boxes" in "".join(ET.fromstring(svg).itertext())
    assert "prefers-color-scheme:dark" in svg
    assert 'd="M90 30L200 35"' in svg


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("second", "a text that is far too wide", "needs"),
        ("[200, 10]", "[50, 20]", "overlap"),
        ("[200, 10]", "[250, 10]", "leaves the picture"),
        ("b:left", "c:left", "unknown box c"),
    ],
)
def test_a_bad_source_is_an_error(tmp_path: Path, old: str, new: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        draw(tmp_path, SOURCE.replace(old, new))
