"""``python -m analysis claims``."""

from __future__ import annotations

from typing import Annotated, Any

import pandas as pd
from tyro.conf import arg

from analysis.claims import CLAIMS, VERDICTS, judge
from analysis.commands.options import Json, Rows
from analysis.points import PANEL
from analysis.rows import read_rows, suffix_of, table_as_bytes, write_file
from analysis.tables import aligned, json_text, panel_name, records

Out = Annotated[
    str | None,
    arg(
        metavar="FILE",
        help="Every comparison, one line a compression: .csv or .parquet.",
        help_behavior_hint="(optional)",
    ),
]


def claims_command(source: Rows, *, json: Json = False, out: Out = None) -> None:
    """The papers' claims, judged on these rows.

    Each in every scenario (network, data, structure, one-shot or iterative): supported,
    contradicted or not decided, with the numbers. Differences are in points of test accuracy or
    BLEU, with their 90% interval.

    Examples:
      python -m analysis claims results
      python -m analysis claims rows.parquet --json
      python -m analysis claims rows.csv --out comparisons.csv
    """
    suffix = suffix_of(out, (".csv", ".parquet")) if out else None
    verdicts, lines = judge(read_rows(source))
    if out and suffix:
        write_file(out, table_as_bytes(lines, suffix))
    if json:
        print(json_text(claims_json(verdicts)), flush=True)
    else:
        print(claims_text(verdicts), flush=True)


def claims_json(verdicts: pd.DataFrame) -> dict[str, Any]:
    return {
        name: {
            "text": claim.text,
            "source": claim.source,
            "verdicts": tally(verdicts[verdicts["claim"] == name]),
            "scenarios": records(verdicts[verdicts["claim"] == name].drop(columns="claim")),
        }
        for name, claim in CLAIMS.items()
    }


def claims_text(verdicts: pd.DataFrame) -> str:
    parts = []
    for name, claim in CLAIMS.items():
        scenarios = verdicts[verdicts["claim"] == name]
        title = f"{claim.text}\n({claim.source})"
        if scenarios.empty:
            parts.append(f"{title}\nnothing among these rows to judge it by")
            continue
        counts = ", ".join(f"{number} {verdict}" for verdict, number in tally(scenarios).items())
        parts.append(f"{title}\n{counts}\n{_table(scenarios)}")
    return "\n\n".join(parts)


def tally(scenarios: pd.DataFrame) -> dict[str, int]:
    """Verdict -> in how many scenarios."""
    return {verdict: int((scenarios["verdict"] == verdict).sum()) for verdict in VERDICTS}


def _table(scenarios: pd.DataFrame) -> str:
    cells = pd.DataFrame(index=scenarios.index)
    steps = scenarios["step"].map(lambda step: "" if pd.isna(step) else f"{step:g} a step")
    places = scenarios[[*PANEL, "variant"]].assign(step=steps)
    cells["scenario"] = [panel_name(place) for place in places.itertuples(index=False, name=None)]
    cells["compared"] = scenarios["method"] + " with " + scenarios["method_other"]
    cells["verdict"] = scenarios["verdict"]
    for name in ("difference", "difference_low", "difference_high"):
        cells[name.replace("difference_", "")] = scenarios[name].map(
            lambda value: "" if pd.isna(value) else f"{100 * value:+.2f}"
        )
    cells["worst"] = scenarios["worst_difference"].map(lambda value: f"{100 * value:+.2f}")
    for name in ("points", "supported", "contradicted"):
        cells[name] = scenarios[f"n_{name}"].map(str)
    return aligned(cells, left={"scenario", "compared", "verdict"})
