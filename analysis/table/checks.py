"""What rows may say: limits of each column, and columns that have to agree with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.table.details import KNOBS
from analysis.table.groups import is_in, places_in
from analysis.table.lengths import dense_epochs_of_rows
from rewind_ray.knobs import check_numbers
from rewind_ray.limits import Numbers
from rewind_ray.result import NUMBERS_COLUMNS, STATUSES
from rewind_ray.text import printable

ROUNDED = 1e-3
"""Relative: published densities and compressions have four digits or more."""
SAME_ACCURACY = 5e-7
"""Published accuracies have six decimals at most; one's own are stored to the last bit."""
LARGEST_WHOLE = 2**53
"""Beyond, neighbouring whole numbers are one in floating point."""

LARGEST_SPEEDUP = 1e12
"""More than the multiply-adds that any network could lose."""

NOT_NEGATIVE = (
    "seed",
    "level",
    "rewind_epoch",
    "train_epochs",
    "search_cost_epochs",
    "search_cost_flops",
    "train_seconds",
    "params_total",
    "params_prunable",
    "params_remaining",
    "test_accuracy_std",
)
FLOPS_LEFT = ("flops_dense", "flops_remaining")
AT_LEAST_ONE = ("retrain_epochs", "trials", "compression_ratio")
ABOVE_ZERO = ("speedup",)
INSIDE_ONE = ("prune_fraction",)
"""Above 0 and below 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What is wrong with a row."""

    row: int
    """Its position in the table, from 0 up."""
    words: str


Check = Callable[[pd.DataFrame], Iterator[Fault]]


def check_rows(rows: pd.DataFrame) -> None:
    """rows: typed, as of ``as_rows``. Raises ValueError for the first fault of the first check."""
    for check in CHECKS:
        for fault in check(rows):
            stage_id = rows["stage_id"].iloc[fault.row]
            raise ValueError(f"row {fault.row + 1} (stage {stage_id}): {fault.words}")


# One value by itself


def infinite(rows: pd.DataFrame) -> Iterator[Fault]:
    for name in rows.columns[rows.dtypes == "float64"]:
        wrong = np.isinf(rows[name].to_numpy())
        if wrong.any():
            row = int(wrong.argmax())
            yield Fault(row=row, words=f"{name} is {rows[name].iloc[row]:g}; allowed: finite")


def accuracies(rows: pd.DataFrame) -> Iterator[Fault]:
    for name in (name for name in rows if _is_accuracy(name)):
        values = _numbers(rows[name])
        for row in _where(~np.isnan(values) & ~((values >= 0) & (values <= 1))):
            value = values[row]
            percent = "; that looks like percent: divide by 100" if 1 < value <= 100 else ""
            yield Fault(
                row=row, words=f"{name} is {value:g}; accuracies are fractions in [0, 1]{percent}"
            )


MAY_EXCEED_ONE = ("trainability_accuracy",)
"""A ratio of accuracies."""


def _is_accuracy(name: str) -> bool:
    return "_accuracy" in name and name not in (*MAY_EXCEED_ONE, "test_accuracy_std")


def limits(rows: pd.DataFrame) -> Iterator[Fault]:
    for names, low, high, allowed in (
        (("density",), 0, 1, "above 0, up to 1"),
        (NOT_NEGATIVE, -0.5, np.inf, "0 and up"),
        (MAY_EXCEED_ONE, -1e-300, np.inf, "0 and up"),
        (AT_LEAST_ONE, 1 - ROUNDED, np.inf, "1 and up"),
        (ABOVE_ZERO, 0, np.inf, "above 0"),
        (FLOPS_LEFT, 0, np.inf, "above 0"),
        (("speedup",), 0, LARGEST_SPEEDUP, f"up to {LARGEST_SPEEDUP:g}"),
        (INSIDE_ONE, 0, np.nextafter(1, 0), "above 0 and below 1"),
    ):
        for name in names:
            values = _numbers(rows[name])
            for row in _where(~np.isnan(values) & ~((values > low) & (values <= high))):
                yield Fault(row=row, words=f"{name} is {values[row]:g}; allowed: {allowed}")


def knobs(rows: pd.DataFrame) -> Iterator[Fault]:
    """Each within the limits that it declares."""
    for name, knob in KNOBS.items():
        allowed = knob.allowed
        if isinstance(allowed, Numbers) and name not in NUMBERS_COLUMNS:
            values = _numbers(rows[name])
            for value in np.unique(values[~np.isnan(values)]).tolist():
                number = int(value) if value.is_integer() else value
                if not allowed.allows(number):
                    row = int((values == value).argmax())
                    yield Fault(row=row, words=f"{name} is {value:g}; allowed: {allowed}")


def words(rows: pd.DataFrame) -> Iterator[Fault]:
    for row in _where(~rows["status"].isin(STATUSES).to_numpy()):
        value = rows["status"].iloc[row]
        yield Fault(row=row, words=f"status is {value!r}; known: {', '.join(STATUSES)}")
    for name in NUMBERS_COLUMNS:
        for text in rows[name].dropna().unique():
            try:
                check_numbers(name, text)
            except ValueError as error:
                row = int((rows[name] == text).to_numpy().argmax())
                yield Fault(row=row, words=str(error))


# Columns of one row


def products(rows: pd.DataFrame) -> Iterator[Fault]:
    """Ratios that are given beside what they are ratios of."""
    ratio, density = _numbers(rows["compression_ratio"]), _numbers(rows["density"])
    for row in _where(np.abs(ratio * density - 1) > ROUNDED):
        yield Fault(
            row=row,
            words=f"compression_ratio {ratio[row]:g} and density {density[row]:g} contradict each "
            f"other: compression_ratio is 1 / density, here {1 / density[row]:g}",
        )
    left, prunable = _numbers(rows["params_remaining"]), _numbers(rows["params_prunable"])
    # Counts are whole, so the share of few weights is coarse
    for row in _where(np.abs(left - density * prunable) > 1 + ROUNDED * density * prunable):
        yield Fault(
            row=row,
            words=f"params_remaining {left[row]:.0f} of params_prunable {prunable[row]:.0f} and "
            f"density {density[row]:g} contradict each other: density is the share that remains",
        )
    speedup, dense, flops = (
        _numbers(rows[name]) for name in ("speedup", "flops_dense", "flops_remaining")
    )
    for row in _where(np.abs(speedup * flops - dense) > speedup + ROUNDED_FLOPS * dense):
        yield Fault(
            row=row,
            words=f"speedup {speedup[row]:g} contradicts flops_dense {dense[row]:.0f} / "
            f"flops_remaining {flops[row]:.0f}",
        )


ROUNDED_FLOPS = 0.02
"""Relative: published FLOPs and speedups have two to three digits."""


def parts(rows: pd.DataFrame) -> Iterator[Fault]:
    """Parts that are no larger than their whole."""
    for part, whole in (
        ("params_remaining", "params_prunable"),
        ("params_prunable", "params_total"),
        ("params_remaining", "params_total"),
        ("flops_remaining", "flops_dense"),
        ("test_accuracy_low", "test_accuracy"),
        ("test_accuracy", "test_accuracy_high"),
        ("retrain_epochs", "search_cost_epochs"),
        ("test_accuracy_low", "test_accuracy_high"),
    ):
        small, large = _numbers(rows[part]), _numbers(rows[whole])
        slack = SAME_ACCURACY if part.startswith("test_") or whole.startswith("test_") else 0
        for row in _where(small > large + slack):
            yield Fault(
                row=row,
                words=f"{part} {small[row]:.10g} is more than {whole} {large[row]:.10g}",
            )


def kinds(rows: pd.DataFrame) -> Iterator[Fault]:
    """A dense network is level 0 and itself; what was pruned isn't."""
    dense, first = (rows["method"] == "dense").to_numpy(), (rows["level"] == 0).to_numpy()
    for row in _where(dense != first):
        method, level = rows["method"].iloc[row], rows["level"].iloc[row]
        yield Fault(
            row=row,
            words=f"method {method!r} and level {level} contradict each other: the dense network, "
            "and nothing else, is level 0",
        )
    for row in _where(dense & (rows["density"] != 1).to_numpy()):
        value = rows["density"].iloc[row]
        yield Fault(row=row, words=f"a dense network's density is {value:g}; it is 1")
    own = (rows["baseline_id"] == rows["stage_id"]).to_numpy()
    for row in _where(dense != own):
        yield Fault(
            row=row,
            words=f"baseline_id {rows['baseline_id'].iloc[row]} with method "
            f"{rows['method'].iloc[row]!r}: a dense network, and nothing else, is its own baseline",
        )
    of_pruned = rows["stage_id"][~first]
    wrong = of_pruned[is_in(of_pruned, pd.Series(rows["baseline_id"].unique()))]
    for row in _where(is_in(rows["baseline_id"], wrong)):
        yield Fault(
            row=row,
            words=f"baseline_id {rows['baseline_id'].iloc[row]} is a pruned network's stage_id; "
            "it names the dense network at the chain's start",
        )


LENGTH_IS_T = (
    *("finetune", "weight_rewind", "lr_rewind", "low_lr_weight_rewind", "blend"),
    *("slr", "clr", "llr", "allr", "step", "cosine"),
)
"""Methods whose stages are trained for t epochs; others add to it, or have their own length."""


def lengths(rows: pd.DataFrame) -> Iterator[Fault]:
    """Where all that a stage trains is its retraining, both have one length."""
    of_t = rows["method"].isin(LENGTH_IS_T).to_numpy()
    trained, retrained = _numbers(rows["train_epochs"]), _numbers(rows["retrain_epochs"])
    for row in _where(of_t & (np.abs(trained - retrained) > 0)):
        yield Fault(
            row=row,
            words=f"train_epochs {trained[row]:.0f} and retrain_epochs {retrained[row]:.0f} "
            f"contradict each other: with {rows['method'].iloc[row]} they are the same",
        )


def fractions(rows: pd.DataFrame) -> Iterator[Fault]:
    """Of one-shot pruning over all kernels the density is what the fraction leaves."""
    plain = (
        (rows["schedule_kind"] == "one-shot")
        & (rows["structure"] == "unstructured")
        & (rows["level"] == 1)
        & (rows["prune_scope"].fillna("global") == "global")
        & rows["prune_layers"].isna()
        & rows["prune_rates"].isna()
    ).to_numpy()
    left, density = 1 - _numbers(rows["prune_fraction"]), _numbers(rows["density"])
    prunable = _numbers(rows["params_prunable"])
    # A layer that would lose all weights may keep one
    slack = np.maximum(SAME_FRACTION, MOST_LAYERS / np.nan_to_num(prunable, nan=np.inf))
    for row in _where(plain & (np.abs(left - density) > slack)):
        yield Fault(
            row=row,
            words=f"prune_fraction {1 - left[row]:g} and density {density[row]:g} contradict each "
            f"other: one-shot, over all layers, {left[row]:g} is left",
        )


SAME_FRACTION = 1e-3
"""Published fractions have three digits or more."""
MOST_LAYERS = 200


# Several rows


def origins(rows: pd.DataFrame) -> Iterator[Fault]:
    """Every baseline_id is one dense network, of one network, dataset and protocol.

    And of one seed, where its own row is there. Without that row, or in published rows, several
    seeds may name one baseline: then it isn't known which dense network each started from.
    """
    for name in ("network", "dataset", "metric", "protocol"):
        yield from _one_each(rows, name, pd.Series(True, rows.index))
    known = rows["baseline_id"].isin(rows.loc[rows["level"] == 0, "stage_id"])
    yield from _one_each(rows, "seed", known & rows["source"].isna())


def _one_each(rows: pd.DataFrame, name: str, judged: pd.Series) -> Iterator[Fault]:
    values = rows[name].where(judged)
    first = values.groupby(rows["baseline_id"]).transform("first")
    differs = judged & values.notna() & first.notna() & (values != first).fillna(False)
    for row in _where(differs.to_numpy(dtype=bool)):
        baseline = rows["baseline_id"].iloc[row]
        among = judged & (rows["baseline_id"] == baseline) & values.notna()
        other = int(among.to_numpy().argmax())
        this, that = (printable(str(rows[name].iloc[each])) for each in (row, other))
        yield Fault(
            row=row,
            words=f"{name} is {this}, but row {other + 1} (stage {rows['stage_id'].iloc[other]}) "
            f"has {that} for the same "
            f"baseline_id {baseline}, which is one dense network",
        )


def parents(rows: pd.DataFrame) -> Iterator[Fault]:
    """A stage is one level above its parent, no larger, and from the same dense network."""
    place = places_in(rows["parent_id"], rows["stage_id"])
    children = np.flatnonzero(place >= 0)
    place = place[children]
    level, density = _numbers(rows["level"]), _numbers(rows["density"])
    baseline, _ = pd.factorize(rows["baseline_id"])
    for wrong, words in (
        (
            level[children] - level[place] != 1,
            "level is {level:.0f}, but {above:.0f} of its parent",
        ),
        (
            density[children] > density[place] * (1 + ROUNDED),
            "density {density:g} is more than its parent's {before:g}",
        ),
        (
            baseline[children] != baseline[place],
            "baseline_id is {baseline}, but {other} of its parent",
        ),
    ):
        for which in _where(wrong):
            row, parent = int(children[which]), int(place[which])
            found = words.format(
                level=level[row],
                above=level[parent],
                density=density[row],
                before=density[parent],
                baseline=rows["baseline_id"].iloc[row],
                other=rows["baseline_id"].iloc[parent],
            )
            yield Fault(row=row, words=f"{found} (stage {rows['parent_id'].iloc[row]})")


def baselines(rows: pd.DataFrame) -> Iterator[Fault]:
    """Every baseline_id has one accuracy, which is that of its own row."""
    accuracy = rows["baseline_test_accuracy"].where(rows["level"] > 0)
    first = accuracy.groupby(rows["baseline_id"]).transform("first")
    for row in _where(((accuracy - first).abs() > SAME_ACCURACY).to_numpy()):
        baseline = rows["baseline_id"].iloc[row]
        among = (rows["baseline_id"] == baseline) & accuracy.notna()
        other = int(among.to_numpy().argmax())
        yield Fault(
            row=row,
            words=f"baseline_test_accuracy is {accuracy.iloc[row]:.10g}, but row {other + 1} "
            f"(stage {rows['stage_id'].iloc[other]}) has {accuracy.iloc[other]:.10g} for the same "
            f"baseline_id {baseline}",
        )
    places = np.flatnonzero(fully_trained(rows) & rows["test_accuracy"].notna())
    dense = rows.iloc[places]
    given = dense["stage_id"].map(accuracy.groupby(rows["baseline_id"]).first()).astype("float64")
    for which in _where(((dense["test_accuracy"] - given).abs() > SAME_ACCURACY).to_numpy()):
        stage_id = dense["stage_id"].iloc[which]
        child = int(((rows["baseline_id"] == stage_id) & accuracy.notna()).to_numpy().argmax())
        yield Fault(
            row=int(places[which]),
            words=f"test_accuracy of the dense network is {dense['test_accuracy'].iloc[which]:.10g}"
            f", but row {child + 1} (stage {rows['stage_id'].iloc[child]}), which was pruned from "
            f"it, has baseline_test_accuracy {given.iloc[which]:.10g}",
        )


def fully_trained(rows: pd.DataFrame) -> pd.Series:
    """The dense networks' rows at T."""
    return (rows["level"] == 0) & (rows["train_epochs"] >= dense_epochs_of_rows(rows))


CHECKS: tuple[Check, ...] = (
    infinite,
    accuracies,
    limits,
    knobs,
    words,
    products,
    parts,
    kinds,
    lengths,
    fractions,
    origins,
    parents,
    baselines,
)


def _numbers(values: pd.Series) -> np.ndarray:
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def _where(wrong: np.ndarray) -> Iterator[int]:
    """Rows, the first first."""
    yield from map(int, np.flatnonzero(wrong))
