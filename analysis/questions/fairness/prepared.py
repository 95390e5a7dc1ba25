"""The pruned rows that were measured, with the numbers and epochs that verdicts rest on."""

from __future__ import annotations

import logging
import math

import pandas as pd

from analysis.table.columns import BadRows
from analysis.table.details import ALIKE, KNOBS, OF_PRUNE, joined, labels, shown_labels
from analysis.table.groups import group_numbers
from analysis.table.lengths import dense_epochs_of_rows
from analysis.table.points import FRACTION_DIGITS, density_levels
from analysis.table.rows import with_shared_first_levels
from rewind_ray.retraining import METHODS

log = logging.getLogger(__name__)

SAME_RATE = 0.005  # relative; papers print compression and speedup to three digits

NEEDED = [
    *("stage_id", "parent_id", "baseline_id", "network", "dataset", "protocol", "structure"),
    *("schedule_kind", "prune_fraction", "criterion", "method", "variant", "level", "density"),
    *("compression_ratio", "speedup", "retrain_epochs", "train_epochs", "rewind_epoch"),
    *("search_cost_epochs", "search_cost_flops", "flops_dense", "flops_remaining", "trials"),
    *("baseline_test_accuracy", "test_accuracy", "test_accuracy_low", "test_accuracy_high"),
    *("val_accuracy", "status", "source"),
    *("pruned_at", "pruned_over_speedup", "earlier_steps", "published_setting", *KNOBS),
]
"""Columns that a verdict rests on."""

GROUP = [
    *ALIKE,
    *("protocol", "structure", "schedule_kind", "prune_fraction", "criterion", "method", "variant"),
]

OF_RETRAINING = [*ALIKE, "protocol", "schedule_kind", "method"]
"""Rows that a retraining's name tells apart, however they were pruned."""

NEED_RATE = [name for name, method in METHODS.items() if "lr" in method.needs]
FRESH = [name for name, method in METHODS.items() if method.weights == "fresh"]
EPOCH_DIGITS = 6
FORWARD_AND_BACKWARD = 3  # forward passes that an example costs; see search_cost_flops


def prepare(rows: pd.DataFrame) -> pd.DataFrame:
    """The pruned rows that were measured, with what the conditions ask for.

    ``group``, ``level`` (of compression) and ``speedup_level`` are numbers: rows with the same
    level have the same compression, within a network and data set. Raises BadRows if there is none.
    """
    pruned = with_shared_first_levels(rows[NEEDED].assign(dense_epochs=dense_epochs_of_rows(rows)))
    pruned = pruned[pruned["level"] > 0]
    measured = pruned["test_accuracy"].notna() & (pruned["status"] != "diverged")
    if not measured.any():
        raise BadRows(
            f"{len(pruned)} of these {len(rows)} rows are of pruned networks, and none of them has "
            "a test_accuracy without having diverged: there is nothing to compare"
        )
    if not measured.all():
        log.info(
            "left out %d of %d rows, diverged or without test accuracy",
            (~measured).sum(),
            len(pruned),
        )
    pruned = pruned[measured].reset_index(drop=True)
    texts = ["structure", "schedule_kind", "criterion"]
    one_shot = pruned["schedule_kind"] != "iterative"
    fractions = pruned["prune_fraction"].round(FRACTION_DIGITS)
    test = pruned["test_accuracy"]
    words = labels(pruned)
    of_retraining = shown_labels(pruned, within=OF_RETRAINING).drop(
        columns=OF_PRUNE, errors="ignore"
    )
    pruned = pruned.assign(
        **pruned[texts].fillna("unknown"),
        source=pruned["source"].fillna(""),
        pruning=joined(words.filter(OF_PRUNE)),
        start=words["pruned_at"],
        retraining=pruned["published_setting"].where(
            pruned["published_setting"] != "", joined(of_retraining)
        ),
        trials=pruned["trials"].fillna(1).astype("int64"),
        test_accuracy_min=pruned["test_accuracy_low"].fillna(test),
        test_accuracy_max=pruned["test_accuracy_high"].fillna(test),
    )
    group = group_numbers(pruned.assign(prune_fraction=fractions.mask(one_shot)), GROUP)
    density = density_levels(pruned.assign(group=group), ["group"])
    pruned = pruned.assign(group=group, density=density, **_epochs(pruned))
    pruned = pruned.assign(prune_fraction=fractions.mask(one_shot))
    place = group_numbers(pruned, ALIKE)
    speedup = pruned["speedup"].groupby(group_numbers(pruned, ["group", "density"]))
    return pruned.assign(
        level=rate_numbers(1 / density, place),
        speedup_level=rate_numbers(speedup.transform("median"), place),
    )


def rate_numbers(rates: pd.Series, place: pd.Series) -> pd.Series:
    """Numbers: those of two rates of a place are the same where the rates are, to SAME_RATE.

    -1 where the rate is unknown. A number reaches from its lowest rate up, so it can't creep.
    """
    frame = pd.DataFrame({"place": place, "rate": rates})
    pair = group_numbers(frame, ["place", "rate"])
    distinct = frame.assign(pair=pair).drop_duplicates("pair").sort_values(["place", "rate"])
    number, lowest, last, found = -1, math.inf, None, {}
    for where, rate, index in distinct.dropna().itertuples(index=False):
        if where != last or rate > lowest * (1 + SAME_RATE):
            number, lowest, last = number + 1, rate, where
        found[index] = number
    return pair.map(found).fillna(-1).astype("int64")


def _epochs(pruned: pd.DataFrame) -> dict[str, pd.Series]:
    """Per row: pruned_at, pretrain_epochs, pruning_epochs, retrain_epochs, total_epochs,
    total_cost; NaN where unknown.

    Fresh weights count as pruned before training: training from scratch has no base model and no
    pretraining (Wang et al. 2023, Table 4).
    """
    over = pruned["pruned_over_speedup"].fillna(False).astype(bool)
    at = pruned["pruned_at"].where(~over, pruned["pruned_at"] / pruned["speedup"])
    at = at.mask(pruned["method"].isin(FRESH), 0.0)
    pretrain = at.fillna(pruned["dense_epochs"])
    searched = pruned["search_cost_epochs"].astype("float64")
    trained = pruned["train_epochs"].where(pruned["retrain_epochs"].notna()).astype("float64")
    found = {
        "pruned_at": at,
        "pretrain_epochs": pretrain,
        "pruning_epochs": searched - trained,
        "retrain_epochs": trained,
        "total_epochs": pretrain + searched,
    }
    rounded = {name: values.round(EPOCH_DIGITS) for name, values in found.items()}
    return rounded | {"total_cost": pretrain + _search_cost(pruned)}


def _search_cost(pruned: pd.DataFrame) -> pd.Series:
    """Per row search_cost_flops over those of a dense epoch; NaN if unknown.

    At level 1 by the speedup; later by the examples of an epoch, which rows of level 1 imply.
    """
    first = pruned["level"] == 1
    epochs = pruned["search_cost_epochs"].astype("float64")
    passes = pruned["search_cost_flops"] / FORWARD_AND_BACKWARD
    examples = (passes / (pruned["flops_remaining"].astype("float64") * epochs)).where(first)
    examples = examples.groupby(group_numbers(pruned, [*ALIKE, "protocol"])).transform("median")
    later = passes / (pruned["flops_dense"].astype("float64") * examples)
    return (epochs / pruned["speedup"]).where(first, later)
