"""``python -m analysis``: rows, pareto, search-cost."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import pandas as pd
import typer

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

app = typer.Typer(
    help="What the rows of a sweep say.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Rows = Annotated[str, typer.Argument(metavar="ROWS", help="A .csv, a .parquet or a storage root.")]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]


@app.command(
    "rows",
    epilog="""\b
Examples:
  python -m analysis rows --storage results --out rows.csv
  python -m analysis rows --storage s3://bucket/folder --sweep quickstart --out rows.parquet""",
)
def rows_command(
    storage: Annotated[str, typer.Option(metavar="URI", help="Storage root of the sweeps.")],
    out: Annotated[str, typer.Option(metavar="FILE", help="A .csv or a .parquet.")],
    sweep: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only the rows this sweep asked for.")
    ] = None,
) -> None:
    """Gather the rows of a storage root in one table."""
    with errors_told():
        suffix_of(out, TABLES)
        rows = read_rows(storage, sweep)
        write_rows(rows, out)
        log.info("wrote %d rows to %s", len(rows), out)


@app.command(
    "pareto",
    epilog="""\b
Examples:
  python -m analysis pareto rows.csv
  python -m analysis pareto results --x search_cost_epochs --json
  python -m analysis pareto rows.parquet --out frontier.pdf""",
)
def pareto_command(
    source: Rows,
    by: Annotated[
        str, typer.Option(metavar="COLUMN", help=f"A frontier for each: {', '.join(BY)}.")
    ] = "method",
    x: Annotated[
        str,
        typer.Option(
            metavar="COLUMN", help=f"What accuracy is weighed against: {', '.join(MORE_IS_BETTER)}."
        ),
    ] = "compression_ratio",
    as_json: Json = False,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A figure (.png, .svg, .pdf) or all points (.csv)."),
    ] = None,
) -> None:
    """The best points in accuracy and compression.

    Those that no other of their kind beats. Medians over seeds; of several retraining times the
    one with the best median validation accuracy. Accuracies in percent; change is against the
    same seed's dense network.
    """
    with errors_told():
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
        if as_json:
            print(json_text(pareto_json(points, baselines, by, x)), flush=True)
        else:
            print(pareto_text(points, baselines, by, x), flush=True)


@app.command(
    "search-cost",
    epilog="""\b
Examples:
  python -m analysis search-cost rows.csv
  python -m analysis search-cost results --json
  python -m analysis search-cost rows.csv --out search_cost.svg""",
)
def search_cost_command(
    source: Rows,
    as_json: Json = False,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A figure (.png, .svg, .pdf) or all points (.csv)."),
    ] = None,
) -> None:
    """What each accuracy cost to find.

    Epochs and multiply-adds of all retraining up to it. And what sharing stages saved: epochs
    trained against those the rows need one by one.
    """
    with errors_told():
        suffix = suffix_of(out, (*FIGURES, ".csv")) if out else None
        rows = read_rows(source)
        points = search_costs(rows)
        sharing = sharing_of(rows)
        if out and suffix == ".csv":
            write_file(out, table_as_bytes(points, ".csv"))
        elif out:
            accuracy_against_search_cost(rows, out)
        if as_json:
            content = {"points": records(points), "sharing": sharing_json(sharing)}
            print(json_text(content), flush=True)
        else:
            columns = ["method", "retrain_epochs", "search_cost_epochs", "search_cost_flops"]
            print(panels_text(points, dense_baselines(rows), columns))
            print(f"\n{sharing_text(sharing)}" if sharing else "", flush=True)


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


@contextmanager
def errors_told() -> Iterator[None]:
    """One line on stderr. Exit code 1: what was read or written is bad; 2: what was typed."""
    try:
        yield
    except BrokenPipeError:  # head, or another reader, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        typed = isinstance(error, (ValueError, FileNotFoundError))
        raise typer.Exit(2 if typed and not isinstance(error, BadRows) else 1) from None


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    app(prog_name="python -m analysis")


if __name__ == "__main__":
    main()
