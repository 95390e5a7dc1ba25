"""What a paper's figure is drawn from: rows, their points, and which of these a panel shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.draw.figures import line_labels
from analysis.draw.looks import METHOD_LABELS
from analysis.table.columns import BadRows
from analysis.table.details import variants
from analysis.table.points import (
    SAME_DENSITY,
    density_levels,
    points_and_trials,
)

NETWORK_LABELS = {
    "resnet20": "ResNet-20",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "resnet56": "ResNet-56",
    "resnet110": "ResNet-110",
    "vgg16": "VGG-16",
    "vgg19": "VGG-19",
    "wrn_16_8": "WRN-16-8",
    "gnmt": "GNMT",
}
DATA_LABELS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "imagenet": "ImageNet",
    "imagenet100": "ImageNet-100",
    "wmt16_en_de": "WMT16 EN-DE",
}
SAME_COMPRESSION = 0.01
"""Relative: 9.31× of 0.8^10 and 9.35× of a density written as 0.107 are one level."""


def place(network: str, dataset: str) -> str:
    return f"{NETWORK_LABELS.get(network, network)} · {DATA_LABELS.get(dataset, dataset)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What a panel of a paper shows; an empty ``rates`` or ``step`` leaves that open."""

    network: str
    dataset: str
    structure: str = "unstructured"
    schedule_kind: str = "one-shot"
    rates: str = ""
    """Of filters by Li et al. 2017, as resnet56-B."""
    step: float | None = None
    """Share of the weights that each iteration prunes."""
    limits: tuple[float, float] | None = None
    """Of the y axis, as the published figure is cut."""

    @property
    def kind(self) -> tuple[str, str]:
        return self.structure, self.schedule_kind

    @property
    def title(self) -> str:
        return f"{place(self.network, self.dataset)}\n{self.pruning}"

    @property
    def pruning(self) -> str:
        network = NETWORK_LABELS.get(self.network, self.network)
        rates = self.rates.removeprefix(f"{self.network}-")
        what = f"filters {network}-{rates}" if self.rates else self.structure
        step = f" by {100 * self.step:.3g}%" if self.step else ""
        return f"{what}, {self.schedule_kind}{step}"

    @property
    def name(self) -> str:
        return self.title.replace("\n", ", ").replace(" · ", " on ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a figure's numbers come from."""

    rows: pd.DataFrame
    paper: str = ""
    """Whose published results these are, as "Renda et al. 2020"; empty: one's own."""
    storage: str = ""
    """The storage root that they were read from; empty: a table, which has no learning curves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcePoints:
    """A source's rows, and all points they make."""

    source: Source
    trials: pd.DataFrame
    """Its ``pruned_rows``, with the column ``point``."""
    points: pd.DataFrame
    """Of ``points_of``; the columns ``point``, its number, ``published``, ``rates``, ``knobs``
    and the lowest and highest ``accuracy_change`` besides."""

    def of(self, points: pd.DataFrame) -> pd.DataFrame:
        """The trials behind these points."""
        return self.trials[self.trials["point"].isin(points["point"])]


def source_points(source: Source) -> SourcePoints:
    rows = source.rows
    points, trials = points_and_trials(rows)
    points = points.assign(
        point=np.arange(len(points)),
        published=bool(source.paper),
        rates=points["prune_rates"].astype("str").fillna(""),
        knobs=variants(points, without=["prune_rates"]),
    )
    return SourcePoints(source=source, trials=trials, points=with_changes(points, trials))


def with_changes(points: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """``points`` with the least and the greatest change of a seed; of a published interval its
    ends."""
    of_point = trials["point"]
    baseline = trials["baseline_test_accuracy"]
    low = (trials["test_accuracy_min"] - baseline).groupby(of_point).min()
    high = (trials["test_accuracy_max"] - baseline).groupby(of_point).max()
    return points.assign(
        accuracy_change_min=points["point"].map(low),
        accuracy_change_max=points["point"].map(high),
    )


# which points a panel shows


def points_in(points: pd.DataFrame, scene: Scene) -> pd.DataFrame:
    kept = (
        (points["network"] == scene.network)
        & (points["dataset"] == scene.dataset)
        & (points["structure"] == scene.structure)
        & (points["schedule_kind"] == scene.schedule_kind)
    )
    if scene.rates:
        kept &= points["rates"] == scene.rates
    found = points[kept]
    if scene.step is not None:
        stepped = (found["prune_fraction"] - scene.step).abs() < 1e-6
        found = found[stepped] if stepped.any() else found
    return found


def scenes_in(points: pd.DataFrame, scenes: Iterable[Scene]) -> tuple[list[Scene], list[str]]:
    """Those of a figure that there are points of, and what is missing, in words.

    If there is none, all scenes of the figure's kinds that there are points of: other networks
    make the same figure. Raises BadRows if there is none either.
    """
    wanted = list(scenes)
    there = [scene for scene in wanted if not points_in(points, scene).empty]
    absent = [scene.name for scene in wanted if scene not in there]
    if there:
        return there, absent
    kinds = {scene.kind for scene in wanted}
    others = points[["network", "dataset", "structure", "schedule_kind", "rates"]].drop_duplicates()
    same_kind = [
        Scene(**line)
        for line in others.to_dict("records")
        if (line["structure"], line["schedule_kind"]) in kinds
    ]
    if not same_kind:
        raise BadRows(
            f"none of these rows fits; the figure shows {'; '.join(absent)}, or other networks "
            f"pruned the same way; here are {', '.join(_kinds(points))}"
        )
    order = [scene.kind for scene in wanted]
    return sorted(same_kind, key=lambda scene: (scene.network, order.index(scene.kind))), absent


def _kinds(points: pd.DataFrame) -> list[str]:
    kinds = points[["network", "structure", "schedule_kind"]].drop_duplicates()
    return [f"{NETWORK_LABELS.get(n, n)} {s} {k}" for n, s, k in kinds.itertuples(index=False)]


def of_methods(points: pd.DataFrame, methods: Iterable[str], known: Iterable[str]) -> pd.DataFrame:
    """Of the paper's ``known`` methods those that its figure shows; of others all.

    One's own method is compared with the paper's. Raises BadRows if nothing is left.
    """
    shown = points["method"].isin(list(methods)) | ~points["method"].isin(list(known))
    if not shown.any():
        wanted = ", ".join(METHOD_LABELS[name] for name in methods)
        there = ", ".join(sorted(set(points["method"])))
        raise BadRows(f"none of these rows fits; the figure shows {wanted}; here are {there}")
    return points[shown]


def facets(points: pd.DataFrame, paper: str) -> list[tuple[str, pd.DataFrame]]:
    """The points of each protocol and metric, which are never in one panel, and a line for their
    title; the paper's own protocol, and a single metric, need none."""
    several = points["metric"].nunique() > 1
    found = []
    for (protocol, metric), group in points.groupby(["protocol", "metric"]):
        parts = ["" if protocol in ("", paper) else f"protocol {protocol}"]
        parts += [metric] if several else []
        words = " · ".join(filter(None, parts))
        found.append((f"\n{words}" if words else "", group))
    return found


def with_lines(points: pd.DataFrame) -> pd.DataFrame:
    """``points`` with the column ``line``: the method, and knobs where a method has several."""
    several = points.groupby("method")["knobs"].transform("nunique") > 1
    named = points.assign(variant=points["knobs"].where(several, ""))
    return points.assign(line=line_labels(named, "method"))


def both(points: pd.DataFrame, theirs: pd.DataFrame | None) -> pd.DataFrame:
    """``points`` and what is laid over them, with their lines."""
    parts = [part for part in (points, theirs) if part is not None]
    return pd.concat([with_lines(part) for part in parts], ignore_index=True)


def lacking(scene: Scene, points: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    absent = [METHOD_LABELS[name] for name in methods if name not in set(points["method"])]
    return [f"{scene.name}: {', '.join(absent)}"] if absent else []


def at_compression(points: pd.DataFrame, compression_ratio: float) -> pd.DataFrame:
    """Those of the level that is nearest, if it is near enough."""
    off = (points["compression_ratio"] / compression_ratio - 1).abs()
    return points[(off <= SAME_COMPRESSION) & (off <= off.min() + SAME_DENSITY)]


def levels(points: pd.DataFrame) -> list[tuple[float, pd.DataFrame]]:
    """Each compression and its points, lowest first."""
    density = density_levels(points, ["network", "dataset", "structure", "schedule_kind"])
    groups = [group for _, group in points.groupby(density)]
    return [(group["compression_ratio"].median(), group) for group in reversed(groups)]


# what trials say that points don't


def extremes(
    points: pd.DataFrame, material: SourcePoints, name: str
) -> tuple[pd.Series, pd.Series]:
    """Lowest and highest value of a column among each point's trials."""
    values = material.of(points).groupby("point")[name].agg(["min", "max"])
    return points["point"].map(values["min"]), points["point"].map(values["max"])
