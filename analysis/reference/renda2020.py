"""The 22,590 trials and 1,180 dense networks published with Renda, Frankle & Carbin, ICLR 2020."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.reference.facts import complete, facts, path, stage_ids

PROTOCOL = "Renda et al. 2020"
METHOD_NAMES = {
    "finetune": "finetune",
    "lottery": "weight_rewind",
    "lr_finetune": "lr_rewind",
    "lr_lottery": "low_lr_weight_rewind",
    "reinit": "reinit",
}
"""The authors' inner names -> ours."""
REWINDS = ("weight_rewind", "lr_rewind", "low_lr_weight_rewind")
DATASETS = {
    "gnmt": "wmt16_en_de",
    "resnet20": "cifar10",
    "resnet34": "imagenet",
    "resnet50": "imagenet",
    "resnet56": "cifar10",
    "resnet110": "cifar10",
    "vgg16_nofc": "cifar10",
}
DENSE_EPOCHS = {"cifar10": 182, "imagenet": 90, "wmt16_en_de": 10}
"""T; Table 1. Of the translation 10 half passes, which Table 1 calls 5 epochs."""
EPOCHS_A_PASS = {"wmt16_en_de": 2}
"""Retraining times of the translation are whole multiples of half a pass; so the authors' own
scripts count them (1 to 10)."""
STEP = 0.2
"""Share of the weights that an iteration prunes; §2.4."""
WHOLE = {"wmt16_en_de": 100}
"""BLEU points that are 1; the other accuracies are fractions."""


def rows() -> pd.DataFrame:
    """One row a trial, and one a dense network."""
    dense = facts("renda2020_baselines.parquet")
    pruned = facts("renda2020_trials.parquet")
    table = pd.concat([dense_rows(dense), trial_rows(pruned, dense)], ignore_index=True)
    return complete(table.assign(protocol=PROTOCOL, status="done", trials=1), PROTOCOL)


def dense_rows(dense: pd.DataFrame) -> pd.DataFrame:
    """``seed`` counts a network's lines in the published table, which says no more of them.

    All but the translation's are listed twice, in no order that we see: of equal lines the second
    half is called so in ``source``.
    """
    equal = dense.groupby(["network", "test_acc", "val_acc"])["test_acc"]
    again = (dense["network"] != "gnmt") & (equal.cumcount() >= equal.transform("size") / 2)
    of_network = common_columns(dense).assign(seed=dense.groupby("network").cumcount())
    identity = stage_ids("renda2020/dense" + path(of_network, ["network", "seed"]))
    return of_network.assign(
        stage_id=identity,
        baseline_id=identity,
        level=0,
        method="dense",
        density=1.0,
        compression_ratio=1.0,
        train_epochs=of_network["dataset"].map(DENSE_EPOCHS),
        search_cost_epochs=0,
        baseline_test_accuracy=of_network["test_accuracy"],
        flops_dense=dense["flops"],
        flops_remaining=dense["flops"],
        speedup=dense["flops"].notna().map({True: 1.0, False: None}),
        source=f"{PROTOCOL}, published dense networks"
        + again.map({True: ", listed again", False: ""})
        + unit(of_network["dataset"]),
    )


def trial_rows(trials: pd.DataFrame, dense: pd.DataFrame) -> pd.DataFrame:
    known = common_columns(trials)
    dataset, iterative = known["dataset"], trials["is_iterative"]
    method = trials["retrain_method"].map(METHOD_NAMES)
    filters = trials["prune_method"].str.startswith("Structured-")
    level = levels(trials)
    epochs = trials["retrain_time"] * dataset.map(EPOCHS_A_PASS).fillna(1)
    dense_epochs = dataset.map(DENSE_EPOCHS)
    train_epochs = epochs + dense_epochs.where(method == "reinit", 0)
    flops_dense = trials["network"].map(dense.groupby("network")["flops"].first())
    fraction = (1 - trials["density"]).mask(filters).mask(iterative, STEP)
    rates = trials["network"] + trials["prune_method"].str.removeprefix("Structured")
    return known.assign(
        **identities(trials, level),
        seed=trials["trial"].str.removeprefix("trial_").astype("int64") - 1,
        level=level,
        structure=np.where(filters, "filters", "unstructured"),
        criterion="magnitude",
        schedule_kind=np.where(iterative, "iterative", "one-shot"),
        method=method,
        density=trials["density"],
        compression_ratio=1 / trials["density"],
        prune_fraction=fraction,
        retrain_epochs=epochs,
        rewind_epoch=(dense_epochs - epochs).where(method.isin(REWINDS)),
        train_epochs=train_epochs,
        search_cost_epochs=level * train_epochs,
        baseline_test_accuracy=trials["network"].map(mean_dense_accuracy(dense)),
        flops_dense=flops_dense,
        flops_remaining=trials["flops"],
        speedup=(flops_dense / trials["flops"]).astype("float64"),
        prune_rates=rates.where(filters),
        prune_scope=pd.Series("global", trials.index).mask(filters),
        restore_momentum=method != "reinit",
        source=f"{PROTOCOL}, published trials" + unit(dataset),
    )


def common_columns(table: pd.DataFrame) -> pd.DataFrame:
    dataset = table["network"].map(DATASETS)
    whole = dataset.map(WHOLE).fillna(1)
    translation = dataset == "wmt16_en_de"
    return pd.DataFrame(
        {
            "network": table["network"],
            "dataset": dataset,
            "task": np.where(translation, "translation", "image_classification"),
            "metric": np.where(translation, "bleu", "accuracy"),
            "optimizer": np.where(translation, "adam", "sgd"),
            "val_accuracy": table["val_acc"] / whole,
            "test_accuracy": table["test_acc"] / whole,
        }
    )


def levels(trials: pd.DataFrame) -> pd.Series:
    """k of a density of 0.8^k (published with four digits or all) if iterative, else 1."""
    steps = np.log(trials["density"]) / np.log(1 - STEP)
    return steps.round().astype("int64").where(trials["is_iterative"], 1)


def identities(trials: pd.DataFrame, level: pd.Series) -> dict[str, pd.Series]:
    """Of the trials, and of what they go on from.

    An iterative trial goes on from its own trial one level up. Which line of the dense networks a
    trial started from isn't published, but which trials had the same one is clear from the
    data (docs/reference.md): one-shot, all of a network and trial number; iteratively, on the
    images, each chain had one of its own, in the translation those of a trial number shared it.
    """
    chain = ["network", "prune_method", "is_iterative", "retrain_method", "retrain_time", "trial"]
    key = path(trials, chain)
    own_dense = trials["is_iterative"] & (trials["network"] != "gnmt")
    shared = "/one trial" + path(trials, ["network", "trial"])
    baseline = stage_ids("renda2020/dense of" + shared.where(~own_dense, key))
    # One-shot, level is 1 throughout and the density distinguishes the trials of a chain
    density = trials["density"].astype("str")
    place = level.astype("str").where(trials["is_iterative"], density)
    above = (level - 1).astype("str")
    return {
        "stage_id": stage_ids("renda2020" + key + "/" + place),
        "parent_id": stage_ids("renda2020" + key + "/" + above).where(level > 1, baseline),
        "baseline_id": baseline,
    }


def mean_dense_accuracy(dense: pd.DataFrame) -> pd.Series:
    """By network; what the paper measures changes against."""
    return common_columns(dense).groupby("network")["test_accuracy"].mean()


def unit(dataset: pd.Series) -> pd.Series:
    halves = " (epochs are half passes)"
    return pd.Series(np.where(dataset.isin(list(EPOCHS_A_PASS)), halves, ""), dataset.index)
