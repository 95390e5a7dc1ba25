"""Every point of figures 1 to 6 and the results of tables 1, 2 and 5 of Mikler, ReScience 2022."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.reference.facts import PUBLISHED_DIGITS, complete, facts, fractions, path, stage_ids

PROTOCOL = "Mikler 2022"
METHOD_NAMES = {
    "finetuning": "finetune",
    "weight_rewinding": "weight_rewind",
    "lr_rewinding": "lr_rewind",
    "LR rewinding": "lr_rewind",
    "weight rewinding": "weight_rewind",
}
"""Names in figures.csv and of Table 5 -> ours."""
NETWORKS = {
    "ResNet-20": "resnet20",
    "ResNet-56": "resnet56",
    "ResNet-110": "resnet110",
    "WRN-16-8": "wrn_16_8",
}
DATASETS = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100"}
STRUCTURES = {"unstructured": "unstructured", "structured": "filters"}
DENSE_EPOCHS = {"resnet20": 36, "resnet56": 36, "resnet110": 36, "wrn_16_8": 40}
"""T, of 2,000 updates each; §4.1 and Table 4."""
REWIND_EPOCH = 4
"""Of weight rewinding. Not in the paper; the author's published definitions of the experiments
have it in all of them (``initial_epoch: 4``)."""
LEAST_TRIALS = {"1?": None, "2": 2, "2 equal?": 2}
"""The paper says 2 to 12 and not where how many. An interval of no width: equal trials or a single
one, so unknown (in figure 2 two equal ones); symmetrical about the median: two. Of the others
there are at least 3."""
ASYMMETRIC = 3


def rows() -> pd.DataFrame:
    """One row a point of a figure or a line of a table: medians, in figures with 80% intervals."""
    tables = facts("mikler2022_tables.csv")
    dense = dense_rows(tables)
    points = pd.concat([figure_points(), table5_points(tables)], ignore_index=True)
    table = pd.concat([dense, pruned_rows(points, dense)], ignore_index=True)
    constant = {
        "protocol": PROTOCOL,
        "status": "done",
        "task": "image_classification",
        "metric": "accuracy",
        "optimizer": "sgd",
        "seed": 0,
    }
    return complete(table.assign(**constant), PROTOCOL)


def dense_rows(tables: pd.DataFrame) -> pd.DataFrame:
    """Tables 1 and 2: one row a network and data set."""
    cells = tables[tables["table"] <= 2]
    accuracy = cells["column"].str.extract("^(?P<data>CIFAR-.+) accuracy %$")["data"]
    rows = cells.assign(dataset=accuracy.map(DATASETS))
    rows = rows[rows["dataset"].notna() & (rows["value"] != "–")].reset_index(drop=True)
    # The parameters are counted with the ten classes of CIFAR-10
    counted = rows["dataset"] == "cifar10"
    numbers = cells.set_index(["column", "row"])["value"]
    kernels = rows["row"].map(numbers["Kernel parameters"]).where(counted)
    rows = rows.assign(network=rows["row"].map(NETWORKS))
    identity = stage_ids("mikler2022/dense" + path(rows, ["network", "dataset"]))
    test_accuracy = fractions(rows["value"].astype("float64"))
    return pd.DataFrame(
        {
            "stage_id": identity,
            "baseline_id": identity,
            "network": rows["network"],
            "dataset": rows["dataset"],
            "level": 0,
            "method": "dense",
            "density": 1.0,
            "compression_ratio": 1.0,
            "train_epochs": rows["network"].map(DENSE_EPOCHS),
            "search_cost_epochs": 0,
            "test_accuracy": test_accuracy,
            "baseline_test_accuracy": test_accuracy,
            "params_total": rows["row"].map(numbers["Trainable parameters"]).where(counted),
            "params_prunable": kernels,
            "params_remaining": kernels,
            "source": f"{PROTOCOL}, table " + rows["table"].astype("str"),
        }
    )


def figure_points() -> pd.DataFrame:
    """Of the pruned networks. Figure 6's curve in steps of 0.3 is figure 5's: taken once."""
    points = facts("mikler2022_figures.csv")
    points = points[points["method"] != "baseline"]
    again = (points["figure"] == 6) & (points["step_size"] == 0.3)
    both = (points["figure"] == 5) & (points["step_size"] == 0.3)
    both &= points["method"] == "lr_rewinding"
    figure = "figure " + points["figure"].astype("str")
    points = points.assign(place=figure.mask(both, "figures 5 and 6"))[~again]
    return pd.DataFrame(
        {
            "network": points["network"].map(NETWORKS),
            "dataset": points["dataset"].map(DATASETS),
            "structure": points["pruning"].map(STRUCTURES),
            "schedule_kind": points["panel"].where(points["panel"] == "iterative", "one-shot"),
            "method": points["method"].map(METHOD_NAMES),
            "sparsity": points["sparsity"],
            "step": points["step_size"],
            "test_accuracy": fractions(points["accuracy"]),
            "test_accuracy_low": fractions(points["ci_low"]),
            "test_accuracy_high": fractions(points["ci_high"]),
            "trials": points["trials_inferred"].map(
                lambda text: LEAST_TRIALS.get(text, ASYMMETRIC)
            ),
            "place": points["place"],
        }
    )


def table5_points(tables: pd.DataFrame) -> pd.DataFrame:
    """Its pruned networks. How many trials they sum up isn't said."""
    cells = tables[tables["table"] == 5].pivot(index="row", columns="column", values="value")
    cells = cells.drop(index="None").reset_index(drop=True)
    return pd.DataFrame(
        {
            "network": cells["Network"].map(NETWORKS),
            "dataset": cells["Dataset"].map(DATASETS),
            "structure": "unstructured",
            "schedule_kind": "one-shot",
            "method": cells["Retraining"].map(METHOD_NAMES),
            "sparsity": fractions(cells["Sparsity %"].astype("float64")),
            "test_accuracy": fractions(cells["Test accuracy %"].astype("float64")),
            "place": "table 5",
        }
    )


def pruned_rows(points: pd.DataFrame, dense: pd.DataFrame) -> pd.DataFrame:
    iterative = points["schedule_kind"] == "iterative"
    density = (1 - points["sparsity"]).round(PUBLISHED_DIGITS)
    steps = np.log(density) / np.log(1 - points["step"])
    level = steps.where(iterative, 1).round().astype("int64")
    network = dense.set_index(["network", "dataset"])
    of = pd.MultiIndex.from_frame(points[["network", "dataset"]])
    rewound = points["method"] == "weight_rewind"
    dense_epochs = points["network"].map(DENSE_EPOCHS)
    rewind_epoch = pd.Series(0, points.index).mask(rewound, REWIND_EPOCH)
    epochs = dense_epochs - rewind_epoch
    series = ["network", "dataset", "structure", "schedule_kind", "step", "method"]
    key = "mikler2022" + path(points, series)
    place = density.astype("str").mask(iterative, level.astype("str"))
    above = key + "/" + (level - 1).astype("str")
    baseline = pd.Series(network["stage_id"].reindex(of).to_numpy(), points.index)
    return points.drop(columns=["sparsity", "step", "place"]).assign(
        stage_id=stage_ids(key + "/" + place),
        parent_id=stage_ids(above).where(level > 1, baseline),
        baseline_id=baseline,
        level=level,
        criterion="magnitude",
        restore_momentum=False,
        density=density,
        compression_ratio=1 / density,
        prune_fraction=points["step"].where(iterative, points["sparsity"]),
        retrain_epochs=epochs,
        rewind_epoch=rewind_epoch.where(points["method"] != "finetune"),
        train_epochs=epochs,
        search_cost_epochs=level * epochs,
        baseline_test_accuracy=network["test_accuracy"].reindex(of).to_numpy(),
        params_total=network["params_total"].reindex(of).to_numpy(),
        params_prunable=network["params_prunable"].reindex(of).to_numpy(),
        source=f"{PROTOCOL}, " + points["place"],
    )
