"""How long the dense networks were trained: T, which retraining times are shares of."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.table.groups import group_numbers, grouped

OF_ONE_T = ["network", "dataset", "protocol"]
"""What has one T: it is a setting of the protocol."""


def dense_epochs_of_rows(rows: pd.DataFrame) -> pd.Series:
    """T of each row's dense network, in epochs; NaN where the rows don't say.

    What rewinds says it as k + t: that of the row's own chains first, then that of any with the
    same network, data and protocol. Without these the longest dense row there has it: a network
    that was pruned early may have a shorter row too.
    """
    place, baseline = group_numbers(rows, OF_ONE_T), group_numbers(rows, ["baseline_id"])
    rewound = (rows["rewind_epoch"] + rows["retrain_epochs"]).astype("float64")
    dense = rows["train_epochs"].astype("float64").where(rows["level"] == 0)
    found = pd.Series(np.nan, rows.index)
    for said, among in ((rewound, baseline), (rewound, place), (dense, place), (dense, baseline)):
        if said.notna().any() and found.isna().any():
            found = found.fillna(grouped(said, among).transform("max"))
    return found
