"""What the rows of a sweep say."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import pandas as pd
from tyro.conf import FlagCreatePairsOff, Positional, arg
from tyro.extras import SubcommandApp

from analysis.columns import BadRows
from analysis.figures import FIGURES, accuracy_against_search_cost, frontier
from analysis.pareto import BY, MORE_IS_BETTER, check_choice, pareto
from analysis.points import PANEL, dense_baselines
from analysis.rows import (
    TABLES,
    read_rows,
    suffix_of,
    table_as_bytes,
    write_file,
    write_rows,
)
from analysis.search_cost import Sharing, search_costs, sharing_of
from analysis.tables import json_text, panels_text, records

log = logging.getLogger("analysis")

DONE, FAILED, WRONG_USAGE = 0, 1, 2

Storage = Annotated[str, arg(metavar="URI", help="Storage root of the sweeps.")]
Table = Annotated[str, arg(metavar="FILE", help="A .csv or a .parquet.")]
Sweep = Annotated[
    str | None,
    arg(
        metavar="NAME",
        help="Only the rows this sweep asked for.",
        help_behavior_hint="(optional)",
    ),
]
Rows = Annotated[Positional[str], arg(metavar="ROWS", help="A .csv, a .parquet or a storage root.")]
By = Annotated[str, arg(metavar="COLUMN", help=f"A frontier for each: {', '.join(BY)}.")]
Against = Annotated[
    str,
    arg(metavar="COLUMN", help=f"What accuracy is weighed against: {', '.join(MORE_IS_BETTER)}."),
]
Json = Annotated[bool, arg(help="Print only JSON on stdout.")]
Out = Annotated[
    str | None,
    arg(
        metavar="FILE",
        help="A figure (.png, .svg, .pdf) or all points (.csv).",
        help_behavior_hint="(optional)",
    ),
]


def rows_command(*, storage: Storage, sweep: Sweep = None, out: Table) -> None:
    """Gather the rows of a storage root in one table.

    Examples:
      python -m analysis rows --storage results --out rows.csv
      python -m analysis rows --storage s3://bucket/folder --sweep quickstart --out rows.parquet
    """
    suffix_of(out, TABLES)
    rows = read_rows(storage, sweep)
    write_rows(rows, out)
    log.info("wrote %d rows to %s", len(rows), out)


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


def search_cost_command(source: Rows, *, json: Json = False, out: Out = None) -> None:
    """What each accuracy cost to find.

    Epochs and multiply-adds of all retraining up to it. And what sharing stages saved: epochs
    trained against those the rows need one by one.

    Examples:
      python -m analysis search-cost rows.csv
      python -m analysis search-cost results --json
      python -m analysis search-cost rows.csv --out search_cost.svg
    """
    suffix = suffix_of(out, (*FIGURES, ".csv")) if out else None
    rows = read_rows(source)
    points = search_costs(rows)
    sharing = sharing_of(rows)
    if out and suffix == ".csv":
        write_file(out, table_as_bytes(points, ".csv"))
    elif out:
        accuracy_against_search_cost(rows, out)
    if json:
        content = {"points": records(points), "sharing": sharing_json(sharing)}
        print(json_text(content), flush=True)
    else:
        columns = ["method", "retrain_epochs", "search_cost_epochs", "search_cost_flops"]
        print(panels_text(points, dense_baselines(rows), columns))
        print(f"\n{sharing_text(sharing)}" if sharing else "", flush=True)


COMMANDS: dict[str, Callable[..., None]] = {
    "rows": rows_command,
    "pareto": pareto_command,
    "search-cost": search_cost_command,
}


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


def sharing_json(sharing: Sharing | None) -> dict[str, Any] | None:
    return asdict(sharing) | {"factor": sharing.factor} if sharing else None


def sharing_text(sharing: Sharing) -> str:
    return (
        f"{sharing.epochs_trained} epochs trained, each stage once; the rows one by one: "
        f"{sharing.epochs_alone}; sharing saved a factor of {sharing.factor:.2f}"
    )


def run(arguments: Sequence[str]) -> None:
    """Parse and execute; ``--help`` and typing errors exit."""
    app = SubcommandApp()
    for name, function in COMMANDS.items():
        text = inspect.getdoc(function) or ""
        summary = text.partition("\n")[0]
        # A command's own help shows the whole text, the list of commands a line of it
        app.command(name=name, help=text if name in arguments[:1] else summary)(function)
    app.cli(
        prog="python -m analysis",
        description=__doc__,
        args=arguments or ["--help"],
        config=(FlagCreatePairsOff,),
    )


def main(arguments: Sequence[str]) -> int:
    """The exit code; 1: what was read or written is bad, 2: what was typed."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    try:
        run(arguments)
    except BrokenPipeError:  # head, or another reader, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        typed = isinstance(error, (ValueError, FileNotFoundError))
        return WRONG_USAGE if typed and not isinstance(error, BadRows) else FAILED
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
