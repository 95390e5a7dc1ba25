"""What a report is made from: rows and points, and what else a storage root holds."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import fs

from analysis.draw.figures import line_labels, mere_first_steps
from analysis.draw.learning_curves import chain_ends, learning_curves
from analysis.questions.fairness import Pair, fairness
from analysis.table.columns import BadRows
from analysis.table.groups import group_numbers
from analysis.table.points import (
    MEDIANS,
    PANEL,
    POINT,
    choose_retrain_epochs,
    dense_baselines,
    density_levels,
    numbers_of_points,
    points_of,
    pruned_rows,
)
from analysis.table.rows import KEY, read_rows
from rewind_ray.spec import Stage, canonical
from rewind_ray.store.files import kind_of
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.opening import open_storage
from rewind_ray.store.side_by_side import side_by_side

log = logging.getLogger(__name__)

MAX_CURVE_STAGES = 500
"""Whose curves are read: 60 small files each at most."""
MAX_MISSING_STAGES = 2_000
"""Of which it is looked up whether they have begun."""
MAX_BASELINES = 60
"""Whose protocols are looked up."""
COMPRESSIONS_ABREAST = 4
"""Shown side by side: the lowest, the highest, and some between."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A stage that has rewind points, but not yet its row."""

    stage: Stage
    epoch: int
    """Its last rewind point."""
    length: int
    """Asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    name: str
    command: tuple[str, ...]
    git_commit: str | None
    asked: int
    """Rows it asked for."""
    there: int
    begun: tuple[Begun, ...]
    not_looked_up: int
    """Stages without their row of which nobody knows whether they have begun: there are many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    source: str
    rows: pd.DataFrame
    points: pd.DataFrame
    """Of ``points_of``; with ``line``, its label in figures; ``size``, the density of its level
    within the panel; ``spread``, whether that is one of the few that are shown abreast; and
    ``chosen``, whether its retraining time is the one chosen by validation accuracy."""
    members: pd.DataFrame
    """The rows of the points: KEY, ``point``, the position of its point, and what a seed got."""
    baselines: pd.DataFrame
    pairs: tuple[Pair, ...]
    """Of ``fairness``; none where nothing is compared."""
    stored: bool
    """Whether the rows come from a storage root."""
    sweeps: tuple[Sweep, ...] = ()
    protocols: tuple[dict[str, Any], ...] = ()
    curves: pd.DataFrame | None = None
    """Of ``learning_curves``, with the ``point`` and the ``seed`` of the chain's end."""
    chains: int = 0
    """That are there, of which ``curves`` holds some."""


def gather(source: str) -> Material:
    """From a .csv, a .parquet or a storage root; see ``read_rows`` for what it raises."""
    rows = read_rows(source)
    material = material_of(rows, source)
    filesystem, path = open_storage(source)
    if kind_of(filesystem, path) != fs.FileType.Directory:
        return material
    ledger = Ledger(source)
    return with_storage(material, ledger)


def material_of(rows: pd.DataFrame, source: str) -> Material:
    points = annotated_points(rows)
    return Material(
        source=source,
        rows=rows,
        points=points,
        members=members_of(rows, points),
        baselines=dense_baselines(rows),
        pairs=compared_pairs(rows),
        stored=False,
    )


def annotated_points(rows: pd.DataFrame) -> pd.DataFrame:
    """Empty if the rows are of dense networks only: a sweep that has just begun.

    As in figures, one-shot points that are but first steps of iterative chains are there once, as
    iterative ones.
    """
    if not (rows["level"] > 0).any():
        return rows.head(0).reindex(columns=NO_POINTS)
    points = points_of(rows)
    skipped = pd.DataFrame(mere_first_steps(rows), columns=PANEL)
    panels = group_numbers(pd.concat([skipped, points[PANEL]]), PANEL).to_numpy()
    first_steps = np.isin(panels[len(skipped) :], panels[: len(skipped)])
    points = points[~first_steps].reset_index(drop=True)
    numbered = points.assign(number=np.arange(len(points)))
    chosen = choose_retrain_epochs(numbered)
    size = density_levels(points, PANEL)
    return points.assign(
        line=line_labels(points, "method"),
        size=size,
        spread=spread_out(size, group_numbers(points, PANEL)),
        chosen=numbered["number"].isin(chosen["number"]),
        chosen_by=numbered["number"].map(chosen.set_index("number")["chosen_by"]),
    )


def compared_pairs(rows: pd.DataFrame) -> tuple[Pair, ...]:
    try:
        return tuple(fairness(rows))
    except BadRows:  # no pruned network has an accuracy
        return ()


NO_POINTS = [
    *POINT,
    "compression_ratio",
    "dense_epochs",
    *MEDIANS,
    "test_accuracy_min",
    "test_accuracy_max",
    "spread_kind",
    "n_seeds",
    "n_diverged",
    "line",
    "size",
    "spread",
    "chosen",
    "chosen_by",
]


def spread_out(sizes: pd.Series, panels: pd.Series) -> pd.Series:
    """Whether a size is one of the COMPRESSIONS_ABREAST that lie evenly among its panel's."""
    flags = pd.Series(False, index=sizes.index)
    for _, group in sizes.groupby(panels):
        levels = np.sort(group.unique())
        picked = np.linspace(0, len(levels) - 1, min(len(levels), COMPRESSIONS_ABREAST))
        flags[group.index] = group.isin(levels[picked.round().astype(int)])
    return flags


def members_of(rows: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    if points.empty:
        return rows.head(0).reindex(columns=[*MEMBER, "point"])
    pruned = pruned_rows(rows)
    of_points, of_trials = numbers_of_points(points, pruned)
    position = np.full(max(of_points.max(), of_trials.max()) + 1, -1)
    position[of_points] = np.arange(len(points))
    members = pruned[MEMBER].assign(point=position[of_trials])
    return members[members["point"] >= 0]


MEMBER = [*KEY, "seed", "test_accuracy", "accuracy_change", "status"]


# what only a storage root holds


def with_storage(material: Material, ledger: Ledger) -> Material:
    """``material``, with learning curves, protocols, and how far the sweeps are."""
    ends = curve_ends(material)
    shown = ends[(ends["level"].cumsum() <= MAX_CURVE_STAGES).to_numpy()]
    curves = learning_curves(ledger, shown)
    shown_by_id = shown.set_index("stage_id")
    present = set(zip(material.rows["stage_id"], material.rows["train_epochs"], strict=True))
    sweeps = [sweep_of(ledger, name, present) for name in ledger.sweeps()]
    return replace(
        material,
        stored=True,
        curves=curves.assign(
            point=curves["chain"].map(shown_by_id["point"]),
            seed=curves["chain"].map(shown_by_id["seed"]),
        ),
        chains=len(ends),
        protocols=protocols_of(ledger, material.rows),
        sweeps=tuple(found for found in sweeps if found),
    )


def curve_ends(material: Material) -> pd.DataFrame:
    """The ends of the chains that are worth drawing, the most informative first.

    Of a line's retraining times at one size the chosen one; of its iterative chains the deepest.
    """
    points = material.points
    about = points[["line", "size", "spread", "chosen", "schedule_kind"]]
    about = about.assign(panel=group_numbers(points, PANEL))
    ends = chain_ends(material.rows).drop(columns="schedule_kind")
    ends = ends.merge(material.members[[*KEY, "point"]].drop_duplicates(KEY), on=KEY)
    ends = ends.join(about, on="point").sort_values(
        ["level", "chosen", "train_epochs"], ascending=False, kind="stable"
    )
    iterative = ends["schedule_kind"] == "iterative"
    ends = ends[~iterative | (ends["level"] > 1)]
    ends["size"] = ends["size"].mask(iterative, 0)
    alike = group_numbers(ends, ["panel", "line", "size"])
    times = ends["retrain_epochs"].fillna(0)
    ends = ends[times == times.groupby(alike).transform("first")]
    return ends.sort_values(
        ["spread", "seed", "panel", "size", "line"],
        ascending=[False, True, True, True, True],
        ignore_index=True,
    )


def protocols_of(ledger: Ledger, rows: pd.DataFrame) -> tuple[dict[str, Any], ...]:
    """Of up to MAX_BASELINES dense networks, each protocol once."""
    first = rows.drop_duplicates(["network", "dataset", "protocol", "baseline_id"])
    found = side_by_side(
        lambda stage_id: _spec(ledger, stage_id), first["baseline_id"][:MAX_BASELINES]
    )
    protocols = [canonical(stage.protocol)["Protocol"] for stage in found if stage]
    return tuple(each for i, each in enumerate(protocols) if each not in protocols[:i])


def sweep_of(ledger: Ledger, name: str, present: set[tuple[str, int]]) -> Sweep | None:
    """None, with a warning, if its record can't be read."""
    try:
        record = ledger.read_sweep(name)
        asked = [(stage, int(n)) for stage, lengths in record["stages"].items() for n in lengths]
        command = tuple(map(str, record.get("command", ())))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        log.warning("skipped sweeps/%s.json, which lists no stages: %r", name, error)
        return None
    longest: dict[str, int] = {}
    for stage_id, length in asked:
        if (stage_id, length) not in present:
            longest[stage_id] = max(length, longest.get(stage_id, 0))
    missing = list(longest.items())
    begun = side_by_side(lambda item: _begun(ledger, *item), missing[:MAX_MISSING_STAGES])
    return Sweep(
        name=name,
        command=command,
        git_commit=record.get("git_commit"),
        asked=len(asked),
        there=sum(key in present for key in asked),
        begun=tuple(each for each in begun if each),
        not_looked_up=max(0, len(missing) - MAX_MISSING_STAGES),
    )


def _begun(ledger: Ledger, stage_id: str, length: int) -> Begun | None:
    """None where there is no rewind point yet."""
    epochs = ledger.points(stage_id)
    stage = _spec(ledger, stage_id) if epochs else None
    return Begun(stage=stage, epoch=epochs[-1], length=length) if stage else None


def _spec(ledger: Ledger, stage_id: str) -> Stage | None:
    try:
        return ledger.read_spec(stage_id)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
