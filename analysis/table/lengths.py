"""How long the dense networks were trained: T, which retraining times are shares of."""

from __future__ import annotations

import pandas as pd

OF_ONE_T = ["network", "dataset", "protocol"]
"""What has one T: it is a setting of the protocol."""


def dense_epochs_of_rows(rows: pd.DataFrame) -> pd.Series:
    """T of each row's dense network, in epochs; NaN where the rows don't say.

    What rewinds says it as k + t: that of the row's own chains first, then that of any with the
    same network, data and protocol. Without these the longest dense row there has it: a network
    that was pruned early may have a shorter row too.
    """
    place = [rows[name] for name in OF_ONE_T]
    rewound = (rows["rewind_epoch"] + rows["retrain_epochs"]).astype("float64")
    dense = rows["train_epochs"].astype("float64").where(rows["level"] == 0)
    found = rewound.groupby(rows["baseline_id"]).transform("max")
    for said, among in ((rewound, place), (dense, place), (dense, rows["baseline_id"])):
        found = found.fillna(said.groupby(among, dropna=False).transform("max"))
    return found
