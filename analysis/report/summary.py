"""The first section: what came out, in words and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.draw.figures import line_labels
from analysis.questions.fairness import label_of_pairs
from analysis.questions.headline import NO_DROP, SMALL_DROP, headlines
from analysis.questions.low_bar import low_bar_texts
from analysis.report.blocks import Block, CellText, Facts, Section, Table, Words
from analysis.report.material import Material
from analysis.report.progress import progress_of
from analysis.report.words import cut, lines_of, listed, several, short_names, signed
from analysis.table.groups import group_numbers
from analysis.table.metrics import metric_named
from analysis.table.points import PANEL
from analysis.table.points import how_chosen as how_times_were_chosen
from analysis.table.text import count, panel_name, percent, reached, reached_by_seeds, times

DROPS = {"no drop": NO_DROP, "at most 1 point lost": SMALL_DROP}

HOW_CHOSEN = (
    "Compressions are the highest at which the median test accuracy over seeds stays within the "
    "drop, each seed against its own dense network; the change is this median, so it can differ "
    "from that of the median accuracies. A drop below 0.05 points is none. Compressions are "
    "found by test accuracy, so of several close ones the luckiest. Of methods that get equally "
    "far the one with the highest test accuracy is named first; with few seeds that order can be "
    "chance."
)

SAME_LEVEL = 0.995  # seeds and methods that remove filters differ slightly in density


def summary(material: Material) -> Section:
    found = found_headlines(material)
    blocks: list[Block] = [
        Words(text=progress_of(sweep), kind="warning")
        for sweep in material.sweeps
        if sweep.there < sweep.asked
    ]
    if len(found):
        low_bars = [Words(text=text, kind="warning") for text in low_bar_texts(material.points)]
        blocks += [Words(text=lead(found), kind="lead"), *low_bars, best_table(found, material)]
    blocks.append(Facts(texts=tuple(facts_of(material))))
    if len(found):
        blocks += [
            methods_table(found),
            Words(text=how_chosen(found, material.points), kind="note"),
        ]
    return Section(id="summary", title="Summary", blocks=tuple(blocks))


def found_headlines(material: Material) -> pd.DataFrame:
    """Of every curve and drop, with its ``line``; empty where no accuracy can be compared."""
    points = material.points
    if points["accuracy_change"].isna().all():
        return points.head(0)
    found = headlines(material.rows, tuple(DROPS.values()))
    numbers = group_numbers(pd.concat([points[PANEL], found[PANEL]]), PANEL).to_numpy()
    found = found[np.isin(numbers[len(points) :], numbers[: len(points)])].reset_index(drop=True)
    return found.assign(line=line_labels(found.assign(prune_fraction=found["step"]), "method"))


# In words


def lead(found: pd.DataFrame) -> str:
    without, within = (found[found["max_drop"] == drop] for drop in DROPS.values())
    if found[PANEL].drop_duplicates().shape[0] > 1:
        return (
            f"Median accuracy holds {_farthest(without)}; with at most 1 point lost the networks "
            f"shrink {_farthest(within)}."
        )
    ways = f"{several(len(without), 'way')} of retraining"
    kept = (
        f"Of {ways} {_those(without, 'keep')} the median accuracy {_up_to(without)}"
        if without["compression_ratio"].notna().any()
        else f"None of {ways} keeps the median accuracy at any compression that was tried"
    )
    return f"{kept}; losing at most 1 point, {_those(within, 'get')} {_up_to(within)}."


def _farthest(found: pd.DataFrame) -> str:
    if found["compression_ratio"].isna().all():
        return "nowhere"
    names, _ = short_names(found)
    position = int(found["compression_ratio"].argmax())
    return f"{_up_to(found)} ({names[position]}, {found['line'].iloc[position]})"


def _up_to(found: pd.DataFrame) -> str:
    highest = found["compression_ratio"].max()
    if pd.isna(highest):
        return "anywhere"
    at_least = bool(found.loc[found["compression_ratio"].idxmax(), "at_least"])
    return f"up to {times(highest)}" + (", the most that was tried" if at_least else "")


def _those(found: pd.DataFrame, verb: str) -> str:
    """How many methods get farthest: "1 keeps", "2 keep"."""
    ratio = found["compression_ratio"]
    farthest = int((ratio >= ratio.max() * SAME_LEVEL).sum())
    return f"{farthest or 'none'} {verb}{'s' if farthest == 1 else ''}"


def how_chosen(found: pd.DataFrame, points: pd.DataFrame) -> str:
    """What decided, as far as there was anything to decide."""
    of_times = how_times_were_chosen(points[points["chosen"].astype(bool)])
    parts = [HOW_CHOSEN, *([of_times] if of_times else [])]
    if found["at_least"].any():
        parts.append("≥: no higher compression was tried.")
    if (found["n_seeds"] > 1).any() and found["highest_seed"].notna().any():
        parts.append(
            "What single seeds reach, from the lowest to the highest, is each against its own "
            "dense network."
        )
    lucky = int((found["n_lower_failures"] > 0).sum())
    if lucky:
        which = (
            "1 of the compressions is a lucky one"
            if lucky == 1
            else (f"{lucky} of the compressions are lucky ones")
        )
        parts.append(f"{which}: the same method lost more at a lower compression.")
    return " ".join(parts)


def facts_of(material: Material) -> list[str]:
    rows, points = material.rows, material.points
    n_dense = int((rows["level"] == 0).sum())
    statuses = rows["status"].value_counts()
    diverged, collapsed = int(statuses.get("diverged", 0)), int(statuses.get("collapsed", 0))
    facts = [
        f"{several(len(rows), 'result')}: {several(n_dense, 'dense network')} and "
        f"{several(len(rows) - n_dense, 'pruned one')}; "
        + (
            f"{several(diverged, 'result')} diverged, kept out of medians and counted."
            if diverged
            else "none diverged."
        )
    ]
    if collapsed:
        facts.append(
            f"In {several(collapsed, 'network')} a whole layer is gone; they count as measured."
        )
    if points.empty:
        facts.append("No pruned network is there yet.")
    else:
        facts += points_facts(points)
    if label := label_of_pairs(list(material.pairs)):
        facts.append(f"{label[0].upper()}{label[1:]}.")
    return [
        *facts,
        *(progress_of(sweep) for sweep in material.sweeps if sweep.there == sweep.asked),
    ]


def points_facts(points: pd.DataFrame) -> list[str]:
    facts = [f"{several(len(points), 'point')}, each {' or '.join(what_points_are(points))}."]
    own = points[points["spread_kind"] == "seeds"]
    if own["n_seeds"].max() == 1:
        facts.append("With one seed, it is unknown how far another would differ.")
    panels = points.groupby(PANEL, dropna=False)["accuracy_change"].count()
    alone = [panel_name(panel) for panel in panels.index[panels == 0]]
    if alone:
        facts.append(f"Without a dense accuracy to compare with: {listed(alone)}.")
    by_test = points["chosen"].astype(bool) & (points["chosen_by"] == "test_accuracy")
    if by_test.any():
        facts.append(
            f"The retraining times of {several(int(by_test.sum()), 'point')} are chosen by test "
            "accuracy, for want of a validation accuracy: that flatters them."
        )
    return facts


def what_points_are(points: pd.DataFrame) -> list[str]:
    own, means = (points[points["spread_kind"] == kind] for kind in ("seeds", "deviation"))
    parts = []
    if len(own):
        parts.append(f"the median of {seeds_of(own)}")
    if len(means):
        parts.append(f"a published mean of {seeds_of(means)}")
    if len(own) + len(means) < len(points):
        parts.append("a published number, of as many trials as the paper says")
    return parts


def seeds_of(points: pd.DataFrame) -> str:
    """Of a point: seeds, or trials that a published row sums up, at least."""
    noun = "seed" if (points["spread_kind"] == "seeds").all() else "trial"
    fewest, most = points["n_seeds"].min(), points["n_seeds"].max()
    if points.empty or fewest == most:
        return "" if points.empty else several(int(most), noun)
    return f"{fewest:,} to {several(int(most), noun)}"


# In numbers


def best_table(found: pd.DataFrame, material: Material) -> Table:
    """A line a panel: how far any method gets at each drop."""
    dense = _by_panel(material.baselines)
    of_panel = _by_panel(material.points.drop_duplicates(PANEL))
    few = [*PANEL, "max_drop", "line", "compression_ratio", "test_accuracy", "at_least"]
    groups = list(found[few].astype({"line": object}).groupby(PANEL, dropna=False))
    names, common = short_names(pd.DataFrame([panel for panel, _ in groups], columns=PANEL))
    lines: list[tuple[CellText, ...]] = []
    for name, (panel, group) in zip(names, groups, strict=True):
        assert isinstance(panel, tuple)
        full_name = panel_name(panel)
        unit = metric_named(of_panel[full_name]["metric"]).unit
        best = (_best(group[group["max_drop"] == drop], unit) for drop in DROPS.values())
        lines.append((name, _dense(dense[full_name], unit), *best))
    return cut(
        Table(
            caption=_caption("How small the networks get", common),
            columns=("networks", "dense accuracy", *DROPS),
            lines=tuple(lines),
        )
    )


def _by_panel(table: pd.DataFrame) -> dict[str, dict[Any, Any]]:
    names = [panel_name(panel) for panel in lines_of(table[PANEL])]
    return dict(zip(names, table.to_dict("records"), strict=True))


def _caption(text: str, common: str) -> str:
    return f"{text}: {common}" if common else text


def _dense(baseline: dict[str, Any], unit: str) -> CellText:
    low, high = percent(baseline["test_accuracy_min"]), percent(baseline["test_accuracy_max"])
    n_seeds = baseline["n_seeds"]
    n = f"n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{n_seeds}"
    spread = f"{low}–{high}, {n}" if low != high else n
    return (f"{percent(baseline['test_accuracy'])}{unit}", spread)


def _best(candidates: pd.DataFrame, unit: str) -> CellText:
    """The highest compression that any curve of a panel reaches, and which do."""
    within = candidates[candidates["compression_ratio"].notna()]
    if within.empty:
        return ("none", "every method loses more")
    level = within["compression_ratio"].max() * SAME_LEVEL
    best = within[within["compression_ratio"] >= level]
    best = best.sort_values("test_accuracy", ascending=False, kind="stable")
    names = [f"{line.line} {percent(line.test_accuracy)}{unit}" for line in best.itertuples()]
    ratio, at_least = best["compression_ratio"].median(), bool(best["at_least"].any())
    return (reached(ratio, at_least), listed(names))


def methods_table(found: pd.DataFrame) -> Table:
    """A line a curve; what stands beside is of the compression with the larger drop."""
    without = found[found["max_drop"] == NO_DROP].set_index([*PANEL, "line"])
    within = found[found["max_drop"] == SMALL_DROP].set_index([*PANEL, "line"])
    lossless = without[["compression_ratio", "at_least"]].add_suffix("_lossless")
    table = within.join(lossless).reset_index()
    table = table.assign(by_seed=[reached_by_seeds(line) for line in table.itertuples()])
    table = table.sort_values(
        [*PANEL, "compression_ratio", "test_accuracy"],
        ascending=[True] * len(PANEL) + [False, False],
        na_position="last",
    )
    names, common = short_names(table)
    lines: list[tuple[CellText, ...]] = []
    before = names[0] if len(set(names)) == 1 else None
    for name, row in zip(names, table.to_dict("records"), strict=True):
        if name != before:
            lines.append((name,))
        before = name
        lines.append(
            (
                row["line"],
                reached(row["compression_ratio_lossless"], row["at_least_lossless"]) or "none",
                reached(row["compression_ratio"], row["at_least"]) or "none",
                row["by_seed"],
                percent(row["test_accuracy"]),
                signed(row["accuracy_change"]),
                times(row["speedup"]),
                count(row["search_cost_epochs"]),
                count(row["n_seeds"]),
            )
        )
    numbers = (
        *DROPS,
        "of single seeds",
        "accuracy there",
        "change",
        "speedup",
        "search cost",
        "seeds",
    )
    return cut(
        Table(
            caption=_caption("How far each method gets", common),
            columns=("method", *numbers),
            lines=tuple(lines),
            numeric=frozenset(numbers),
        )
    )
