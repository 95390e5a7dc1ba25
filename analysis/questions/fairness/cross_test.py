"""The cross test: whether the ranking of two ways of pruning depends on the retraining."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.questions.fairness.groups import UNKNOWN_EPOCHS
from analysis.questions.fairness.prepared import NEED_RATE, prepare
from analysis.table.details import joined
from analysis.table.groups import group_numbers
from analysis.table.text import count

TIE = 0.0005  # papers print percent to one or two digits

OF_CROSS_TEST = ["network", "dataset", "protocol", "schedule_kind", "prune_fraction"]
"""Within which A is compared with B, and F_A with F_B."""

FOUR = ["a_fa", "a_fb", "b_fa", "b_fb"]

CROSS_COLUMNS = [
    *OF_CROSS_TEST,
    *("a", "b", "compression_ratio", "f_a", "f_b"),
    *FOUR,
    *(f"n_{cell}" for cell in FOUR),
    *("chosen_by", "ranking_fa", "ranking_fb", "depends", "beyond_spread"),
    *("n_retrainings", "n_a_ahead", "n_b_ahead"),
]


def cross_tests(rows: pd.DataFrame) -> pd.DataFrame:
    """Whether the ranking of two ways of pruning, A and B, depends on the retraining.

    A way of pruning is structure, criterion and knobs; a retraining F is method, knobs and epochs.
    One line for each A, B and compression at which both were retrained in two same ways or more.
    F_A is the one that A is best with by median validation accuracy (by test accuracy where a
    validation accuracy is missing), F_B the best of the others for B. Columns besides
    OF_CROSS_TEST:

    ``a``, ``b``, ``f_a``, ``f_b``: their names; ``a_fb``: median test accuracy of A with F_B, and
    so on; ``n_a_fb``: its seeds; ``chosen_by``: what F_A and F_B were chosen by;
    ``ranking_fa``, ``ranking_fb``: A, B or tie (closer than TIE) with F_A and with F_B;
    ``depends``: A is ahead with the one and B with the other; ``beyond_spread``: each of the four
    has two seeds or more, and those of A and B don't overlap, neither with F_A nor with F_B;
    ``n_retrainings``, ``n_a_ahead``, ``n_b_ahead``: of all the same ways, not only these two.
    """
    both = _retrained_alike(prepare(rows))
    best = both.sort_values("judged_a", ascending=False, kind="stable").drop_duplicates("key")
    others = both.drop(index=best.index).sort_values("judged_b", ascending=False, kind="stable")
    with_fa = best.set_index("key")
    with_fb = others.drop_duplicates("key").set_index("key")
    with_fa = with_fa.loc[with_fb.index]
    ahead = pd.DataFrame({name: both["ranking"] == name for name in ("A", "B")})
    ahead = ahead.groupby(both["key"]).agg(["sum", "size"]).loc[with_fb.index]
    rankings = with_fa["ranking"] + with_fb["ranking"]
    table = with_fa[[*OF_CROSS_TEST, "a", "b", "compression_ratio"]].assign(
        f_a=with_fa["retraining"],
        f_b=with_fb["retraining"],
        a_fa=with_fa["test_a"],
        a_fb=with_fb["test_a"],
        b_fa=with_fa["test_b"],
        b_fb=with_fb["test_b"],
        n_a_fa=with_fa["n_a"],
        n_a_fb=with_fb["n_a"],
        n_b_fa=with_fa["n_b"],
        n_b_fb=with_fb["n_b"],
        chosen_by=with_fa["chosen_by"],
        ranking_fa=with_fa["ranking"],
        ranking_fb=with_fb["ranking"],
        depends=rankings.isin(["AB", "BA"]),
        beyond_spread=with_fa["apart"] & with_fb["apart"],
        n_retrainings=ahead["A", "size"],
        n_a_ahead=ahead["A", "sum"],
        n_b_ahead=ahead["B", "sum"],
    )
    order = [*OF_CROSS_TEST, "a", "b", "compression_ratio"]
    return table[CROSS_COLUMNS].sort_values(order, ignore_index=True)


def _retrained_alike(prepared: pd.DataFrame) -> pd.DataFrame:
    """One line for each A, B, compression and retraining that both had; ``key`` numbers the first
    three."""
    epochs = prepared["retrain_epochs"].fillna(UNKNOWN_EPOCHS)
    points = prepared.assign(epochs=epochs).groupby(["group", "level", "epochs"], as_index=False)
    table = points.agg(
        test=("test_accuracy", "median"),
        val=("val_accuracy", "median"),
        low=("test_accuracy_min", "min"),
        high=("test_accuracy_max", "max"),
        n=("trials", "sum"),
        compression_ratio=("compression_ratio", "median"),
    )
    groups = prepared.drop_duplicates("group").set_index("group")
    texts = {
        name: joined(groups[parts].fillna("").astype("str"))
        for name, parts in (
            ("pruning", ["structure", "criterion", "pruning"]),
            ("way", ["method", "retraining"]),
        )
    }
    names = groups[OF_CROSS_TEST].assign(
        place=group_numbers(groups, OF_CROSS_TEST),
        known=~groups["method"].isin(NEED_RATE) | groups["retrain_lr"].notna(),
        **texts,
    )
    table = table.join(names[names["known"]], on="group", how="inner")
    same = ["place", "level", "way", "epochs"]
    both = table.merge(table, on=same, suffixes=("_a", "_b"))
    both = both[both["pruning_a"] < both["pruning_b"]].reset_index(drop=True)
    lengths = [f", {count(t)} epochs" if t != UNKNOWN_EPOCHS else "" for t in both["epochs"]]
    key = group_numbers(both, ["place", "level", "pruning_a", "pruning_b"])
    unjudged = both[["val_a", "val_b"]].isna().any(axis="columns").groupby(key).transform("any")
    difference = both["test_a"] - both["test_b"]
    tie = difference.abs() < TIE
    ranking = np.select([tie, difference > 0], ["tie", "A"], default="B")
    return both.rename(columns={f"{name}_a": name for name in OF_CROSS_TEST}).assign(
        key=key,
        a=both["pruning_a"],
        b=both["pruning_b"],
        compression_ratio=both["compression_ratio_a"],
        retraining=both["way"] + pd.Series(lengths, index=both.index, dtype="str"),
        chosen_by=unjudged.map({True: "test_accuracy", False: "val_accuracy"}),
        judged_a=both["test_a"].where(unjudged, both["val_a"]),
        judged_b=both["test_b"].where(unjudged, both["val_b"]),
        ranking=pd.Series(ranking, index=both.index, dtype="str"),
        apart=((both["low_a"] > both["high_b"]) | (both["low_b"] > both["high_a"]))
        & (both[["n_a", "n_b"]] > 1).all(axis="columns"),
    )
