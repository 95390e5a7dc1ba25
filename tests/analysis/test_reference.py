"""Published results as rows: the facts as published, and every derived value against them."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter, defaultdict
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from analysis.__main__ import main
from analysis.commands.reference import reference_command
from analysis.reference import PUBLISHED, compared, published, wang2023
from analysis.reference.facts import facts
from analysis.table.columns import as_rows
from analysis.table.details import keep_what_differs
from analysis.table.points import POINT, choose_retrain_epochs, points_of
from analysis.table.rows import read_rows
from rewind_ray.models import build_network, initialise_
from rewind_ray.pruning import RATES, dense_mask, prunable_parameters
from rewind_ray.pruning.channels import follower_mask
from rewind_ray.pruning.flops import multiply_adds
from rewind_ray.pruning.shrink import cut_of, shrink_
from rewind_ray.pruning.trace import followers
from rewind_ray.retraining import METHODS
from tests.rewind_ray.examples import one_image

SHA256 = {  # of trials.csv and baselines.csv as they were published
    "trials": "c52b07459bcdb2e65ef5d3d7fa9ea6ac05a39f7e3f8523e7583da3726e54ad89",
    "baselines": "5e0fc6c230e02da656acd38b336493330d56ba6b03d224f9ce0428047a325e05",
}
NAMES = {
    "finetune": "finetune",
    "lottery": "weight_rewind",
    "lr_finetune": "lr_rewind",
    "lr_lottery": "low_lr_weight_rewind",
    "reinit": "reinit",
}


@pytest.fixture(scope="module")
def renda():
    return published("renda2020")


@pytest.fixture(scope="module")
def mikler():
    return published("mikler2022")


@pytest.fixture(scope="module")
def wang():
    return published("wang2023")


@pytest.fixture(scope="module")
def trials():
    return facts("renda2020_trials.parquet")


def only(rows, **values):
    """The one row with these values."""
    return several(rows, **values).squeeze(axis="index")


def several(rows, **values):
    for name, value in values.items():
        same = np.isclose(rows[name], value) if isinstance(value, float) else rows[name] == value
        rows = rows[same]
    return rows


# all of them


@pytest.mark.parametrize("name", PUBLISHED)
def test_rows_are_checked_rows_with_a_source_and_keys_of_their_own(name):
    rows = published(name)
    pd.testing.assert_frame_equal(as_rows(rows, "again"), rows.assign(variant=""))
    assert not rows.duplicated(["stage_id", "train_epochs"]).any()
    assert rows["stage_id"].str.fullmatch("[0-9a-f]{16}").all()
    assert rows["source"].notna().all()
    assert (rows["protocol"] != "").all() and rows["protocol"].nunique() == 1
    assert set(rows["method"]) <= {*METHODS, "dense"}
    assert (rows["compression_ratio"] * rows["density"]).sub(1).abs().max() < 1e-12
    dense = rows[rows["level"] == 0]
    assert (dense["method"] == "dense").all() and (dense["baseline_id"] == dense["stage_id"]).all()
    assert dense["parent_id"].isna().all()
    inside = rows["test_accuracy_low"].isna() | (
        (rows["test_accuracy_low"] <= rows["test_accuracy"])
        & (rows["test_accuracy"] <= rows["test_accuracy_high"])
    )
    assert inside.all()
    pd.testing.assert_frame_equal(published(name), rows)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_stage_comes_after_one_of_its_own_chain(name):
    rows = published(name)
    pruned = rows[rows["level"] > 0]
    assert (pruned["parent_id"] == pruned["baseline_id"]).equals(pruned["level"] == 1)
    later = pruned[pruned["level"] > 1]
    parents = rows.set_index("stage_id").loc[later["parent_id"]]
    assert (parents["level"].to_numpy() == later["level"].to_numpy() - 1).all()
    of_chain = ["network", "method", "retrain_epochs", "prune_fraction", "seed", "baseline_id"]
    same = parents[of_chain].reset_index(drop=True) == later[of_chain].reset_index(drop=True)
    assert same.to_numpy().all()
    assert (parents["density"].to_numpy() > later["density"].to_numpy()).all()
    cost = parents["search_cost_epochs"].to_numpy() + later["train_epochs"].to_numpy()
    assert (cost == later["search_cost_epochs"].to_numpy()).all()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_written_and_read_again_they_are_the_same(name, suffix, tmp_path):
    out = str(tmp_path / f"rows{suffix}")
    reference_command(name, out=out)
    expected = keep_what_differs(published(name))
    pd.testing.assert_frame_equal(read_rows(out), expected, check_exact=True)


def test_command_and_its_errors(tmp_path, capsys):
    out = str(tmp_path / "rows.csv")
    assert main(["reference", "wang2023", "--out", out]) == 0
    assert len(read_rows(out)) == 129
    capsys.readouterr()
    assert main(["reference", "renda2021", "--out", out]) == 2
    assert capsys.readouterr().err == (
        "error: no published results 'renda2021'; there are renda2020, mikler2022, wang2023\n"
    )
    assert main(["reference", "wang2023", "--out", "rows.xlsx"]) == 2
    assert "allowed: .csv, .parquet" in capsys.readouterr().err


# Renda et al. 2020


@pytest.mark.parametrize("name", SHA256)
def test_facts_are_the_published_files_byte_by_byte(name):
    table = facts(f"renda2020_{name}.parquet")
    assert hashlib.sha256(table.to_csv(index=False).encode()).hexdigest() == SHA256[name]


def test_each_trial_and_each_line_of_a_dense_network_is_a_row(renda):
    assert len(renda) == 22_590 + 1_180
    dense = renda[renda["method"] == "dense"]
    assert dense["network"].value_counts().to_dict() == {
        "vgg16_nofc": 246,
        "resnet20": 246,
        "resnet56": 246,
        "resnet110": 246,
        "resnet50": 180,
        "gnmt": 10,
        "resnet34": 6,
    }
    assert "vgg16_nofc" not in set(renda.loc[renda["level"] > 0, "network"])


SPOTS = [  # lines of trials.csv, copied from it, and what else their rows say
    (
        "resnet20,Unstructured,False,finetune,0.1074,10.0,trial_1,0.838,0.8355,",
        {"level": 1, "prune_fraction": 0.8926, "train_epochs": 10, "search_cost_epochs": 10},
    ),
    (
        "resnet50,Unstructured,True,lr_finetune,0.1677721600000001,90.0,trial_2,"
        "0.7587389823717948,0.7585136217948718,795546163.0",
        {
            "level": 8,
            "prune_fraction": 0.2,
            "rewind_epoch": 0,
            "train_epochs": 90,
            "search_cost_epochs": 720,
            "flops_dense": 3_814_813_672,
            "speedup": 3_814_813_672 / 795_546_163,
        },
    ),
    (
        "gnmt,Unstructured,True,lottery,0.0281,4.5,trial_3,0.0,0.0,",
        {
            "level": 16,
            "prune_fraction": 0.2,
            "rewind_epoch": 1,
            "train_epochs": 9,
            "search_cost_epochs": 144,
            "status": "done",
        },
    ),
    (
        "gnmt,Unstructured,False,lr_finetune,0.1074,5.0,trial_1,23.83,21.2199993133545,",
        {"level": 1, "rewind_epoch": 0, "train_epochs": 10, "search_cost_epochs": 10},
    ),
    (
        "resnet56,Structured-B,False,reinit,0.6998591152437307,182.0,trial_2,0.929375,0.927,",
        {
            "level": 1,
            "variant": "resnet56-B",
            "train_epochs": 364,
            "search_cost_epochs": 364,
        },
    ),
]


@pytest.mark.parametrize(("line", "expected"), SPOTS, ids=[line[:40] for line, _ in SPOTS])
def test_spots(line, expected, renda):
    network, structure, iterative, method, density, t, trial, test, val, flops = line.split(",")
    whole, epochs = (100, 2) if network == "gnmt" else (1, 1)  # BLEU points; in half passes
    row = only(
        renda,
        network=network,
        structure="unstructured" if structure == "Unstructured" else "filters",
        schedule_kind="iterative" if iterative == "True" else "one-shot",
        method=NAMES[method],
        density=float(density),
        retrain_epochs=int(epochs * float(t)),
        seed=int(trial[-1]) - 1,
        variant=expected.get("variant", ""),
    )
    assert (row["test_accuracy"], row["val_accuracy"]) == (float(test) / whole, float(val) / whole)
    assert row[list(expected)].to_dict() == pytest.approx(expected)
    for name in {"prune_fraction", "rewind_epoch", "speedup"} - expected.keys():
        known_otherwise = name == "prune_fraction" and structure == "Unstructured"
        assert known_otherwise or pd.isna(row[name])
    assert ("half passes" in row["source"]) == (network == "gnmt")
    assert (
        pd.isna(row["flops_remaining"]) if flops == "" else row["flops_remaining"] == float(flops)
    )


def test_dense_accuracy_is_the_mean_that_table_2_prints(renda):
    """But for ResNet-34: 73.60 is printed, and the published networks' mean is 73.50."""
    pruned = renda[renda["level"] > 0]
    per_network = pruned.groupby("network")["baseline_test_accuracy"].unique()
    assert (per_network.str.len() == 1).all()
    assert (100 * per_network.str[0]).round(2).to_dict() == {
        "resnet20": 91.71,
        "resnet34": 73.50,
        "resnet50": 76.17,
        "resnet56": 93.46,
        "resnet110": 93.78,
        "gnmt": 26.87,
    }


def test_the_networks_of_the_images_are_listed_twice(renda):
    dense = renda[renda["method"] == "dense"]
    again = dense["source"].str.contains("listed again")
    accuracies = ["network", "test_accuracy", "val_accuracy"]
    first, second = (
        Counter(map(tuple, part[accuracies].values))
        for part in (dense[~again & (dense["network"] != "gnmt")], dense[again])
    )
    assert first == second and sum(first.values()) == 585
    assert again.sum() == 585 and not again[dense["network"] == "gnmt"].any()


def test_trials_of_one_number_are_one_chain(renda):
    """A network with more FLOPs than its two siblings came from one that had more, too."""
    known = renda[(renda["level"] > 0) & renda["flops_remaining"].notna()].set_index("stage_id")
    siblings = ["network", "method", "retrain_epochs", "level"]
    logarithm = np.log(known["flops_remaining"].astype("float64"))
    above_siblings = logarithm - logarithm.groupby([known[name] for name in siblings]).transform(
        "mean"
    )
    of_parent = above_siblings.reindex(known["parent_id"]).to_numpy()
    both = ~np.isnan(of_parent) & (above_siblings != 0).to_numpy()
    assert both.sum() > 3500
    assert np.corrcoef(above_siblings[both], of_parent[both])[0, 1] > 0.98


def likeness(renda, network, kind):
    """Mean correlation, over pairs of retraining times, of fine-tuned accuracies of a seed."""
    rows = several(renda, network=network, schedule_kind=kind, structure="unstructured")
    rows = rows[(rows["method"] == "finetune") & (rows["density"] > 0.3)]
    point = [rows["density"], rows["retrain_epochs"].astype("int64")]
    above = rows["test_accuracy"] - rows.groupby(point)["test_accuracy"].transform("mean")
    table = rows.assign(above=above).pivot(
        index=["density", "seed"], columns="retrain_epochs", values="above"
    )
    pairs = table.corr().to_numpy()
    return pairs[~np.eye(len(pairs), dtype=bool)].mean()


@pytest.mark.parametrize("network", ["resnet20", "resnet50", "resnet56", "resnet110", "gnmt"])
def test_trials_of_one_number_had_the_same_dense_network_only_one_shot(network, renda):
    """Or, in the translation, always: a good dense network gives good pruned ones."""
    assert likeness(renda, network, "one-shot") > 0.2
    if network == "gnmt":
        assert likeness(renda, network, "iterative") > 0.2
    else:
        assert abs(likeness(renda, network, "iterative")) < 0.1


def test_which_trials_share_a_dense_network(renda):
    """And no two iterative chains have the same FLOPs after their first step."""
    pruned = renda[renda["level"] == 1]
    count = pruned.groupby(["network", "schedule_kind"])["baseline_id"].nunique()
    assert count.xs("one-shot", level=1).eq(3).all()
    assert count.xs("iterative", level=1).to_dict() == {
        "gnmt": 3,
        "resnet20": 120,
        "resnet50": 90,
        "resnet56": 120,
        "resnet110": 120,
    }
    known = pruned[pruned["flops_remaining"].notna()]
    assert known.groupby("network")["flops_remaining"].nunique().sum() == len(known)


def test_one_level_has_one_density_and_its_trials_are_one_point(renda):
    points = points_of(renda)
    assert len(points) == 22_590 / 3 and (points["n_seeds"] == 3).all()
    assert not points.duplicated([name for name in POINT if name != "density"] + ["density"]).any()
    iterative = points[points["schedule_kind"] == "iterative"]
    assert iterative.groupby(["network", "level"])["density"].nunique().eq(1).all()
    # Four digits are published of the translation's densities; the last is 0.0038
    exact = 0.8 ** iterative["level"].astype("float64")
    assert (iterative["density"] - exact).abs().max() < 5.1e-5


def test_the_papers_rule_against_brute_force_on_the_published_trials(renda, trials):
    """§3: for each density the retraining time with the best median validation accuracy."""
    accuracies = defaultdict(lambda: defaultdict(list))
    for line in trials.itertuples(index=False):
        structure = line.prune_method.removeprefix("Structured")
        variant = "" if structure == "Unstructured" else line.network + structure
        curve = (line.network, variant, line.is_iterative, NAMES[line.retrain_method])
        accuracies[*curve, line.density][line.retrain_time].append((line.val_acc, line.test_acc))
    expected = {}
    for point, by_time in accuracies.items():
        whole, epochs = (100, 2) if point[0] == "gnmt" else (1, 1)
        best = max(by_time, key=lambda t: (statistics.median(v for v, _ in by_time[t]), -t))
        tests = [test / whole for _, test in by_time[best]]
        summary = (statistics.median(tests), min(tests), max(tests))
        expected[point] = (epochs * best, *summary)
    chosen = choose_retrain_epochs(points_of(renda))
    found = {
        (p.network, p.variant, p.schedule_kind == "iterative", p.method, p.density): (
            p.retrain_epochs,
            p.test_accuracy,
            p.test_accuracy_min,
            p.test_accuracy_max,
        )
        for p in chosen.itertuples()
    }
    assert len(expected) == 753 and found == expected


# Mikler 2022


def test_points_and_tables_of_mikler(mikler):
    pruned = mikler[mikler["level"] > 0]
    assert pruned["source"].value_counts().to_dict() == {
        "Mikler 2022, figure 1": 60,
        "Mikler 2022, figure 2": 72,
        "Mikler 2022, figure 3": 30,
        "Mikler 2022, figure 4": 30,
        "Mikler 2022, figure 5": 25,
        "Mikler 2022, figure 6": 10,
        "Mikler 2022, figures 5 and 6": 13,
        "Mikler 2022, table 5": 3,
    }
    dense = mikler[mikler["level"] == 0].set_index(["network", "dataset"])
    assert dense["test_accuracy"].to_dict() == {
        ("resnet20", "cifar10"): 0.9246,
        ("resnet56", "cifar10"): 0.9371,
        ("resnet110", "cifar10"): 0.9429,
        ("resnet56", "cifar100"): 0.719,
        ("resnet110", "cifar100"): 0.7221,
        ("wrn_16_8", "cifar10"): 0.9572,
    }
    assert dense.loc[("wrn_16_8", "cifar10"), "params_prunable"] == 10_954_160
    assert dense.loc[("wrn_16_8", "cifar10"), "source"] == "Mikler 2022, table 2"


def test_spots_of_mikler(mikler):
    wrn = several(mikler, network="wrn_16_8", schedule_kind="iterative", prune_fraction=0.3)
    last = only(wrn, method="weight_rewind", level=13)
    assert last["density"] == 0.01 and last["compression_ratio"] == 100
    assert last["test_accuracy"] == 0.93855
    assert (last["test_accuracy_low"], last["test_accuracy_high"]) == (0.93651, 0.94059)
    assert (last["retrain_epochs"], last["rewind_epoch"], last["trials"]) == (36, 4, 2)
    assert last["search_cost_epochs"] == 13 * 36
    alone = only(wrn, method="lr_rewind", level=13)
    assert alone["test_accuracy"] == 0.8752 and pd.isna(alone["trials"])
    assert pd.isna(alone["test_accuracy_low"]) and alone["retrain_epochs"] == 40
    small = only(
        mikler,
        network="resnet20",
        structure="unstructured",
        schedule_kind="one-shot",
        method="lr_rewind",
        density=0.107,
    )
    assert small["test_accuracy"] == 0.9032 and small["baseline_test_accuracy"] == 0.9246
    assert small["prune_fraction"] == pytest.approx(0.893) and small["trials"] == 3
    assert small["params_prunable"] == 270_896
    table5 = several(mikler, network="resnet110", level=1).set_index("method")["test_accuracy"]
    assert table5.to_dict() == {
        "lr_rewind": 0.9374,
        "weight_rewind": 0.9373,
        "finetune": 0.9332,
    }


def test_levels_of_mikler_are_steps_of_the_printed_size(mikler):
    """Densities are printed to three decimals."""
    steps = mikler[mikler["schedule_kind"] == "iterative"]
    exact = (1 - steps["prune_fraction"]) ** steps["level"]
    assert (steps["density"] - exact).abs().max() < 5e-4
    curves = steps.groupby(["network", "method", "prune_fraction"])["level"]
    assert all(sorted(levels) == list(range(1, len(levels) + 1)) for _, levels in curves)


def test_a_mikler_interval_that_is_not_symmetrical_is_of_more_than_two_trials():
    points = facts("mikler2022_figures.csv").query("method != 'baseline'")
    middle = (points["ci_low"] + points["ci_high"]) / 2
    symmetrical = np.isclose(middle, points["accuracy"], atol=1e-3)
    drawn = points["ci_low"].notna()
    assert (symmetrical[drawn] == (points["trials_inferred"][drawn] == "2")).all()


def test_figure_6_repeats_a_curve_of_figure_5():
    points = facts("mikler2022_figures.csv").query("step_size == 0.3 and method == 'lr_rewinding'")
    numbers = ["compression_ratio", "accuracy"]
    fifth, sixth = (points.loc[points["figure"] == n, numbers].to_numpy() for n in (5, 6))
    assert (fifth[: len(sixth)] == sixth).all() and len(sixth) == 8


# Wang et al. 2023


def test_cells_of_wang(wang):
    assert wang["source"].value_counts().to_dict() == {
        "Wang et al. 2023, table 4": 72 - 6 + 1,  # and the dense network
        "Wang et al. 2023, tables 4 and 5": 6,
        "Wang et al. 2023, table 5": 14 - 6,
        "Wang et al. 2023, table 6": 24,
        "Wang et al. 2023, table 7": 24,
    }
    facts_ = facts("wang2023_tables.csv")
    cell = ["network", "schedule", "pruning_ratio"]
    both = facts_[facts_["table"] == 4].merge(facts_[facts_["table"] == 5], on=cell)
    assert len(both) == 6
    for name in ("accuracy_mean", "accuracy_std", "speedup"):
        assert (both[f"{name}_x"] == both[f"{name}_y"]).all()


def test_spots_of_wang(wang):
    row = only(wang, variant="P30F90, 1e-2", prune_fraction=0.95)
    assert row[["method", "structure", "schedule_kind"]].tolist() == ["step", "filters", "one-shot"]
    assert (row["test_accuracy"], row["trainability_accuracy"]) == (0.7764, 0.7745)
    assert (row["test_accuracy_low"], row["test_accuracy_high"]) == (0.7725, 0.7803)
    assert row["test_accuracy_std"] == 0.0039
    assert (row["retrain_epochs"], row["trials"], row["speedup"]) == (90, 3, 12.06)
    assert (row["flops_dense"], row["flops_remaining"]) == (3_660_000_000, 300_000_000)
    assert row["baseline_test_accuracy"] == 0.8456
    longest = only(wang, variant="P90F30, 1e-4 (+1485 epochs)")
    assert (longest["retrain_epochs"], longest["test_accuracy"]) == (1515, 0.7818)
    assert pd.isna(longest["test_accuracy_low"])
    by_speedup = only(wang, variant="P30/kF90, 1e-1", prune_fraction=0.5)
    assert (by_speedup["retrain_epochs"], by_speedup["test_accuracy"]) == (90, 0.8485)
    scratch = only(wang, network="resnet34", method="scratch_e", prune_fraction=0.9)
    assert (scratch["train_epochs"], scratch["test_accuracy"]) == (120, 0.7937)
    cosine = only(wang, network="vgg19", method="cosine", variant="lr 0.01", prune_fraction=0.9)
    assert cosine["test_accuracy"] == 0.657
    assert cosine[["retrain_epochs", "search_cost_epochs"]].isna().all()
    kinds = several(wang, network="resnet56", method="scratch_e")["variant"]
    assert set(kinds) == {"step", "cosine"}


def test_setups_in_words_are_read_right(wang):
    """P + F is 120 epochs wherever the pruning epoch isn't divided by the speedup."""
    setups = wang["variant"].str.extract(r"^P(\d+)F(\d+), 1e-\d(?: \(\+(\d+) epochs\))?$")
    setups = setups.astype("float64").dropna(subset=[0])
    assert len(setups) == 62
    assert (setups[0] + setups[1] == 120).all()
    epochs = wang.loc[setups.index, "retrain_epochs"].astype("float64")
    assert (epochs == setups[1] + setups[2].fillna(0)).all()


LAYERS = {  # which convolutions lose filters, and which share of them by the published column
    "resnet34": ("layer*.conv1", 224, 100, {r: str(r) for r in (0.1, 0.3, 0.5, 0.7, 0.9, 0.95)}),
    "resnet56": ("stages.*.conv1", 32, 10, {r: str(r) for r in (0.3, 0.5, 0.7, 0.9)}),
    "vgg19": ("features.*", 32, 100, {0.3: "0.1", 0.5: "0.3", 0.7: "0.5", 0.9: "0.7"}),
}
UNPRUNED = ("features.0",)
SIZES = [(network, ratio) for network, (*_, shares) in LAYERS.items() for ratio in shares]


def without_filters(network_name: str, ratio: float) -> tuple[nn.Module, nn.Module]:
    """The dense network, and it with those filters physically cut out by the project's own code.

    As many go as a share rounded up: what the published speedups have.
    """
    pattern, size, classes, shares = LAYERS[network_name]
    networks = []
    for _ in range(2):
        networks.append(build_network(network_name, classes, 3, {}))
        initialise_(networks[-1], 0)
    mask = dense_mask(prunable_parameters(networks[1], "convolutions"))
    for name, kept in mask.items():
        layer = name.removesuffix(".weight")
        if fnmatchcase(layer, pattern) and layer not in UNPRUNED:
            kept[: math.ceil(Fraction(shares[ratio]) * len(kept))] = False
    shape = (3, min(size, 64), min(size, 64))
    norms = follower_mask(networks[1], mask, followers(networks[1], one_image(shape)))
    cut = cut_of(networks[1], {**mask, **norms}, one_image(shape))
    return networks[0], shrink_(networks[1], cut)


@pytest.mark.parametrize(
    ("network_name", "ratio"),
    [
        pytest.param(
            n, r, marks=() if (n, r) in [("resnet34", 0.9), ("vgg19", 0.5)] else pytest.mark.slow
        )
        for n, r in SIZES
    ],
)
def test_sizes_are_those_of_networks_that_are_as_fast_as_published(network_name, ratio, wang):
    """To the weight; their speedups are the published ones, to the last digit of ResNet-34's."""
    dense, small = without_filters(network_name, ratio)
    kernels = [
        sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d))
        for network in (dense, small)
    ]
    assert kernels[0] == wang2023.PRUNABLE[network_name]
    assert kernels[1] == wang2023.REMAINING[network_name][ratio]
    cells = several(wang, network=network_name, prune_fraction=ratio)
    assert (cells["density"] == kernels[1] / kernels[0]).all()
    size = LAYERS[network_name][1]
    with torch.no_grad():
        flops = [
            sum(multiply_adds(network, one_image((3, size, size))).values())
            for network in (dense, small)
        ]
    (speedup,) = cells["speedup"].unique()
    assert flops[0] / flops[1] == pytest.approx(speedup, rel=0.008)
    if network_name == "resnet34":
        assert round(flops[0] / flops[1], 2) == speedup
        assert round(flops[0] / 1e9, 2) == cells["flops_dense"].iloc[0] / 1e9
        assert round(flops[1] / 1e9, 2) == cells["flops_remaining"].iloc[0] / 1e9


# what else is compared with


def test_single_points(renda):
    points = compared()
    assert points["source"].notna().all() and points["drawn_in"].notna().all()
    amc = only(points, method="AMC")
    assert amc["accuracy_change"] == -0.0002  # "losing 0.02%"; App. C
    assert round(amc["compression_ratio"], 2) == 5.13
    translation = several(points, network="gnmt")
    assert (translation["accuracy_change"] * 100).round(2).tolist() == [0.09, -0.25, -0.58]
    filters = several(points, work="Liu et al. 2019")
    assert set(filters["variant"]) == {name for name in RATES if name.startswith("resnet")}
    levels = renda[renda["structure"] == "filters"].groupby("variant")["density"].max()
    assert (filters["density"] == filters["variant"].map(levels)).all()
    scratch = only(filters, variant="resnet110-B", method="scratch_b")
    assert scratch["accuracy_change"] == pytest.approx(0.0046)


def test_benchmark_of_filter_pruning():
    points = several(compared(), drawn_in="Wang et al. 2023, table 1")
    assert len(points) == 18 and points["density"].isna().all()
    best = points.sort_values("test_accuracy").iloc[-1]
    assert (best["method"], best["test_accuracy"], best["speedup"]) == ("CC", 0.7559, 2.12)
    ours = several(points, method="L1-norm").set_index("speedup")["test_accuracy"].to_dict()
    assert ours == {2.31: 0.7524, 2.56: 0.7477}


def test_gnmts_zeros_are_those_the_page_counts(renda):
    trials = several(renda, network="gnmt").query("level > 0")
    zeros = int((trials["test_accuracy"] == 0).sum())
    page = " ".join((Path(__file__).parents[2] / "docs" / "reference.md").read_text().split())
    assert f"0 BLEU in {zeros:,} of {len(trials):,} trials" in page
