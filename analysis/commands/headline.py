"""``rewind-ray analysis headline``."""

from __future__ import annotations

from typing import Annotated, Any

import pandas as pd
from tyro.conf import arg

from analysis.commands.options import AMOUNT, Json, Rows
from analysis.questions.headline import (
    CURVE,
    NO_DROP,
    OF_SEEDS,
    SMALL_DROP,
    costs_at_headlines,
    headlines_of,
    outperforming,
    safe_zone,
)
from analysis.questions.low_bar import low_bar_texts
from analysis.table.metrics import difference_of, metric_named
from analysis.table.points import PANEL, points_and_trials
from analysis.table.rows import read_rows, suffix_of, table_as_bytes, write_file
from analysis.table.spreads import marks_text, spread_column
from analysis.table.text import (
    accuracy_column,
    aligned,
    count,
    json_text,
    panel_name,
    percent,
    reached,
    reached_by_seeds,
    records,
    spreads,
    times,
)
from rewind_ray.errors import UserError

MaxDrops = Annotated[
    tuple[str, ...],
    arg(metavar=AMOUNT, help="Largest drops of the median test accuracy: points or fractions."),
]
Networks = Annotated[
    tuple[str, ...],
    arg(metavar="NAME", help="Only these networks.", help_behavior_hint="(default: all)"),
]
TableOut = Annotated[
    str | None,
    arg(metavar="FILE", help="The lines as .csv or .parquet.", help_behavior_hint="(optional)"),
]


def headline_command(
    source: Rows,
    *,
    max_drops: MaxDrops = (f"{100 * NO_DROP:g}pt", f"{100 * SMALL_DROP:g}pt"),
    networks: Networks = (),
    json: Json = False,
    out: TableOut = None,
) -> None:
    """How small each method gets a network without losing accuracy.

    The highest compression within each drop, with its search cost and speedup; ≥ where nothing
    higher was tried; and what the seeds reach one by one. The retraining time is chosen by
    validation accuracy, the compression by test accuracy. And the rewinding safe zone: the
    retraining times at which both rewindings beat fine-tuning at an equal search cost (Renda et
    al. 2020, §4). A drop below 0.05 points, the precision that papers print, counts as none.

    Examples:
      rewind-ray analysis headline results
      rewind-ray analysis headline rows.parquet --networks resnet56 resnet50 gnmt --json
      rewind-ray analysis headline rows.csv --max-drops 0.05pt 0.5pt 2pt --out headlines.csv
    """
    suffix = suffix_of(out, (".csv", ".parquet")) if out else None
    if not max_drops:
        raise UserError("--max-drops needs a drop, as in 0.5pt or 0.005")
    drops = tuple(difference_of(drop, "--max-drops", zero=True) for drop in max_drops)
    rows = of_networks(read_rows(source), networks)
    points, trials = points_and_trials(rows, OF_SEEDS)
    lines = headlines_of(points, trials, drops)
    one_shot = points[
        (points["schedule_kind"] == "one-shot") & (points["structure"] == "unstructured")
    ]
    leads = outperforming(costs_at_headlines(one_shot, drops))
    if out and suffix:
        write_file(out, table_as_bytes(lines, suffix))
    if json:
        print(json_text(headline_json(lines, leads)), flush=True)
    else:
        parts = (headline_text(lines), choices_text(lines), zone_text(leads))
        print(*parts, *low_bar_texts(points), sep="\n\n", flush=True)


def of_networks(rows: pd.DataFrame, networks: tuple[str, ...]) -> pd.DataFrame:
    """Raises UserError for a network that no row has."""
    known = sorted(set(rows["network"]))
    for name in networks:
        if name not in known:
            raise UserError(f"unknown --networks {name!r}; there: {', '.join(known)}")
    return rows[rows["network"].isin(networks)] if networks else rows


def headline_json(lines: pd.DataFrame, leads: pd.DataFrame) -> dict[str, Any]:
    zone = safe_zone(leads)
    return {
        "headlines": records(lines),
        "safe_zone": None if zone is None else {"start": zone[0], "end": zone[1]},
        "leads": records(leads),
    }


def headline_text(lines: pd.DataFrame) -> str:
    """A table for each panel and drop."""
    parts = []
    for key, group in lines.groupby([*PANEL, "max_drop"], dropna=False):
        *panel, max_drop = key if isinstance(key, tuple) else (key,)
        step = metric_named(str(panel[PANEL.index("metric")])).step
        title = f"{panel_name(tuple(panel))}: drop of at most {100 * max_drop:g} {step}"
        title += "s" if step == "point" and max_drop != SMALL_DROP else ""
        parts.append(f"{title}\n{_table(group, spread_column(lines['spread_kind']))}")
    return "\n\n".join(parts)


def _table(lines: pd.DataFrame, name_of_spread: str) -> str:
    shown = ["method", *(name for name in CURVE[len(PANEL) :] if lines[name].nunique() > 1)]
    cells = pd.DataFrame(index=lines.index)
    for name in dict.fromkeys(shown):
        cells[name] = lines[name].map(lambda value: "" if pd.isna(value) else f"{value}")
    found = lines["compression_ratio"].notna()
    ratios = zip(lines["compression_ratio"], lines["at_least"], strict=True)
    cells["compression"] = [reached(*each) or "none" for each in ratios]
    by_seed = [reached_by_seeds(line) for line in lines.itertuples()]
    if any(by_seed):
        cells["of single seeds"] = by_seed
    cells["change"] = (100 * lines["accuracy_change"]).map("{:+.2f}".format).where(found, "")
    cells[accuracy_column(lines["metric"])] = lines["test_accuracy"].map(percent)
    cells[name_of_spread] = spreads(lines)
    for name in ("retrain_epochs", "search_cost_epochs"):
        cells[name] = lines[name].map(count)
    for name in ("speedup", "speedup_over_finetune"):
        if lines[name].notna().any():
            cells[name] = lines[name].map(times)
    cells["n"] = lines["n_seeds"].map(count)
    notes = [_note(line) for line in lines.itertuples()]
    if any(notes):
        cells["note"] = notes
    return aligned(cells, left={*shown, "note"})


def _note(line: Any) -> str:
    failures = 0 if pd.isna(line.n_lower_failures) else int(line.n_lower_failures)
    parts = []
    if failures:
        which = "compression drops" if failures == 1 else "compressions drop"
        parts.append(f"{failures} lower {which} further")
    if line.chosen_by == "test_accuracy":
        parts.append("t chosen by test accuracy")
    return "; ".join(parts)


def choices_text(lines: pd.DataFrame) -> str:
    """How the numbers were picked, and what they don't say."""
    parts = [
        "Compressions are the highest at which the median test accuracy stays within the drop: "
        "found by test accuracy, so of several close ones the luckiest. Change: the median over "
        "seeds, each against its own dense network."
    ]
    decided = set(lines["chosen_by"].dropna())
    if decided == {"val_accuracy"}:
        parts.append("Retraining times are chosen by validation accuracy.")
    elif "test_accuracy" in decided:
        parts.append(
            "Retraining times marked so are chosen by test accuracy too, for want of a validation "
            "accuracy."
        )
    if lines["at_least"].any():
        parts.append("≥: no higher compression was tried.")
    if spread_column(lines["spread_kind"]) != "min-max":
        parts.append(f"Accuracies are {marks_text(lines, 'spreads').lower()}")
    if (lines["n_seeds"] > 1).any() and lines["highest_seed"].notna().any():
        parts.append("Of single seeds: lowest to highest, each against its own dense network.")
    return " ".join(parts)


def zone_text(leads: pd.DataFrame) -> str:
    """The rewinding safe zone in words, and what was tried."""
    if leads.empty:
        return (
            "rewinding safe zone: unknown; it takes one-shot rows of finetune, weight_rewind "
            "and lr_rewind at the same retraining times, and those of their dense networks"
        )
    tried = " ".join(f"{share:.0%}" for share in sorted(set(leads["share"].round(2))))
    zone = safe_zone(leads)
    networks = ", ".join(sorted(set(leads["network"])))
    if zone is None:
        found = "none: nowhere do both rewindings beat fine-tuning in every scenario"
    else:
        found = f"{' to '.join(f'{end:.0%}' for end in sorted(set(zone)))} of the original training"
    return f"rewinding safe zone: {found}\n(tried on {networks}: {tried})"
