"""Single results of other works, which the papers' figures and tables compare with."""

from __future__ import annotations

import pandas as pd

from analysis.reference.facts import facts, fractions

BENCHMARK = "Wang et al. 2023, table 1"


def compared() -> pd.DataFrame:
    """One line a result. Not rows: of some only the change is published, of others no size.

    Columns as in rows where the names are; ``schedule_kind`` and ``variant`` of the panel that
    draws it. ``accuracy_change`` is against the work's own dense network, ``deviation`` its
    standard deviation, ``retrain_epochs`` where figure 10 draws it, ``epochs`` what the work
    trained for, in words.
    """
    points = pd.concat([facts("compared.csv"), benchmark()], ignore_index=True)
    change = points["test_accuracy"] - points["baseline_test_accuracy"]
    return points.assign(
        accuracy_change=points["accuracy_change"].fillna(change.round(6)),
        compression_ratio=1 / points["density"],
        variant=points["variant"].fillna(""),
    )


def benchmark() -> pd.DataFrame:
    """Filter pruning of ResNet-50 on ImageNet: accuracies and speedups."""
    tables = facts("wang2023_tables.csv")
    lines = tables[tables["table"] == 1]
    return pd.DataFrame(
        {
            "work": lines["method"],
            "method": lines["method"],
            "network": lines["network"],
            "dataset": lines["dataset"],
            "structure": "filters",
            "test_accuracy": fractions(lines["accuracy_mean"]),
            "speedup": lines["speedup"],
            "drawn_in": BENCHMARK,
            "source": BENCHMARK,
        }
    )
