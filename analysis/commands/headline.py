"""``python -m analysis headline``."""

from __future__ import annotations

from typing import Annotated, Any

import pandas as pd
from tyro.conf import arg

from analysis.commands.options import Json, Rows
from analysis.headline import (
    CURVE,
    NO_DROP,
    SMALL_DROP,
    costs_at_headlines,
    dense_epochs_of,
    headlines,
    outperforming,
    safe_zone,
)
from analysis.points import PANEL, points_of
from analysis.rows import read_rows, suffix_of, table_as_bytes, write_file
from analysis.tables import aligned, count, json_text, panel_name, percent, records, times

MaxDrops = Annotated[
    tuple[float, ...],
    arg(metavar="F", help="Largest drops of the median test accuracy, as fractions."),
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
    max_drops: MaxDrops = (NO_DROP, SMALL_DROP),
    networks: Networks = (),
    json: Json = False,
    out: TableOut = None,
) -> None:
    """How small each method gets a network without losing accuracy.

    The highest compression within each drop, with its search cost and speedup; the retraining
    time chosen by validation accuracy. And the rewinding safe zone: the retraining times at which
    both rewindings beat fine-tuning at an equal search cost (Renda et al. 2020, §4). A drop below
    0.05 points, the precision that papers print, counts as none.

    Examples:
      python -m analysis headline results
      python -m analysis headline rows.parquet --networks resnet56 resnet50 gnmt --json
      python -m analysis headline rows.csv --max-drops 0.0005 0.005 0.02 --out headlines.csv
    """
    suffix = suffix_of(out, (".csv", ".parquet")) if out else None
    if not max_drops or any(not 0 <= drop < 1 for drop in max_drops):
        raise ValueError(f"--max-drops are {max_drops}; allowed: fractions from 0 up to below 1")
    rows = of_networks(read_rows(source), networks)
    points = points_of(rows)
    lines = headlines(points, max_drops)
    one_shot = points[
        (points["schedule_kind"] == "one-shot") & (points["structure"] == "unstructured")
    ]
    leads = outperforming(costs_at_headlines(one_shot, max_drops), dense_epochs_of(rows))
    if out and suffix:
        write_file(out, table_as_bytes(lines, suffix))
    if json:
        print(json_text(headline_json(lines, leads)), flush=True)
    else:
        print(headline_text(lines), zone_text(leads), sep="\n\n", flush=True)


def of_networks(rows: pd.DataFrame, networks: tuple[str, ...]) -> pd.DataFrame:
    """Raises ValueError for a network that no row has."""
    known = sorted(set(rows["network"]))
    for name in networks:
        if name not in known:
            raise ValueError(f"unknown --networks {name!r}; there: {', '.join(known)}")
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
        title = f"{panel_name(tuple(panel))}: drop of at most {100 * max_drop:g} points"
        parts.append(f"{title}\n{_table(group)}")
    return "\n\n".join(parts)


def _table(lines: pd.DataFrame) -> str:
    shown = ["method", *(name for name in CURVE[len(PANEL) :] if lines[name].nunique() > 1)]
    cells = pd.DataFrame(index=lines.index)
    for name in dict.fromkeys(shown):
        cells[name] = lines[name].map(lambda value: "" if pd.isna(value) else f"{value}")
    found = lines["compression_ratio"].notna()
    cells["compression"] = lines["compression_ratio"].map(times).where(found, "none")
    cells["change"] = (100 * lines["accuracy_change"]).map("{:+.2f}".format).where(found, "")
    cells["accuracy"] = lines["test_accuracy"].map(percent)
    for name in ("retrain_epochs", "search_cost_epochs"):
        cells[name] = lines[name].map(count)
    for name in ("speedup", "speedup_over_finetune"):
        if lines[name].notna().any():
            cells[name] = lines[name].map(times)
    cells["n"] = lines["n_seeds"].map(count)
    failures = lines["n_lower_failures"].fillna(0) > 0
    if failures.any():
        cells["note"] = (
            lines["n_lower_failures"]
            .map("{:g} lower compressions drop further".format)
            .where(failures, "")
        )
    return aligned(cells, left={*shown, "note"})


def zone_text(leads: pd.DataFrame) -> str:
    """The rewinding safe zone in words, and how far it can be told."""
    if leads.empty:
        return (
            "rewinding safe zone: can't be told; it takes one-shot rows of finetune, weight_rewind "
            "and lr_rewind at the same retraining times, and those of their dense networks"
        )
    tried = " ".join(f"{share:.0%}" for share in sorted(set(leads["share"].round(2))))
    zone = safe_zone(leads)
    networks = ", ".join(sorted(set(leads["network"])))
    if zone is None:
        told = "none: nowhere do both rewindings beat fine-tuning in every scenario"
    else:
        told = f"{' to '.join(f'{end:.0%}' for end in sorted(set(zone)))} of the original training"
    return f"rewinding safe zone: {told}\n(tried on {networks}: {tried})"
