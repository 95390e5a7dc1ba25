"""Tables 4 to 7 of Wang et al. 2023: why the state of neural network pruning is so confusing.

Table 1, a benchmark of other works, is in compared.py: it has speedups and no sizes.
"""

from __future__ import annotations

import pandas as pd

from analysis.reference.facts import complete, facts, fractions, path, stage_ids

PROTOCOL = "Wang et al. 2023"
TRIALS = 3
"""At least; captions of the tables."""
SETUP = r"P(?P<pruned_at>\d+)(?:/k)?F(?P<epochs>\d+), \S+?(?: \(\+(?P<more>\d+) epochs\))?"
""""P30F90, 1e-2 (+60 epochs)": pruned at epoch 30, retrained for 90 and 60 more."""
RATE = r"(?:P\d+(?:/k)?F\d+,|lr) ([\d.]+(?:e-\d+)?)"
"""The first rate of a retraining."""
DENSE_EPOCHS = 120
"""Of ResNet-34; caption of Table 4."""
DENSE_ACCURACY = 0.8456
DENSE_FLOPS = 3_660_000_000
FLOPS = {
    0.1: 3_300_000_000,
    0.3: 2_590_000_000,
    0.5: 1_900_000_000,
    0.7: 1_190_000_000,
    0.9: 480_000_000,
    0.95: 300_000_000,
}
"""Of ResNet-34 by share of filters pruned, to three digits; Table 4."""
ASSUMED_EPOCHS = {"step": 120, "cosine": 120, "scratch_e": 200}
"""Tables 6 and 7, which don't say. 120: the authors' published code for a later paper on the same
networks, data and rates (TPP, ICLR 2023). 200: ours, as in sweeps/wang2023.py."""
PRUNABLE = {"resnet34": 21_267_648, "resnet56": 850_864, "vgg19": 20_018_880}
"""Weights of all convolutions of this project's networks."""
REMAINING = {
    "resnet34": {
        0.1: 19_124_352,
        0.3: 14_918_400,
        0.5: 10_724_544,
        0.7: 6_466_752,
        0.9: 2_260_800,
        0.95: 1_195_200,
    },
    "resnet56": {0.3: 585_904, 0.5: 426_928, 0.7: 250_240, 0.9: 81_184},
    # Of 0.1, 0.3, 0.5 and 0.7 of the filters, as the published speedups have it
    "vgg19": {0.3: 16_161_930, 0.5: 9_793_161, 0.7: 5_015_232, 0.9: 1_793_529},
}
"""Of these, by published share of filters pruned. The paper gives no sizes: counted from the
networks without the filters and the inputs that these were to the next layer, as the published
speedups count (docs/reference.md, tests/analysis/test_reference.py)."""


def rows() -> pd.DataFrame:
    """One row a cell: the mean of three trials, and their standard deviation."""
    tables = facts("wang2023_tables.csv")
    cells = with_trainability(tables[tables["table"] != 1])
    table = pd.concat([dense_row(), pruned_rows(cells)], ignore_index=True)
    constant = {
        "protocol": PROTOCOL,
        "status": "done",
        "task": "image_classification",
        "metric": "accuracy",
        "seed": 0,
    }
    return complete(table.assign(**constant), PROTOCOL)


def with_trainability(cells: pd.DataFrame) -> pd.DataFrame:
    """Table 5 repeats six cells of Table 4 and adds a trainability: each once, with it."""
    cell = ["network", "dataset", "method", "schedule", "pruning_ratio"]
    cells = cells.assign(place="table " + cells["table"].astype("str"))
    repeated = (cells["table"] == 5) & cells.duplicated(cell, keep=False)
    known = cells[repeated].set_index(cell)["trainability_accuracy"]
    once = cells[~repeated].reset_index(drop=True)
    found = pd.Series(known.reindex(pd.MultiIndex.from_frame(once[cell])).to_numpy())
    return once.assign(
        trainability_accuracy=once["trainability_accuracy"].fillna(found),
        place=once["place"].where(found.isna(), "tables 4 and 5"),
    )


def dense_row() -> pd.DataFrame:
    """ResNet-34; the tables have no other."""
    row = pd.DataFrame({"network": ["resnet34"], "dataset": ["imagenet100"]})
    identity = dense_ids(row)
    return row.assign(
        stage_id=identity,
        baseline_id=identity,
        level=0,
        method="dense",
        density=1.0,
        compression_ratio=1.0,
        train_epochs=DENSE_EPOCHS,
        search_cost_epochs=0,
        test_accuracy=DENSE_ACCURACY,
        baseline_test_accuracy=DENSE_ACCURACY,
        flops_dense=DENSE_FLOPS,
        flops_remaining=DENSE_FLOPS,
        speedup=1.0,
        source=f"{PROTOCOL}, table 4",
    )


def dense_ids(table: pd.DataFrame) -> pd.Series:
    return stage_ids("wang2023/dense" + path(table, ["network", "dataset"]))


def pruned_rows(cells: pd.DataFrame) -> pd.DataFrame:
    setup = cells["schedule"].str.extract(f"^{SETUP}$").astype("float64")
    scratch = cells["method"] == "scratch"
    of_table4 = cells["network"] == "resnet34"
    kind = cells["schedule"].str.extract(r"^(step|cosine)\b")[0].fillna("step")
    named = cells["schedule"].where(setup["epochs"].notna(), "").mask(scratch, kind)
    method = kind.mask(scratch, "scratch_e")
    epochs = (setup["epochs"] + setup["more"].fillna(0)).mask(scratch & of_table4, DENSE_EPOCHS)
    mean, deviation = cells["accuracy_mean"], cells["accuracy_std"]
    density = densities(cells)
    dense = dense_ids(cells)
    key = "wang2023" + path(cells, ["network", "dataset", "method", "schedule", "pruning_ratio"])
    return pd.DataFrame(
        {
            "stage_id": stage_ids(key),
            "parent_id": dense,
            "baseline_id": dense,
            "network": cells["network"],
            "dataset": cells["dataset"],
            "level": 1,
            "structure": "filters",
            "criterion": "magnitude",
            "schedule_kind": "one-shot",
            "method": method,
            "density": density,
            "compression_ratio": 1 / density,
            "prune_fraction": cells["pruning_ratio"],
            "retrain_epochs": epochs,
            "train_epochs": epochs.fillna(method.map(ASSUMED_EPOCHS)),
            "search_cost_epochs": epochs,
            "test_accuracy": fractions(mean),
            "trainability_accuracy": fractions(cells["trainability_accuracy"]),
            "baseline_test_accuracy": of_table4.map({True: DENSE_ACCURACY, False: None}),
            "flops_dense": of_table4.map({True: DENSE_FLOPS, False: None}),
            "flops_remaining": cells["pruning_ratio"].map(FLOPS).where(of_table4),
            "speedup": cells["speedup"],
            "pruned_at": setup["pruned_at"],
            "pruned_over_speedup": cells["schedule"].str.contains("/k"),
            "published_setting": named,
            "source": f"{PROTOCOL}, " + cells["place"],
            "retrain_lr": cells["schedule"].str.extract(RATE)[0].astype("float64").mask(scratch),
            "trials": TRIALS,
            "test_accuracy_low": fractions(mean - deviation),
            "test_accuracy_high": fractions(mean + deviation),
            "test_accuracy_std": fractions(deviation),
        }
    )


def densities(cells: pd.DataFrame) -> pd.Series:
    return pd.Series(
        [
            REMAINING[network][ratio] / PRUNABLE[network]
            for network, ratio in zip(cells["network"], cells["pruning_ratio"], strict=True)
        ],
        index=cells.index,
    )
