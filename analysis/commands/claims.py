"""``rewind-ray analysis claims``."""

from __future__ import annotations

from textwrap import fill
from typing import Annotated, Any

import pandas as pd
from tyro.conf import arg

from analysis.commands.options import Json, Margin, Rows
from analysis.questions.claims import CLAIMS, VERDICTS, judge, points_text, seeds_of, verdict_text
from analysis.questions.compare import in_points, seeds_text
from analysis.questions.judge import MARGIN
from analysis.table.metrics import amount, margin_of, unit_of
from analysis.table.points import PANEL
from analysis.table.rows import read_rows, suffix_of, table_as_bytes, write_file
from analysis.table.text import aligned, json_text, panel_name, records

WIDTH = 100
MARGIN_TEXT = f"{100 * MARGIN:g}pt"

Out = Annotated[
    str | None,
    arg(
        metavar="FILE",
        help="Every point compared, one line a compression: .csv or .parquet.",
        help_behavior_hint="(optional)",
    ),
]


def claims_command(
    source: Rows, *, margin: Margin = MARGIN_TEXT, json: Json = False, out: Out = None
) -> None:
    """The papers' claims, judged on these rows.

    Each in every scenario (network, data, structure, one-shot or iterative): supported,
    contradicted, equivalent within the margin or not decided, by the 95% interval of the mean
    difference over all compressions, per seed first. Differences are in points of test accuracy
    or BLEU.

    Examples:
      rewind-ray analysis claims results
      rewind-ray analysis claims rows.parquet --margin 0.2pt --json
      rewind-ray analysis claims rows.csv --out comparisons.csv
    """
    suffix = suffix_of(out, (".csv", ".parquet")) if out else None
    within = margin_of(margin)
    verdicts, lines = judge(read_rows(source), within)
    if out and suffix:
        write_file(out, table_as_bytes(lines, suffix))
    if json:
        print(json_text(claims_json(verdicts, within)), flush=True)
    else:
        print(claims_text(verdicts, within), flush=True)


def claims_json(verdicts: pd.DataFrame, margin: float = MARGIN) -> dict[str, Any]:
    return {
        name: {
            "text": claim.text,
            "source": claim.source,
            "margin": margin,
            "verdicts": tally(verdicts[verdicts["claim"] == name]),
            "scenarios": records(verdicts[verdicts["claim"] == name].drop(columns="claim")),
        }
        for name, claim in CLAIMS.items()
    }


def claims_text(verdicts: pd.DataFrame, margin: float = MARGIN) -> str:
    parts = []
    for name, claim in CLAIMS.items():
        scenarios = verdicts[verdicts["claim"] == name]
        title = f"{claim.text}\n({claim.source})"
        if scenarios.empty:
            parts.append(f"{title}\nnothing among these rows to judge it by")
            continue
        counts = ", ".join(f"{number} {verdict}" for verdict, number in tally(scenarios).items())
        parts.append(f"{title}\n{counts}\n{_table(scenarios, margin)}")
    return "\n\n".join([*parts, fill(_how(verdicts, margin), WIDTH)])


def _how(verdicts: pd.DataFrame, margin: float) -> str:
    units = {unit_of(metric) for metric in verdicts["metric"]}
    within = " or ".join(amount(margin, metric) for metric in sorted(set(verdicts["metric"])))
    return (
        f"difference: mean over the compressions of a scenario, in {' or '.join(sorted(units))}, "
        "with its 95% interval (Student's t): averaged per dense network first, paired where "
        '"seeds" is one number. "At least as good" is meant within the margin; equivalent: the '
        f"whole interval is within the margin of {within} (--margin). Each scenario is judged by "
        f"itself: of {len(verdicts)} verdicts at most about {len(verdicts) / 20:.2g} would be "
        "wrong by chance if nothing differed."
        + (" " + UNDECIDED if verdicts["verdict"].eq("not decided").any() else "")
    )


UNDECIDED = (
    "What it would take: seeds that show a difference as large as the margin with 80% power, "
    "guessed from the spread seen; with few seeds a rough guess."
)


def tally(scenarios: pd.DataFrame) -> dict[str, int]:
    """Verdict -> in how many scenarios."""
    return {verdict: int((scenarios["verdict"] == verdict).sum()) for verdict in VERDICTS}


def _table(scenarios: pd.DataFrame, margin: float) -> str:
    cells = pd.DataFrame(index=scenarios.index)
    steps = scenarios["step"].map(lambda step: "" if pd.isna(step) else f"{step:g} a step")
    places = scenarios[[*PANEL, "variant"]].assign(step=steps)
    cells["scenario"] = [panel_name(place) for place in places.itertuples(index=False, name=None)]
    cells["compared"] = scenarios["method"] + " with " + scenarios["method_other"]
    cells["verdict"] = [verdict_text(line, margin) for line in scenarios.itertuples()]
    for name in ("difference", "low", "high"):
        cells[name] = scenarios[name].map(lambda value: "" if pd.isna(value) else in_points(value))
    cells["worst"] = scenarios["worst_difference"].map(in_points)
    cells["points"] = [points_text(line) for line in scenarios.itertuples()]
    cells["seeds"] = [seeds_of(line) for line in scenarios.itertuples()]
    diverged = scenarios["n_diverged"] + scenarios["n_diverged_other"]
    if diverged.any():
        cells["diverged"] = diverged.map(str)
    cells["would take"] = [would_take(line) for line in scenarios.itertuples()]
    if not cells["would take"].any():
        cells = cells.drop(columns="would take")
    return aligned(cells, left={"scenario", "compared", "verdict"})


def would_take(line: Any) -> str:
    """Seeds, where nothing is decided."""
    if line.verdict != "not decided":
        return ""
    if pd.isna(line.seeds_needed):
        return "2 or more" if min(line.n_a, line.n_b) < 2 else "unknown"
    return seeds_text(line.seeds_needed)
