"""Sphinx's settings: MyST pages, the furo theme, nothing fetched from elsewhere."""

from importlib.metadata import version as installed

project = "Postroom"
author = "The Postroom authors"
copyright = "The Postroom authors"  # noqa: A001 - Sphinx's own name for it
release = installed("postroom")

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Postroom"
html_static_path: list[str] = []
