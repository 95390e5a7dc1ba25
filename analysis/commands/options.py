"""The options that several commands have."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg

Storage = Annotated[str, arg(metavar="URI", help="Storage root of the sweeps.")]
TableFile = Annotated[str, arg(metavar="FILE", help="A .csv or a .parquet.")]
Sweep = Annotated[
    str | None,
    arg(
        metavar="NAME",
        help="Only the rows this sweep asked for.",
        help_behavior_hint="(optional)",
    ),
]
Rows = Annotated[Positional[str], arg(metavar="ROWS", help="A .csv, a .parquet or a storage root.")]
Json = Annotated[bool, arg(help="Print only JSON on stdout.")]
Out = Annotated[
    str | None,
    arg(
        metavar="FILE",
        help="A figure (.png, .svg, .pdf) or all points (.csv).",
        help_behavior_hint="(optional)",
    ),
]
AMOUNT = "0.5pt|0.005"
"""How differences of accuracy are given; ``analysis.table.metrics.difference_of``."""

Margin = Annotated[
    str,
    arg(
        metavar=AMOUNT,
        help="Differences up to this count as none: points (or BLEU), or the same as a fraction.",
    ),
]
