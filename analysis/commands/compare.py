"""``rewind-ray analysis compare``."""

from __future__ import annotations

from textwrap import fill
from typing import Annotated, Any

import numpy as np
import pandas as pd
from tyro.conf import arg

from analysis.commands.options import AMOUNT, Json, Margin, Rows
from analysis.questions.compare import (
    WORTH,
    Comparison,
    compare,
    in_points,
    left_out_text,
    outcome_text,
    over,
)
from analysis.questions.judge import MARGIN
from analysis.questions.statistics import ALPHA, CONFIDENCE, MOST_SEEDS, POWER
from analysis.table.metrics import amount, difference_of, margin_of
from analysis.table.points import PANEL
from analysis.table.rows import TABLES, read_rows, suffix_of, table_as_bytes, write_file
from analysis.table.text import aligned, count, json_text, panel_name, percent, records, times

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
    str,
    arg(metavar=AMOUNT, help="A difference worth finding: shows the seeds it takes."),
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
    margin: Margin = f"{100 * MARGIN:g}pt",
    worth: Worth = f"{100 * WORTH:g}pt",
    equal_epochs: EqualEpochs = False,
    json: Json = False,
    out: TableOut = None,
) -> None:
    """Which of two methods is better, and whether that is shown.

    Seeds that share a dense network are paired; mean test accuracies are compared at every
    compression by t tests, corrected for their number (Holm): better, equivalent within the
    margin, or no difference shown. What so few seeds could not have shown is called so, with the
    seeds it would take.

    Examples:
      rewind-ray analysis compare results --methods lr_rewind weight_rewind
      rewind-ray analysis compare rows.parquet --methods slr --json
      rewind-ray analysis compare rows.csv --margin 0.2pt --out compared.csv
      rewind-ray analysis compare rows.csv --equal-epochs --worth 0.3pt
    """
    suffix = suffix_of(out, TABLES) if out else None
    within, sought = margin_of(margin), difference_of(worth, "--worth")
    compared = compare(
        read_rows(source), methods, margin=within, worth=sought, equal_epochs=equal_epochs
    )
    if out and suffix:
        write_file(out, table_as_bytes(compared.scenarios, suffix))
    if json:
        content = compare_json(compared, margin=within, worth=sought, equal_epochs=equal_epochs)
        print(json_text(content), flush=True)
    else:
        print(compare_text(compared, within, sought), flush=True)


def compare_json(
    compared: Comparison, *, margin: float, worth: float, equal_epochs: bool
) -> dict[str, Any]:
    return {
        "alpha": ALPHA,
        "confidence": CONFIDENCE,
        "power": POWER,
        "margin": margin,
        "worth": worth,
        "equal_epochs": equal_epochs,
        "rows_left_out": compared.left_out,
        "comparisons": records(compared.scenarios),
        "overall": records(compared.overall),
    }


def compare_text(compared: Comparison, margin: float, worth: float) -> str:
    """Of a single pair all scenarios; of several pairs each overall, and what was shown."""
    lines, pairs = compared.scenarios, compared.overall
    single = len(pairs[["a", "b"]].drop_duplicates()) == 1
    if single:
        summary, shown = [fill(line.verdict, WIDTH) for line in pairs.itertuples()], lines
    else:
        summary, shown = [_overall(pairs, margin)], lines[lines["better"] != ""]
    tables = [
        f"{panel_name(panel)}\n{_table(group, margin, worth, single=single)}"
        for panel, group in shown.groupby(PANEL, dropna=False)
    ]
    return "\n\n".join([*summary, *tables, fill(_counts(compared, margin, single=single), WIDTH)])


def _counts(compared: Comparison, margin: float, *, single: bool) -> str:
    lines = compared.scenarios
    shown, hopeless = int((lines["better"] != "").sum()), int((~lines["could_show"]).sum())
    equivalent = int(lines["equivalent"].sum())
    within = " or ".join(amount(margin, metric) for metric in sorted(set(lines["metric"])))
    return (
        f"Of {len(lines)} comparisons {shown} show a difference and {equivalent} are equivalent "
        f"within the margin of {within} (--margin); {hopeless} could not have shown a difference "
        "as large as the margin (80% power) with so few seeds. p: t test of the mean difference, "
        "two-sided; Holm: corrected for the number of comparisons; 95% intervals are of each "
        "comparison by itself."
        + ("" if single else " --methods A B shows all of two methods, --out and --json all.")
        + (" " + left_out_text(compared.left_out) if compared.left_out else "")
    )


def _overall(pairs: pd.DataFrame, margin: float) -> str:
    cells = pairs[["a", "b"]].copy()
    if pairs["metric"].nunique() > 1:
        cells["metric"] = pairs["metric"]
    for name in ("scenarios", "ahead", "behind"):
        cells[name] = pairs[name].map(str)
    cells["difference"] = [_difference(line) for line in pairs.itertuples()]
    cells["over"] = [over(line) for line in pairs.itertuples()]
    cells["p"], cells["Holm"] = pairs["p"].map(_p), pairs["p_holm"].map(_p)
    cells["overall"] = [outcome_text(line, margin) for line in pairs.itertuples()]
    return aligned(cells, left={"a", "b", "metric", "overall"})


def _table(lines: pd.DataFrame, margin: float, worth: float, *, single: bool) -> str:
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
    cells[f"seeds for {100 * worth:g}"] = [_seeds(line) for line in lines.itertuples()]
    cells["verdict"] = [_verdict(line, margin) for line in lines.itertuples()]
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
    """-0.28 (-0.83 to +0.28)"""
    if pd.isna(line.low):
        return "" if pd.isna(line.difference) else in_points(line.difference)
    return f"{in_points(line.difference)} ({in_points(line.low)} to {in_points(line.high)})"


def _seeds(line: Any) -> str:
    if pd.isna(line.seeds_needed):
        return ""
    if np.isinf(line.seeds_needed):
        return f">{MOST_SEEDS}"
    return f"{line.seeds_needed:.0f}"


def _verdict(line: Any, margin: float) -> str:
    diverged = line.n_diverged_a + line.n_diverged_b
    failed = f"; {diverged} diverged" if diverged else ""
    if pd.isna(line.p):
        return f"not compared{failed}"
    return outcome_text(line, margin) + failed
