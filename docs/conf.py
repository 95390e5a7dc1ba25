"""The documentation as a site: ``make docs`` builds it, without a network, into build/site."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rewind_ray import Prune, Retrain, __version__
from rewind_ray.knobs import knobs_of

project = "rewind-ray"
author = "the rewind-ray authors"
copyright = f"2026, {author}"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"rewind-ray {release}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sphinx = False

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": False}
python_maximum_signature_line_length = 79

highlight_language = "none"  # most blocks are commands; Python says that it is


def knob_help(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """A knob is documented where it is declared: by the help of its flag."""
    owner, _, field = name.rpartition(".")
    specs = {"rewind_ray.Prune": Prune, "rewind_ray.Retrain": Retrain}
    if owner in specs and field in knobs_of(specs[owner]):
        lines[:] = [f"{knobs_of(specs[owner])[field].help}."]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", knob_help)
