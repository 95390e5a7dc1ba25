"""How lines look: a method always the same, its variants with marks and dashes of their own.

Methods differ in colour, marker and line, so that they read in grey as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.colors import to_rgb

METHOD_LABELS = {
    "finetune": "fine-tuning",
    "weight_rewind": "weight rewinding",
    "lr_rewind": "learning-rate rewinding",
    "low_lr_weight_rewind": "low-LR weight rewinding",
    "reinit": "reinitialisation",
    "blend": "blend",
    "scratch_e": "Scratch-E",
    "scratch_b": "Scratch-B",
    "slr": "SLR",
    "clr": "CLR",
    "llr": "LLR",
    "allr": "ALLR",
    "step": "step decay",
    "cosine": "cosine decay",
}
"""The order gives each method its look, the same in every figure."""

# Okabe & Ito 2008, "Color universal design"; without their yellow, too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1.2, 1.5)), (0, (1.2, 1.2)))
DOTS = ("*", "p", "8", "h")  # of other works' results; in black
GREY = "#6E6E6E"
PALER = 0.45  # of the way to white

STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "rewind-ray",
}

MOST_OF_A_COLOUR = 4  # variants of a method
VARIANT_STEP = 5  # from one variant's mark and dashes to the next one's: all differ
BEYOND = 3  # colours that lines of no method of their own keep away from

DENSE, PUBLISHED_DENSE = "dense", "dense, published"

Look = dict[str, Any]
"""Keyword arguments of a line of matplotlib's."""


def looks(points: Iterable[pd.DataFrame]) -> dict[str, Look]:
    """Label -> how its line is drawn: a method always the same, others what is left.

    Variants of a method have its colour, and marks and dashes of their own; more of them than
    MOST_OF_A_COLOUR take all colours in turn, because marks alone can't distinguish so many.
    Where a method has no plain line, the first of its variants looks like it.
    """
    labels = sorted({label for group in points for label in group["line"]})
    known = {label: number for number, label in enumerate(METHOD_LABELS.values())}
    variants: dict[int, list[str]] = {}
    for label in sorted(labels, key=lambda label: ", " in label):
        number = known.get(label.partition(", ")[0])
        if number is not None:
            variants.setdefault(number, []).append(label)
    found: dict[str, Look] = {
        DENSE: {"color": GREY, "linestyle": "--", "linewidth": 1.1, "zorder": 1},
        PUBLISHED_DENSE: {"color": GREY, "linestyle": "-.", "linewidth": 0.8, "zorder": 1},
    }
    for number in sorted(variants):
        colours = _colours_of(number, variants)
        for variant, label in enumerate(variants[number]):
            colour = colours[variant % len(colours)]
            found[label] = _look(colour, number + VARIANT_STEP * variant)
    others = [label for label in labels if label not in found]
    start = len(known) + BEYOND if variants else 0
    for number, label in enumerate(others, start):
        found[label] = _look(number, number)
    return found


def _colours_of(number: int, variants: dict[int, list[str]]) -> list[int]:
    """Of a method's variants: its own, or if there are many all that no method with few has."""
    if len(variants[number]) <= MOST_OF_A_COLOUR:
        return [number]
    few = {
        other % len(COLOURS)
        for other, labels in variants.items()
        if other != number and len(labels) <= MOST_OF_A_COLOUR
    }
    turn = [(number + step) % len(COLOURS) for step in range(len(COLOURS))]
    return [colour for colour in turn if colour not in few] or turn


def _look(colour: int, shape: int) -> Look:
    return {
        "color": COLOURS[colour % len(COLOURS)],
        "marker": MARKERS[shape % len(MARKERS)],
        "linestyle": LINES[shape % len(LINES)],
        "linewidth": 1.2,
        "markersize": 4,
    }


def as_own(look: Look) -> Look:
    return look | {"linestyle": "-", "linewidth": 1.5, "zorder": 3}


def as_published(look: Look) -> Look:
    paler = tuple(part + PALER * (1 - part) for part in to_rgb(look["color"]))
    dashed = {"linestyle": (0, (3.5, 1.5)), "linewidth": 1.0, "markerfacecolor": "white"}
    return look | dashed | {"color": paler, "zorder": 2}


def marks_of_others(labels: Iterable[str]) -> dict[str, str]:
    """Label of another work -> marker of its results."""
    return {label: DOTS[number % len(DOTS)] for number, label in enumerate(sorted(set(labels)))}
