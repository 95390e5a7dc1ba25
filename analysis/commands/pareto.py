"""``rewind-ray analysis pareto``"""

from __future__ import annotations

import logging
from textwrap import fill
from typing import Annotated, Any

import pandas as pd
from tyro.conf import arg

from analysis.commands.options import Json, Out, Rows
from analysis.questions.attainment import attainment
from analysis.questions.fronts import OBJECTIVES, hypervolumes
from analysis.questions.pareto import AGAINST, BY, check_choice, check_objectives, pareto
from analysis.table.points import PANEL, dense_baselines
from analysis.table.rows import PICTURES, read_rows, suffix_of, table_as_bytes, write_file
from analysis.table.spreads import marks_text
from analysis.table.text import json_text, panels_text, records
from rewind_ray.errors import UserError

log = logging.getLogger(__name__)

WIDTH = 100

By = Annotated[str, arg(metavar="COLUMN", help=f"A frontier for each: {', '.join(BY)}.")]
Against = Annotated[
    str,
    arg(metavar="COLUMN", help=f"What accuracy is weighed against: {', '.join(AGAINST)}."),
]
Objectives = Annotated[
    tuple[str, ...],
    arg(
        metavar="COLUMN",
        help=f"Two or three to weigh instead, of {', '.join(OBJECTIVES)}.",
        help_behavior_hint="(default: --x and test_accuracy)",
    ),
]
AllSettings = Annotated[
    bool, arg(help="All retraining times compete, not only that of the best validation accuracy.")
]
Attainment = Annotated[
    bool, arg(help="Also what the best, half and the worst of the seeds attain (in --json).")
]


def pareto_command(
    source: Rows,
    *,
    by: By = "method",
    x: Against = "compression_ratio",
    objectives: Objectives = (),
    all_settings: AllSettings = False,
    attainment: Attainment = False,
    json: Json = False,
    out: Out = None,
) -> None:
    """The best points in accuracy and compression.

    Those that no other of their kind beats. Medians over seeds; of several retraining times the
    one with the best median validation accuracy. Accuracies in percent; change is against the
    same seed's dense network. The hypervolume is the area under a frontier: docs/statistics.md.

    Examples:
      rewind-ray analysis pareto rows.csv
      rewind-ray analysis pareto results --x search_cost_epochs --json
      rewind-ray analysis pareto rows.parquet --out frontier.pdf
      rewind-ray analysis pareto results --objectives test_accuracy speedup search_cost_epochs
    """
    check_choice("--by", by, BY)
    check_choice("--x", x, AGAINST)
    weighed = objectives or (x, "test_accuracy")
    check_objectives(weighed)
    suffix = suffix_of(out, (*PICTURES, ".csv")) if out else None
    rows = read_rows(source)
    points = pareto(rows, by, weighed, all_settings)
    baselines = dense_baselines(rows)
    if out and suffix == ".csv":
        write_file(out, table_as_bytes(points, ".csv"))
    elif out:
        draw(points, baselines, by, weighed, out)
    volumes = volumes_of(points, by, weighed)
    if json:
        content = pareto_json(points, baselines, by, weighed) | {"hypervolume": records(volumes)}
        if attainment:
            content["attainment"] = records(attained(rows, by, weighed))
        print(json_text(content), flush=True)
    else:
        print(pareto_text(points, baselines, by, weighed, volumes), flush=True)


def draw(
    points: pd.DataFrame,
    baselines: pd.DataFrame,
    by: str,
    objectives: tuple[str, ...],
    out: str,
) -> None:
    """Accuracy against the first other objective."""
    from analysis.draw.figures import frontier  # matplotlib takes a second to import

    against = [name for name in objectives if name != "test_accuracy"]
    if len(against) == len(objectives):
        raise UserError("a figure shows test_accuracy; add it to --objectives, or write a .csv")
    frontier(points, baselines, by, against[0], out)


def volumes_of(points: pd.DataFrame, by: str, objectives: tuple[str, ...]) -> pd.DataFrame:
    """Of the frontiers in accuracy and one other; empty for other objectives."""
    against = [name for name in objectives if name != "test_accuracy"]
    if len(objectives) != 2 or len(against) != 1:
        return pd.DataFrame(columns=[*PANEL, by, "hypervolume"])
    return hypervolumes(points, [by], against[0])


def attained(rows: pd.DataFrame, by: str, objectives: tuple[str, ...]) -> pd.DataFrame:
    against = [name for name in objectives if name != "test_accuracy"]
    if len(objectives) != 2 or len(against) != 1:
        raise UserError("--attainment takes test_accuracy and one other objective")
    return attainment(rows, by, against[0])


def pareto_text(
    points: pd.DataFrame,
    baselines: pd.DataFrame,
    by: str,
    objectives: tuple[str, ...],
    volumes: pd.DataFrame,
) -> str:
    best = points[points["nondominated"]]
    columns = dict.fromkeys([by, "method", "retrain_epochs", *objectives])
    shown_anyway = ("compression_ratio", "density", "test_accuracy", *PANEL)
    shown = [name for name in columns if name not in shown_anyway]
    log.info("left out %d dominated points of %d", len(points) - len(best), len(points))
    notes = {
        panel: "hypervolume: "
        + ", ".join(
            f"{value} {volume:.3f}"
            for value, volume in zip(group[by], group["hypervolume"], strict=True)
        )
        for panel, group in volumes.groupby(PANEL, dropna=False)
    }
    front = f"Fronts are picked by {', '.join(objectives)}"
    luck = "; accuracies are of the test set, so of several close points the luckiest."
    footer = (
        f"{front}{luck if 'test_accuracy' in objectives else '.'} {marks_text(best, 'spreads')}"
    )
    return f"{panels_text(best, baselines, shown, notes)}\n\n{fill(footer, WIDTH)}"


def pareto_json(
    points: pd.DataFrame, baselines: pd.DataFrame, by: str, objectives: tuple[str, ...]
) -> dict[str, Any]:
    kept = points["nondominated"]
    plain = points.drop(columns="nondominated")
    return {
        "by": by,
        "x": objectives[0],
        "objectives": list(objectives),
        "baselines": records(baselines),
        "frontier": records(plain[kept]),
        "dominated": records(plain[~kept]),
    }
