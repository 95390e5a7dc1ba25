"""``python -m analysis compare``."""

from __future__ import annotations

from textwrap import fill
from typing import Annotated, Any

import numpy as np
import pandas as pd
from tyro.conf import arg

from analysis.commands.options import Json, Rows
from analysis.compare import WORTH, Comparison, compare, in_points, units
from analysis.points import PANEL
from analysis.rows import TABLES, read_rows, suffix_of, table_as_bytes, write_file
from analysis.statistics import ALPHA, CONFIDENCE, MOST_SEEDS, POWER
from analysis.tables import aligned, count, json_text, panel_name, percent, records, times

WIDTH = 100

Methods = Annotated[
    tuple[str, ...],
    arg(
        metavar="NAME",
        help="Two or more: all pairs of them. One: against each other method.",
        help_behavior_hint="(default: all pairs there are)",
    ),
]
Worth = Annotated[
    float,
    arg(metavar="F", help="A difference worth finding, a fraction: the seeds it takes are told."),
]
EqualEpochs = Annotated[
    bool,
    arg(help="Compare at each retraining time that both have, not at each one's best."),
]
TableOut = Annotated[
    str | None,
    arg(
        metavar="FILE",
        help="All comparisons as .csv or .parquet.",
        help_behavior_hint="(optional)",
    ),
]


def compare_command(
    source: Rows,
    *,
    methods: Methods = (),
    worth: Worth = WORTH,
    equal_epochs: EqualEpochs = False,
    json: Json = False,
    out: TableOut = None,
) -> None:
    """Which of two methods is better, and whether that is shown.

    Seeds that share a dense network are paired; mean test accuracies are compared at every
    compression by exact permutation tests, corrected for their number (Holm). What so few seeds
    could not have shown is called so, with the seeds it would take.

    Examples:
      python -m analysis compare results --methods lr_rewind weight_rewind
      python -m analysis compare rows.parquet --methods slr --json
      python -m analysis compare rows.csv --equal-epochs --worth 0.005 --out compared.csv
    """
    suffix = suffix_of(out, TABLES) if out else None
    compared = compare(read_rows(source), methods, worth=worth, equal_epochs=equal_epochs)
    if out and suffix:
        write_file(out, table_as_bytes(compared.scenarios, suffix))
    if json:
        content = compare_json(compared, worth=worth, equal_epochs=equal_epochs)
        print(json_text(content), flush=True)
    else:
        print(compare_text(compared, worth), flush=True)


def compare_json(compared: Comparison, *, worth: float, equal_epochs: bool) -> dict[str, Any]:
    return {
        "alpha": ALPHA,
        "confidence": CONFIDENCE,
        "power": POWER,
        "worth": worth,
        "equal_epochs": equal_epochs,
        "comparisons": records(compared.scenarios),
        "overall": records(compared.overall),
    }


def compare_text(compared: Comparison, worth: float) -> str:
    """Of a single pair all scenarios; of several pairs each overall, and what was shown."""
    lines, pairs = compared.scenarios, compared.overall
    single = len(pairs[["a", "b"]].drop_duplicates()) == 1
    if single:
        told, shown = [fill(line.verdict, WIDTH) for line in pairs.itertuples()], lines
    else:
        told, shown = [_overall(pairs)], lines[lines["better"] != ""]
    tables = [
        f"{panel_name(panel)}\n{_table(group, worth, single=single)}"
        for panel, group in shown.groupby(PANEL, dropna=False)
    ]
    return "\n\n".join([*told, *tables, fill(_counts(lines, single=single), WIDTH)])


def _counts(lines: pd.DataFrame, *, single: bool) -> str:
    shown, hopeless = int((lines["better"] != "").sum()), int((~lines["could_show"]).sum())
    return (
        f"{shown} of {len(lines)} comparisons show a difference, {hopeless} could not have with so "
        "few seeds. p: exact permutation test of the mean difference, two-sided; Holm: corrected "
        "for the number of comparisons; intervals are of each comparison by itself."
        + ("" if single else " --methods A B shows all of two methods, --out and --json all.")
    )


def _overall(pairs: pd.DataFrame) -> str:
    cells = pairs[["a", "b"]].copy()
    for name in ("scenarios", "ahead", "behind"):
        cells[name] = pairs[name].map(str)
    cells["difference"] = pairs["difference"].map(in_points)
    cells["over"] = [f"{line.n} {units(line.design)}" for line in pairs.itertuples()]
    cells["p"], cells["Holm"] = pairs["p"].map(_p), pairs["p_holm"].map(_p)
    cells["overall"] = [
        f"{line.better} better" if line.better else _nothing(line) for line in pairs.itertuples()
    ]
    return aligned(cells, left={"a", "b", "overall"})


def _nothing(line: Any) -> str:
    return "no difference shown" + ("" if line.could_show else ": too few seeds")


def _table(lines: pd.DataFrame, worth: float, *, single: bool) -> str:
    cells = pd.DataFrame(index=lines.index)
    for name in ("criterion", "setting", "step"):
        if lines[name].nunique() > 1:
            cells[name] = lines[name].map(_cell)
    cells["compression"] = lines["compression_ratio"].map(times)
    cells["epochs"] = [
        "/".join(dict.fromkeys(map(count, both)))
        for both in zip(lines["retrain_epochs_a"], lines["retrain_epochs_b"], strict=True)
    ]
    for side in ("a", "b"):
        if not single:
            cells[side] = lines[side]
        mean = lines[f"mean_{side}"].map(percent)
        cells[lines[side].iloc[0] if single else f"mean {side}"] = mean
    cells["n"] = [_sizes(line) for line in lines.itertuples()]
    cells["difference"] = [_difference(line) for line in lines.itertuples()]
    cells["p"], cells["Holm"] = lines["p"].map(_p), lines["p_holm"].map(_p)
    if (lines["better"].eq("") & (lines["p_t_holm"] <= ALPHA)).any():
        cells["if normal"] = lines["p_t_holm"].map(_p)
    cells[f"seeds for {100 * worth:g}"] = [_seeds(line) for line in lines.itertuples()]
    cells["verdict"] = [_verdict(line) for line in lines.itertuples()]
    return aligned(cells, left={"a", "b", "criterion", "setting", "verdict"})


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    return value if isinstance(value, str) else f"{value:g}"


def _p(p: float) -> str:
    return "" if pd.isna(p) else f"{p:.2g}"


def _sizes(line: Any) -> str:
    return str(line.n_a) if line.design == "paired" else f"{line.n_a}+{line.n_b}"


def _difference(line: Any) -> str:
    """-0.28 (-0.83 to +0.28, 75%)"""
    if pd.isna(line.confidence):
        return "" if pd.isna(line.difference) else in_points(line.difference)
    low, high = in_points(line.difference_low), in_points(line.difference_high)
    return f"{in_points(line.difference)} ({low} to {high}, {line.confidence:.0%})"


def _seeds(line: Any) -> str:
    if pd.isna(line.seeds_needed):
        return ""
    if np.isinf(line.seeds_needed):
        return f">{MOST_SEEDS}"
    return f"{line.seeds_needed:.0f}"


def _verdict(line: Any) -> str:
    diverged = line.n_diverged_a + line.n_diverged_b
    failed = f"; {diverged} diverged" if diverged else ""
    if pd.isna(line.p):
        return f"not compared{failed}"
    return (f"{line.better} better" if line.better else _nothing(line)) + failed
