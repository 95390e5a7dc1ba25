"""``python -m analysis pareto``"""

from __future__ import annotations

import logging
from typing import Annotated, Any

import pandas as pd
from tyro.conf import arg

from analysis.commands.options import Json, Out, Rows
from analysis.figures import FIGURES, frontier
from analysis.pareto import BY, MORE_IS_BETTER, check_choice, pareto
from analysis.points import PANEL, dense_baselines
from analysis.rows import read_rows, suffix_of, table_as_bytes, write_file
from analysis.tables import json_text, panels_text, records

log = logging.getLogger(__name__)

By = Annotated[str, arg(metavar="COLUMN", help=f"A frontier for each: {', '.join(BY)}.")]
Against = Annotated[
    str,
    arg(metavar="COLUMN", help=f"What accuracy is weighed against: {', '.join(MORE_IS_BETTER)}."),
]


def pareto_command(
    source: Rows,
    *,
    by: By = "method",
    x: Against = "compression_ratio",
    json: Json = False,
    out: Out = None,
) -> None:
    """The best points in accuracy and compression.

    Those that no other of their kind beats. Medians over seeds; of several retraining times the
    one with the best median validation accuracy. Accuracies in percent; change is against the
    same seed's dense network.

    Examples:
      python -m analysis pareto rows.csv
      python -m analysis pareto results --x search_cost_epochs --json
      python -m analysis pareto rows.parquet --out frontier.pdf
    """
    check_choice("--by", by, BY)
    check_choice("--x", x, list(MORE_IS_BETTER))
    suffix = suffix_of(out, (*FIGURES, ".csv")) if out else None
    rows = read_rows(source)
    points = pareto(rows, by, x)
    baselines = dense_baselines(rows)
    if out and suffix == ".csv":
        write_file(out, table_as_bytes(points, ".csv"))
    elif out:
        frontier(points, baselines, by, x, out)
    if json:
        print(json_text(pareto_json(points, baselines, by, x)), flush=True)
    else:
        print(pareto_text(points, baselines, by, x), flush=True)


def pareto_text(points: pd.DataFrame, baselines: pd.DataFrame, by: str, x: str) -> str:
    best = points[points["nondominated"]]
    columns = dict.fromkeys([by, "method", "retrain_epochs", x])
    shown = [name for name in columns if name not in ("compression_ratio", "density", *PANEL)]
    log.info("left out %d dominated points of %d", len(points) - len(best), len(points))
    return panels_text(best, baselines, shown)


def pareto_json(points: pd.DataFrame, baselines: pd.DataFrame, by: str, x: str) -> dict[str, Any]:
    kept = points["nondominated"]
    plain = points.drop(columns="nondominated")
    return {
        "by": by,
        "x": x,
        "baselines": records(baselines),
        "frontier": records(plain[kept]),
        "dominated": records(plain[~kept]),
    }
