"""``rewind-ray analysis search-cost``"""

from __future__ import annotations

from dataclasses import asdict
from textwrap import fill
from typing import Any

from analysis.commands.options import Json, Out, Rows
from analysis.questions.search_cost import Sharing, search_costs, sharing_of
from analysis.table.points import dense_baselines
from analysis.table.rows import PICTURES, read_rows, suffix_of, table_as_bytes, write_file
from analysis.table.spreads import marks_text
from analysis.table.text import json_text, panels_text, records

WIDTH = 100
PICKED = (
    "All retraining times that were tried. The best of a compression is picked by test accuracy, "
    "so of several close ones it is the luckiest."
)


def search_cost_command(source: Rows, *, json: Json = False, out: Out = None) -> None:
    """What each accuracy cost to find.

    Epochs and multiply-adds of all retraining up to it. And what sharing stages saved: epochs
    trained against those the rows need one by one.

    Examples:
      rewind-ray analysis search-cost rows.csv
      rewind-ray analysis search-cost results --json
      rewind-ray analysis search-cost rows.csv --out search_cost.svg
    """
    suffix = suffix_of(out, (*PICTURES, ".csv")) if out else None
    rows = read_rows(source)
    points = search_costs(rows)
    sharing = sharing_of(rows)
    if out and suffix == ".csv":
        write_file(out, table_as_bytes(points, ".csv"))
    elif out:
        from analysis.draw.figures import accuracy_against_search_cost  # takes a second

        accuracy_against_search_cost(rows, out)
    if json:
        content = {"points": records(points), "sharing": sharing_json(sharing)}
        print(json_text(content), flush=True)
    else:
        columns = ["method", "retrain_epochs", "search_cost_epochs", "search_cost_flops"]
        print(panels_text(points, dense_baselines(rows), columns))
        print("\n" + fill(f"{PICKED} {marks_text(points, 'spreads')}", WIDTH))
        print(f"\n{sharing_text(sharing)}" if sharing else "", flush=True)


def sharing_json(sharing: Sharing | None) -> dict[str, Any] | None:
    return asdict(sharing) | {"factor": sharing.factor} if sharing else None


def sharing_text(sharing: Sharing) -> str:
    return (
        f"{sharing.epochs_trained} epochs trained, each stage once; the rows one by one: "
        f"{sharing.epochs_alone}; sharing saved a factor of {sharing.factor:.2f}"
    )
