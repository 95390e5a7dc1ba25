"""Verdicts against Wang et al.'s own classification, brute force, and hand-made comparisons."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.commands.fairness import fairness_command, pair_names
from analysis.questions.fairness import (
    CONDITIONS,
    SETUPS,
    SHORT,
    cross_tests,
    drawn,
    fairness,
    fairness_label,
    label_of_pair,
)
from analysis.questions.fairness.findings import FAILS, HOLDS, UNKNOWN
from analysis.questions.fairness.setups import LADDER
from analysis.questions.fairness.verdicts import judge_pair
from analysis.reference import published
from analysis.table.columns import BadRows
from analysis.table.details import variants
from analysis.table.points import choose_retrain_epochs, points_of
from analysis.table.rows import write_rows
from rewind_ray.retraining import METHODS
from tests.analysis.conftest import DENSE_EPOCHS, row, table

SEEDS = range(3)


OF_STAGES = ("protocol", "source", "pruned_at", "earlier_steps", "published_setting")


def dense(**values):
    return [row(method="dense", seed=seed, **values) for seed in SEEDS]


def of(method, *, seeds=SEEDS, densities=(0.5, 0.25), epochs=(10,), **values):
    """One row each; ``epochs`` are those it is trained for."""
    tags = "-".join(f"{value}" for value in values.values())
    details = {name: values.pop(name) for name in OF_STAGES if name in values}
    made = [
        (
            row(
                stage_id=f"{method}-{density}-{seed}-{t}-{tags}-{details}-{values.get('level', 1)}",
                **{"method": method, "seed": seed, "density": density, "retrain_epochs": t}
                | {"baseline_test_accuracy": 0.92}
                | values,
            ),
            details,
        )
        for seed, density, t in itertools.product(seeds, densities, epochs)
    ]
    return made


def rows_of(*groups, with_dense=True):
    """A table of what ``of`` and ``dense`` made."""
    made = [item if isinstance(item, tuple) else (item, {}) for group in groups for item in group]
    if with_dense:
        made = [*((item, {}) for item in dense()), *made]
    rows = table([item for item, _ in made])
    for name in OF_STAGES:
        given = pd.Series([details.get(name) for _, details in made], dtype=rows[name].dtype)
        rows[name] = given.fillna("") if name in ("protocol", "published_setting") else given
    return rows.assign(variant=variants(rows))


def the_pair(rows):
    (pair,) = fairness(rows)
    return pair


# the setups


def test_setups_are_those_of_the_slides():
    """Wang et al. 2023, "Pruning History 101", the later of its two listings."""
    same_place = {"same data and network", "same compression or speedup"}
    slides = {
        "S1": set(),
        "S2": {"same base models"},
        "S3.1": {"same base models", "same retraining epochs"},
        "S3.2": {"same base models", "same retraining learning rates"},
        "S4.1": {
            "same base models",
            "same retraining learning rates",
            "same pruning epochs",
        },
        "S4.2": {
            "same base models",
            "same retraining learning rates",
            "same pruning learning rates",
        },
        "SX-A": {"same total epochs"},
        "SX-B": {"same total FLOPs"},
    }
    assert {name: set(wanted) - same_place for name, wanted in SETUPS.items()} == slides
    assert all(same_place <= set(wanted) for wanted in SETUPS.values())
    assert set(SHORT) == set(SETUPS)
    assert {name for wanted in SETUPS.values() for name in wanted} == set(CONDITIONS)


TOTAL_EPOCHS = [
    "P15F105, 1e-1",
    "P30F90, 1e-2",
    "P45F75, 1e-2",
    "P60F60, 1e-3",
    "P75F45, 1e-3",
    "P90F30, 1e-4",
    "P30F90, 1e-1",
    "P60F60, 1e-2",
    "P90F30, 1e-2",
]
TOTAL_FLOPS = ["P30/kF90, 1e-1", "P30/kF90, 1e-2"]


def test_wang_table_4_is_classified_as_its_caption_says():
    """Dots of Table 4: against scratch training, the first nine lines have the same total epochs
    (S4.2 and SX-A), the last two the same total FLOPs (SX-B)."""
    rows = published("wang2023")
    rows = rows[rows["source"].str.contains("table 4|tables 4", na=False)]
    against_scratch = {
        pair.b.variant: pair for pair in fairness(rows) if pair.a.method == "scratch_e"
    }
    found = {setting: pair.beside for setting, pair in against_scratch.items()}
    assert found == dict.fromkeys(TOTAL_EPOCHS, ("SX-A",)) | dict.fromkeys(TOTAL_FLOPS, ("SX-B",))
    assert {pair.setup for pair in against_scratch.values()} == {"S1"}
    assert {len(pair.compressions) for pair in against_scratch.values()} == {6}


def test_wang_learning_rates_are_what_separates_two_settings_of_one_pruning_epoch():
    rows = published("wang2023")
    rows = rows[rows["variant"].isin(["P30F90, 1e-1", "P30F90, 1e-2"])]
    pair = the_pair(rows)
    assert (pair.setup, pair.next_setup) == ("S3.1", "S3.2")
    assert pair.breaks.words == "the learning rates differ: lr 0.1 vs 0.01"


def test_wang_tables_without_epochs_stop_at_s2_because_it_cant_be_told():
    rows = published("wang2023")
    rows = rows[(rows["network"] == "resnet56") & (rows["method"] != "scratch_e")]
    for pair in fairness(rows):
        assert (pair.setup, pair.broken, pair.breaks.status) == (
            "S2",
            "same retraining epochs",
            UNKNOWN,
        )
        assert label_of_pair(pair).startswith(
            "fairness S2: same base models (S3.1 can't be told: the retraining epochs"
        )


def test_mikler_retrained_for_36_and_32_epochs():
    rows = published("mikler2022")
    rows = rows[(rows["network"] == "resnet56") & (rows["structure"] == "unstructured")]
    rows = rows[rows["schedule_kind"] == "one-shot"]
    found = {(pair.a.method, pair.b.method): pair for pair in fairness(rows)}
    with_weights = found["finetune", "weight_rewind"]
    assert with_weights.setup == "S2"
    assert with_weights.breaks.words.startswith("the retraining epochs differ: 36 vs 32")
    assert found["finetune", "lr_rewind"].setup == "S3.1"


def test_renda_one_shot_rewindings_have_the_same_retraining():
    rows = published("renda2020")
    rows = rows[(rows["network"] == "resnet20") & (rows["schedule_kind"] != "iterative")]
    found = {(pair.a.method, pair.b.method): pair for pair in fairness(rows)}
    assert found["lr_rewind", "weight_rewind"].setup == "S4.2"
    assert found["finetune", "low_lr_weight_rewind"].setup == "S4.2"
    assert found["finetune", "weight_rewind"].setup == "S3.1"
    reinit = found["finetune", "reinit"]
    assert (reinit.setup, reinit.beside) == ("S1", ("SX-A",))
    assert "fresh weights" in reinit.breaks.words


# the conditions, one by one


def test_the_two_rewindings_differ_in_nothing_but_the_weights():
    pair = the_pair(rows_of(of("lr_rewind"), of("weight_rewind")))
    assert (pair.setup, pair.beside, pair.next_setup) == ("S4.2", ("SX-A", "SX-B"), None)
    assert pair.compressions == (2.0, 4.0)
    assert (pair.shared_baselines, pair.seeds) == (3, (3, 3))
    assert label_of_pair(pair) == "fairness S4.2: same base models, same retraining, same pruning"


def test_learning_rates_break_s32():
    pair = the_pair(rows_of(of("finetune"), of("lr_rewind")))
    assert (pair.setup, pair.broken) == ("S3.1", "same retraining learning rates")
    assert pair.breaks.status == FAILS
    assert label_of_pair(pair) == "fairness S3.1: same base models, same retraining epochs"


@pytest.mark.parametrize(
    ("a", "b", "setup"),
    [
        ((10,), (20,), "S2"),
        ((10, 20), (10,), "S2"),
        ((10, 20), (10, 20), "S4.2"),
    ],
)
def test_retraining_times_must_be_the_same_ones(a, b, setup):
    pair = the_pair(rows_of(of("lr_rewind", epochs=a), of("weight_rewind", epochs=b)))
    assert pair.setup == setup
    if setup == "S2":
        words = f"{', '.join(map(str, a))} vs {', '.join(map(str, b))}"
        assert pair.breaks.words == f"the retraining epochs differ: {words}"


def test_other_baselines_break_s2_and_are_named_with_their_accuracies():
    mine = of("weight_rewind", baseline_test_accuracy=0.92)
    theirs = of(
        "weight_rewind", seeds=(5, 6), baseline_test_accuracy=0.93, protocol="Somebody 2020"
    )
    pair = the_pair(rows_of(mine, theirs))
    assert (pair.setup, pair.next_setup) == ("S1", "S2")
    assert pair.breaks.words == (
        "the base models differ: accuracy 92.00 vs 93.00, no shared baseline_id"
    )
    assert pair.beside == ("SX-A", "SX-B")  # of both T is told: weight_rewind's is k + t


def test_some_shared_baselines_are_not_the_same_base_models():
    pair = the_pair(rows_of(of("lr_rewind"), of("weight_rewind", seeds=(0, 1))))
    assert pair.setup == "S1"
    assert pair.breaks.words == "the base models differ: 2 of 3 baselines shared"
    assert (pair.shared_baselines, pair.seeds) == (2, (3, 2))


def test_a_seed_missing_at_one_retraining_time_is_seen():
    """Of a sweep half done: over all retraining times the baselines would be the same."""
    part = [*of("weight_rewind", epochs=(10,)), *of("weight_rewind", epochs=(20,), seeds=(0,))]
    pair = the_pair(rows_of(of("lr_rewind", epochs=(10, 20)), part))
    assert pair.setup == "S1"
    assert "not the same ones at each retraining time" in pair.breaks.words


def test_one_dense_training_pruned_at_two_epochs_is_two_base_models():
    early = of("step", retrain_lr=0.1, pruned_at=8)
    late = of("step", retrain_lr=0.1, pruned_at=30)
    pair = the_pair(rows_of(early, late))
    assert pair.setup == "S1"
    words = "pruned at epoch 30 vs pruned at epoch 8"
    assert pair.breaks.words == f"the base models differ: {words}, of one dense training"


def test_nothing_in_common_is_no_setup():
    pair = the_pair(rows_of(of("lr_rewind"), of("weight_rewind", densities=(0.1, 0.2))))
    assert (pair.setup, pair.beside, pair.next_setup) == ("", (), "S1")
    assert label_of_pair(pair) == (
        "fairness: no setup (no compression or speedup in common: 2.00×-4.00× vs 5.00×-10.0×)"
    )


@pytest.mark.parametrize(("other", "compared"), [(0.5024, True), (0.5030, False)])
def test_compressions_are_the_same_to_half_a_percent(other, compared):
    pair = the_pair(rows_of(of("lr_rewind", densities=(0.5,)), of("slr", densities=(other,))))
    assert bool(pair.setup) == compared


def test_the_same_speedup_will_do_where_no_compression_is_the_same():
    mine = of("lr_rewind", densities=(0.5,), speedup=3.0)
    other = of("weight_rewind", densities=(0.3,), speedup=3.01)
    pair = the_pair(rows_of(mine, other))
    assert pair.setup == "S4.2"
    assert pair.findings["same compression or speedup"].words == "1 speedups in common"


def test_iterative_pruning_spends_epochs_between_prunings():
    shared = {"densities": (0.25,), "prune_fraction": 0.5}
    iterative = of("lr_rewind", level=2, **shared)
    pair = the_pair(rows_of(of("lr_rewind", densities=(0.25,)), iterative))
    assert (pair.setup, pair.next_setup) == ("S3.2", "S4.1")
    assert pair.breaks.words == "the pruning epochs differ: 10 vs 0"
    both = the_pair(rows_of(of("weight_rewind", level=2, **shared), iterative))
    assert both.setup == "S4.2"
    assert both.findings["same pruning epochs"].words == "pruning epochs 10"


def test_earlier_steps_retrained_in_another_way_cant_be_told():
    shared = {"densities": (0.25,), "prune_fraction": 0.5, "level": 2}
    rows = rows_of(of("lr_rewind", earlier_steps="12ab34", **shared), of("weight_rewind", **shared))
    pair = the_pair(rows)
    assert (pair.setup, pair.next_setup, pair.breaks.status) == ("S4.1", "S4.2", UNKNOWN)


TENTH, LAST = {"retrain_lr": 0.1}, {"retrain_last_lr": 0.01}
HALF, WHOLE = {"retrain_alpha": 0.5}, {"retrain_alpha": 1.0}


@pytest.mark.parametrize(
    ("a", "b", "status", "words"),
    [
        (("step", TENTH), ("step", {"retrain_lr": 0.01}), FAILS, "lr 0.01 vs 0.1"),
        (("step", TENTH | {"retrain_drops": "3 5"}), ("step", TENTH), FAILS, "drops none vs 3 5"),
        (("step", TENTH), ("cosine", TENTH), FAILS, "a cosine down"),
        (("cosine", TENTH), ("cosine", TENTH | LAST), FAILS, "last lr 0 vs 0.01"),
        (("clr", TENTH), ("clr", {}), UNKNOWN, "lr of the original schedule vs 0.1"),
        (("clr", TENTH), ("cosine", TENTH), FAILS, "one cycle"),
        (("finetune", TENTH), ("low_lr_weight_rewind", TENTH), HOLDS, "lr 0.1"),
        (("blend", HALF), ("blend", WHOLE), HOLDS, "the schedule from T - t on"),
        (("slr", {}), ("blend", WHOLE), FAILS, "the whole schedule"),
        (("GReg-1", {}), ("finetune", {}), UNKNOWN, "the learning rates of GReg-1"),
    ],
)
def test_learning_rates_by_rule_and_knobs(a, b, status, words):
    (method_a, knobs_a), (method_b, knobs_b) = a, b
    pair = the_pair(rows_of(of(method_a, **knobs_a), of(method_b, **knobs_b)))
    found = pair.findings["same retraining learning rates"]
    assert found.status == status
    if status != HOLDS:
        assert words in found.words


def test_a_rate_that_a_method_needs_and_rows_lack_is_unknown():
    rows = rows_of(of("step", criterion="magnitude"), of("step", criterion="random"))
    pair = the_pair(rows)
    assert (pair.setup, pair.breaks.status) == ("S3.1", UNKNOWN)
    same_kind = rows_of(
        of("step", prune_fraction=0.5, level=2), of("step", prune_fraction=0.25, level=2)
    )
    assert the_pair(same_kind).findings["same retraining learning rates"].status == HOLDS


def test_the_original_schedule_of_another_protocol_cant_be_told():
    shared = {"baseline_id": "dense-0", "seeds": (0,)}
    rows = rows_of(
        of("lr_rewind", **shared), of("lr_rewind", protocol="Renda et al. 2020", **shared)
    )
    pair = the_pair(rows)
    assert (pair.setup, pair.breaks.status) == ("S3.1", UNKNOWN)
    assert "Renda et al. 2020" in pair.breaks.words and "own" in pair.breaks.words


def test_published_rows_dont_tell_where_the_rate_drops():
    shared = {"source": "a table", "retrain_lr": 0.1}
    rows = rows_of(
        of("step", criterion="magnitude", **shared), of("step", criterion="l1", **shared)
    )
    pair = the_pair(rows)
    assert (pair.setup, pair.breaks.status) == ("S3.1", UNKNOWN)
    assert pair.breaks.words == "the learning rates: drops unknown vs unknown"


def test_unknown_epochs_are_never_taken_for_the_same():
    rows = rows_of(of("finetune"), of("weight_rewind"))
    blank = rows["method"].isin(["finetune", "weight_rewind"])
    rows.loc[blank, "retrain_epochs"] = pd.NA
    pair = the_pair(rows)
    assert (pair.setup, pair.beside, pair.breaks.status) == ("S2", ("SX-A", "SX-B"), UNKNOWN)
    assert fairness_label(rows) == (
        "fairness S2, SX-A, SX-B: same base models, same total epochs, same total FLOPs "
        "(S3.1 can't be told: the retraining epochs: unknown vs unknown)"
    )


def test_scratch_b_has_the_flops_of_pretraining_and_retraining():
    """(K1 * F1 + K2 * F2) / F2 epochs at F2: 40 dense ones and 10 at a tenth are 410 at a tenth."""
    pruned = of("finetune", densities=(0.1,))
    scratch_b = of("scratch_b", densities=(0.1,), epochs=(10 * DENSE_EPOCHS + 10,))
    pair = the_pair(rows_of(pruned, scratch_b))
    assert (pair.setup, pair.beside) == ("S1", ("SX-B",))
    assert pair.findings["same total FLOPs"].words == "the total FLOPs: 41 vs 41 dense epochs"
    scratch_e = of("scratch_e", densities=(0.1,), epochs=(DENSE_EPOCHS,))
    assert the_pair(rows_of(pruned, scratch_e)).beside == ()
    as_long = of("scratch_e", densities=(0.1,), epochs=(DENSE_EPOCHS + 10,))
    assert the_pair(rows_of(pruned, as_long)).beside == ("SX-A",)


@pytest.mark.parametrize(("more", "same"), [(4, True), (6, False)])
def test_flops_may_differ_by_half_an_epoch_of_the_dense_network(more, same):
    """Six epochs at a tenth are 0.6 dense ones."""
    pruned = of("finetune", densities=(0.1,))
    scratch = of("scratch_b", densities=(0.1,), epochs=(10 * DENSE_EPOCHS + 10 + more,))
    assert ("SX-B" in the_pair(rows_of(pruned, scratch)).beside) == same


def test_iterative_flops_are_summed_over_the_chain():
    """Level 1 at half, level 2 at a quarter: 40 + 10 / 2 + 10 / 4 dense epochs."""
    examples, flops = 1000, 1_000_000
    first = of(
        "finetune",
        densities=(0.5,),
        prune_fraction=0.5,
        search_cost_flops=3 * 10 * examples * 0.5 * flops,
    )
    second = of(
        "finetune",
        densities=(0.25,),
        prune_fraction=0.5,
        level=2,
        search_cost_flops=3 * 10 * examples * (0.5 + 0.25) * flops,
    )
    one_shot = of(
        "lr_rewind",
        densities=(0.25,),
        epochs=(30,),
        prune_fraction=0.75,
        search_cost_flops=3 * 30 * examples * 0.25 * flops,
    )
    pairs = fairness(rows_of(first, second, one_shot, of("lr_rewind", level=2, densities=(0.25,))))
    found = {
        pair.findings["same total FLOPs"].words
        for pair in pairs
        if {pair.a.schedule_kind, pair.b.schedule_kind} == {"iterative"}
    }
    # lr_rewind's made-up cost is that of one example an epoch
    assert found == {"the total FLOPs differ: 47.5 vs 40.01 dense epochs"}


def test_diverged_and_unmeasured_rows_are_left_out():
    rows = rows_of(of("lr_rewind"), of("weight_rewind"))
    diverged = (rows["method"] == "lr_rewind") & (rows["density"] == 0.5)
    rows.loc[diverged, "status"] = "diverged"
    assert the_pair(rows).compressions == (4.0,)
    rows["test_accuracy"] = np.nan
    with pytest.raises(BadRows, match="nothing to compare"):
        fairness(rows)


def test_pairs_are_of_one_panel_or_differ_in_structure_or_schedule_alone():
    rows = rows_of(
        of("finetune"),
        of("lr_rewind"),
        of("finetune", structure="filters"),
        of("slr", structure="filters"),
    )
    found = {
        frozenset((group.method, group.structure) for group in (pair.a, pair.b))
        for pair in fairness(rows)
    }
    unstructured, filters = "unstructured", "filters"
    assert found == {
        frozenset({("finetune", unstructured), ("lr_rewind", unstructured)}),
        frozenset({("finetune", filters), ("slr", filters)}),
        frozenset({("finetune", unstructured), ("finetune", filters)}),
    }


# against brute force

CHOICES = {
    "method": ["lr_rewind", "weight_rewind", "finetune", "scratch_e"],
    "densities": [(0.5,), (0.5, 0.25), (0.1,)],
    "epochs": [(10,), (10, 20)],
    "seeds": [(0, 1), (0, 1, 2)],
    "criterion": ["magnitude", "random"],
}
GROUPS = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in CHOICES.items()})
RULE = {
    "lr_rewind": "rewound",
    "weight_rewind": "rewound",
    "finetune": "last",
    "scratch_e": "stretched",
}


def brute_force(a, b):
    """The strictest setup and SX-A of two one-shot groups, straight from what they were made of."""
    if not set(a["densities"]) & set(b["densities"]):
        return "", False
    fresh = [group["method"] == "scratch_e" for group in (a, b)]
    totals = [
        {t + (0 if new else DENSE_EPOCHS) for t in group["epochs"]}
        for group, new in zip((a, b), fresh, strict=True)
    ]
    beside = totals[0] == totals[1]
    if a["seeds"] != b["seeds"] or fresh[0] != fresh[1]:
        return "S1", beside
    if a["epochs"] != b["epochs"]:
        return "S2", beside
    if RULE[a["method"]] != RULE[b["method"]]:
        return "S3.1", beside
    return "S4.2", beside


@settings(max_examples=30, deadline=None)
@given(a=GROUPS, b=GROUPS)
def test_verdicts_agree_with_brute_force_and_with_each_other(a, b):
    if (a["method"], a["criterion"]) == (b["method"], b["criterion"]):
        return
    pair = the_pair(rows_of(of(**a), of(**b)))
    setup, same_epochs = brute_force(a, b)
    assert pair.setup == setup
    assert ("SX-A" in pair.beside) == same_epochs
    turned = judge_pair(pair.b, pair.a)
    assert (turned.setup, turned.beside, turned.broken) == (pair.setup, pair.beside, pair.broken)
    reached = LADDER.index(setup) + 1 if setup else 0
    for name in LADDER[:reached]:
        assert all(pair.findings[condition].status == HOLDS for condition in SETUPS[name])
    if pair.next_setup:
        assert pair.findings[pair.broken].status != HOLDS
    with_itself = judge_pair(pair.a, pair.a)
    assert (with_itself.setup, with_itself.beside) == ("S4.2", ("SX-A", "SX-B"))


# labels


def test_the_label_is_that_of_the_weakest_pair():
    rows = rows_of(of("lr_rewind"), of("weight_rewind"), of("finetune"))
    assert fairness_label(rows) == (
        "fairness S3.1: same base models, same retraining epochs (weakest of 3 pairs)"
    )
    apart = rows_of(of("lr_rewind"), of("weight_rewind"), of("slr", densities=(0.1,)))
    assert fairness_label(apart) == (
        "fairness S4.2: same base models, same retraining, same pruning "
        "(2 more share no compression)"
    )
    assert fairness_label(rows_of(of("lr_rewind"))) == ""


def test_the_label_of_what_is_drawn_sees_that_other_retraining_times_were_chosen():
    rows = rows_of(of("lr_rewind", epochs=(10, 20)), of("weight_rewind", epochs=(10, 20)))
    longer = (rows["method"] == "lr_rewind") == (rows["retrain_epochs"] == 20)
    rows["val_accuracy"] = np.where(longer.fillna(False), 0.91, 0.90)
    assert fairness_label(rows).startswith("fairness S4.2")
    points = choose_retrain_epochs(points_of(rows))
    shown = drawn(rows, points)
    pruned = shown[shown["level"] > 0]
    assert set(zip(pruned["method"], pruned["retrain_epochs"], strict=True)) == {
        ("lr_rewind", 20),
        ("weight_rewind", 10),
    }
    assert len(pruned) == 12 and len(shown) == 15
    assert fairness_label(shown) == "fairness S2: same base models"


def test_drawn_keeps_all_rows_of_all_points(grid, make_table):
    rows = make_table(grid)
    shown = drawn(rows, points_of(rows))
    assert set(shown["stage_id"]) == set(rows["stage_id"])
    assert fairness_label(shown) == fairness_label(rows)


# the cross test


def crossed(accuracies, seeds=SEEDS, spread=0.0):
    """``accuracies``: (criterion, method) -> median; seeds lie ``spread`` around it."""
    groups = []
    for (criterion, method), accuracy in accuracies.items():
        for place, seed in enumerate(seeds):
            value = accuracy + spread * (place - 1)
            groups.append(
                of(
                    method,
                    criterion=criterion,
                    seeds=(seed,),
                    densities=(0.5,),
                    test_accuracy=value,
                    val_accuracy=value - 0.01,
                )
            )
    return cross_tests(rows_of(*groups))


RANKING_TURNS = {
    ("magnitude", "finetune"): 0.90,
    ("random", "finetune"): 0.86,
    ("magnitude", "lr_rewind"): 0.88,
    ("random", "lr_rewind"): 0.89,
}


def test_the_four_cells_of_a_cross_test():
    (test,) = crossed(RANKING_TURNS).to_dict("records")
    assert (test["a"], test["b"]) == ("unstructured, magnitude", "unstructured, random")
    assert (test["f_a"], test["f_b"]) == ("finetune, 10 epochs", "lr_rewind, 10 epochs")
    assert [test[cell] for cell in ("a_fa", "a_fb", "b_fa", "b_fb")] == [0.90, 0.88, 0.86, 0.89]
    assert [test[f"n_{cell}"] for cell in ("a_fa", "a_fb", "b_fa", "b_fb")] == [3, 3, 3, 3]
    assert (test["ranking_fa"], test["ranking_fb"]) == ("A", "B")
    assert test["depends"] and test["beyond_spread"] and test["chosen_by"] == "val_accuracy"
    assert (test["n_retrainings"], test["n_a_ahead"], test["n_b_ahead"]) == (2, 1, 1)
    assert test["compression_ratio"] == 2.0


def test_a_ranking_within_the_spread_or_of_single_seeds_is_not_beyond_it():
    assert not crossed(RANKING_TURNS, spread=0.01)["beyond_spread"].any()
    assert not crossed(RANKING_TURNS, seeds=(0,))["beyond_spread"].any()


def test_a_ranking_that_stays_or_ties_does_not_depend():
    stays = RANKING_TURNS | {("random", "lr_rewind"): 0.87}
    assert not crossed(stays)["depends"].any()
    ties = RANKING_TURNS | {("random", "lr_rewind"): 0.8804}
    (test,) = crossed(ties).to_dict("records")
    assert test["ranking_fb"] == "tie" and not test["depends"]


def test_there_is_no_cross_test_of_one_retraining_or_of_an_untold_one():
    one = {key: value for key, value in RANKING_TURNS.items() if key[1] == "finetune"}
    assert crossed(one).empty
    untold = {(key[0], "step"): value for key, value in one.items()}
    assert crossed(one | untold).empty


@settings(max_examples=20, deadline=None)
@given(
    st.dictionaries(
        st.tuples(
            st.sampled_from(["l1", "magnitude", "random"]),
            st.sampled_from(["finetune", "lr_rewind", "slr", "weight_rewind"]),
        ),
        st.integers(100, 1000),
        min_size=1,
    ).filter(lambda found: len(set(found.values())) == len(found))
)
def test_cross_tests_agree_with_brute_force(thousandths):
    accuracies = {key: value / 1000 for key, value in thousandths.items()}
    found = {
        (test["a"].split(", ")[1], test["b"].split(", ")[1]): test
        for test in crossed(accuracies, spread=0, seeds=(0, 1)).to_dict("records")
    }
    expected = set()
    for a, b in itertools.combinations(["l1", "magnitude", "random"], 2):
        ways = [way for way in METHODS if {(a, way), (b, way)} <= accuracies.keys()]
        if len(ways) < 2:
            continue
        expected.add((a, b))
        f_a = max(ways, key=lambda way: accuracies[a, way])
        f_b = max((way for way in ways if way != f_a), key=lambda way: accuracies[b, way])
        test = found[a, b]
        assert test["a_fa"] == pytest.approx(accuracies[a, f_a])
        assert test["b_fb"] == pytest.approx(accuracies[b, f_b])
        assert test["a_fb"] == pytest.approx(accuracies[a, f_b])
        assert test["b_fa"] == pytest.approx(accuracies[b, f_a])
        margins = [accuracies[a, way] - accuracies[b, way] for way in (f_a, f_b)]
        assert test["depends"] == (margins[0] * margins[1] < 0)
        ahead = sum(accuracies[a, way] > accuracies[b, way] for way in ways)
        assert (test["n_a_ahead"], test["n_retrainings"]) == (ahead, len(ways))
    assert set(found) == expected


# the command


@pytest.fixture
def source(tmp_path):
    rows = rows_of(
        of("finetune", test_accuracy=0.9),
        of("lr_rewind", test_accuracy=0.91),
        of("finetune", criterion="random", test_accuracy=0.8),
        of("lr_rewind", criterion="random", test_accuracy=0.92),
        of("slr", densities=(0.01,)),
    )
    path = str(tmp_path / "rows.parquet")
    write_rows(rows, path)
    return path


def test_text_gathers_equal_verdicts(source, capsys):
    fairness_command(source)
    text = capsys.readouterr().out
    heads = [line for line in text.splitlines() if "pair" in line.partition(":")[0]]
    assert [head.partition(":")[0] for head in heads] == ["2 pairs", "4 pairs", "4 pairs"]
    assert "S3.2 wants same retraining learning rates: fails" in heads[1]
    assert "2 compressions, 3 base models shared, 3 seeds" in text
    assert text.count("depends on the retraining: B ahead with F_A, A ahead with F_B") == 2
    assert "the ranking of A and B depends on the retraining in 2 of 2 cross tests" in text


def test_json_lists_every_pair_and_nothing_else(source, capsys):
    fairness_command(source, json=True)

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert len(found["pairs"]) == 10
    assert set(found["setups"]) == set(SETUPS)
    assert found["label"] == (
        "fairness S3.1: same base models, same retraining epochs "
        "(weakest of 6 pairs; 4 more share no compression)"
    )
    assert [test["depends"] for test in found["cross_tests"]] == [True, True]
    for pair in found["pairs"]:
        assert set(pair["conditions"]) == set(CONDITIONS)
        assert (pair["setup"] is None) == (pair["compressions"] == [])


def test_out_writes_all_pairs(source, tmp_path, capsys):
    out = tmp_path / "pairs.csv"
    fairness_command(source, out=str(out))
    pairs = pd.read_csv(out)
    assert len(pairs) == 10
    assert pairs["setup"].value_counts(dropna=False).to_dict() == {"S4.2": 2, "S3.1": 4, np.nan: 4}
    assert set(pairs[pairs["setup"] == "S4.2"]["same pruning learning rates"]) == {HOLDS}
    with pytest.raises(ValueError, match=r"\.csv"):
        fairness_command(source, out="pairs.xlsx")


def test_a_single_group_compares_nothing(tmp_path, capsys):
    path = str(tmp_path / "rows.csv")
    write_rows(rows_of(of("finetune")), path)
    fairness_command(path)
    assert capsys.readouterr().out.startswith("nothing is compared")


def test_names_tell_what_differs():
    rows = rows_of(
        of("lr_rewind", protocol="Renda et al. 2020"),
        of("lr_rewind", level=2, prune_fraction=0.2, structure="filters"),
        of("slr", level=2, prune_fraction=0.3, structure="filters"),
    )
    names = [pair_names(pair.a, pair.b) for pair in fairness(rows)]
    assert names == [
        (
            "resnet20 · cifar10 · filters · iterative · magnitude",
            "lr_rewind, 20 % a step",
            "slr, 30 % a step",
        )
    ]
