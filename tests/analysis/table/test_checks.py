"""Rows that contradict themselves are refused by name; and no finite table ends in a traceback."""

import contextlib
import io
import json
import math
import random
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from analysis.__main__ import main
from analysis.commands.headline import choices_text, headline_text
from analysis.draw.papers import FIGURES, make
from analysis.draw.papers.content import as_text
from analysis.draw.papers.scenes import Source
from analysis.questions.claims import judge
from analysis.questions.compare import compare
from analysis.questions.fairness import cross_tests, fairness
from analysis.questions.headline import (
    NO_DROP,
    costs_at_headlines,
    headlines,
    outperforming,
    safe_zone,
)
from analysis.questions.pareto import pareto
from analysis.questions.search_cost import search_costs, sharing_of
from analysis.report.material import material_of
from analysis.report.payload import payload_of
from analysis.report.render import section_html
from analysis.report.sections import sections_of
from analysis.table.checks import LENGTH_IS_T
from analysis.table.columns import KINDS, BadRows, as_rows
from analysis.table.lengths import dense_epochs_of_rows
from analysis.table.points import dense_baselines, points_of
from analysis.table.rows import drop_repeated, write_rows
from analysis.table.text import json_text, panels_text, records
from rewind_ray.command_line import DONE, FAILED
from rewind_ray.knobs import numbers_of, numbers_text
from rewind_ray.result import COLUMNS
from rewind_ray.retraining import METHODS, as_asked
from tests.analysis.conftest import row, table

DENSITIES = (0.5, 0.2, 0.1, 0.05)
ACCURACIES = dict(zip(DENSITIES, (0.93, 0.925, 0.921, 0.90), strict=True))


def sweep(seeds=(0, 1, 2)):
    """Dense networks, and fine-tuned ones at four densities: nothing is lost down to 10x."""
    dense = [row(method="dense", seed=seed, test_accuracy=0.92) for seed in seeds]
    pruned = [
        row(
            seed=seed,
            density=density,
            retrain_epochs=t,
            stage_id=f"{density}-{t}-{seed}",
            test_accuracy=ACCURACIES[density],
            val_accuracy=ACCURACIES[density] - t / 10_000,
        )
        for density in DENSITIES
        for t in (10, 20)
        for seed in seeds
    ]
    return pd.DataFrame([asdict(each) for each in [*dense, *pruned]], dtype=object)


def edited(changes, where=12):
    rows = sweep()
    for name, value in changes.items():
        rows.loc[where, name] = value
    return rows


def test_the_sweep_is_valid_and_its_headline_known():
    lines = headlines(as_rows(sweep(), "x"), (NO_DROP,))
    assert lines["compression_ratio"].tolist() == [10.0]
    assert lines["at_least"].tolist() == [False]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"compression_ratio": 210.0}, ("compression_ratio 210", "density 0.2")),
        ({"density": 0.047}, ("compression_ratio 5", "density 0.047")),
        ({"baseline_test_accuracy": 0.9}, ("baseline_test_accuracy is 0.9", "0.92", "dense-0")),
        ({"params_remaining": 20_000}, ("params_remaining 20000", "params_prunable 10000")),
        ({"params_remaining": 7_000}, ("params_remaining 7000", "density 0.2")),
        ({"params_total": 9_000}, ("params_prunable 10000", "params_total 9000")),
        ({"params_remaining": -5}, ("params_remaining is -5",)),
        ({"level": -1}, ("level is -1",)),
        ({"level": 0}, ("level 0", "finetune")),
        ({"method": "dense"}, ("dense", "level 1")),
        ({"speedup": math.inf}, ("speedup is inf",)),
        ({"speedup": 0.0}, ("speedup is 0",)),
        ({"speedup": -2.0}, ("speedup is -2",)),
        ({"speedup": 21.0}, ("speedup 21", "200000")),
        ({"flops_remaining": -1}, ("flops_remaining is -1",)),
        ({"flops_remaining": 2_000_000, "speedup": 0.5}, ("flops_remaining 2000000",)),
        ({"search_cost_epochs": -1}, ("search_cost_epochs is -1",)),
        ({"search_cost_flops": math.inf}, ("search_cost_flops is inf",)),
        ({"retrain_epochs": 0}, ("retrain_epochs is 0",)),
        ({"train_epochs": 10**30}, ("train_epochs", "whole numbers")),
        ({"retrain_drops": "60 30"}, ("retrain_drops is '60 30'",)),
        ({"retrain_drops": "nan"}, ("retrain_drops is 'nan'",)),
        ({"prune_shrink": "perhaps"}, ("prune_shrink", "'perhaps'", "True or False")),
        ({"baseline_id": "0.2-10-1"}, ("baseline_id 0.2-10-1", "pruned")),
        ({"network": "resnet56"}, ("network is resnet56", "resnet20", "dense-0")),
        ({"dataset": "cifar100"}, ("dataset is cifar100", "cifar10", "dense-0")),
        ({"metric": "bleu"}, ("metric is bleu", "accuracy", "dense-0")),
        ({"protocol": "another"}, ("protocol is another", "dense-0")),
        ({"seed": 7}, ("seed is 7", "dense-0")),
        ({"test_accuracy_low": 0.95}, ("test_accuracy_low 0.95", "test_accuracy 0.9")),
        ({"test_accuracy_high": 0.5}, ("test_accuracy 0.9", "test_accuracy_high 0.5")),
        ({"params_total": 1_000, "params_prunable": None}, ("params_remaining", "params_total")),
        ({"search_cost_epochs": 9}, ("retrain_epochs 20", "search_cost_epochs 9")),
        ({"train_epochs": 11}, ("train_epochs 11", "retrain_epochs 20", "finetune")),
        ({"flops_remaining": 0}, ("flops_remaining is 0", "above 0")),
        ({"speedup": 1e308, "flops_dense": None}, ("speedup is 1e+308", "1e+12")),
        ({"speedup": 1e308}, ("speedup is 1e+308",)),
        ({"prune_fraction": 0.5}, ("prune_fraction 0.5", "density 0.2")),
        ({"level": 2}, ("level is 2, but 0 of its parent", "dense-0")),
        ({"parent_id": "0.05-10-0"}, ("level is 1, but 1 of its parent", "0.05-10-0")),
        ({"parent_id": "0.05-10-0", "level": 2}, ("density 0.2", "parent's 0.05")),
        ({"parent_id": "dense-1"}, ("baseline_id is dense-0", "dense-1 of its parent")),
    ],
)
def test_a_contradiction_is_refused_with_file_row_stage_and_values(changes, named):
    rows = edited(changes)
    with pytest.raises(BadRows) as raised:
        as_rows(rows, "mine.csv")
    message = str(raised.value)
    told = ("mine.csv", *named)
    if not message.startswith("mine.csv: train_epochs") and "perhaps" not in message:
        told += ("row 13", f"stage {rows.loc[12, 'stage_id']}")
    assert not [part for part in told if part not in message], message


def test_methods_that_train_for_t_epochs_are_those_the_harness_says():
    known = {name for name, method in METHODS.items() if method.length is as_asked}
    assert known == set(LENGTH_IS_T) - ({"blend"} - set(METHODS))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "reinit", "train_epochs": 50},
        {"prune_fraction": 0.5, "prune_scope": "layer"},
        {"prune_fraction": 0.5, "structure": "filters"},
    ],
)
def test_what_only_looks_like_a_contradiction_passes(changes):
    as_rows(edited(changes), "x")


def test_rows_of_several_seeds_may_share_a_dense_network_that_is_not_there():
    rows = sweep().query("method != 'dense'").assign(baseline_id="unknown", parent_id=None)
    as_rows(rows, "x")


def test_a_dense_networks_own_row_agrees_with_what_was_pruned_from_it():
    rows = edited({"test_accuracy": 0.9, "baseline_test_accuracy": 0.9}, where=1)
    with pytest.raises(BadRows, match=r"row 2 \(stage dense-1\).* 0\.9, but row .* 0\.92"):
        as_rows(rows, "x")


def test_a_dense_network_that_was_pruned_early_may_have_a_shorter_row():
    rows = sweep()
    early = rows.loc[[0]].assign(train_epochs=15, test_accuracy=0.7)
    assert len(as_rows(pd.concat([rows, early], ignore_index=True), "x")) == len(rows) + 1


def test_published_densities_have_few_digits():
    assert len(as_rows(edited({"density": 0.1074, "compression_ratio": 9.31}, where=[]), "x"))
    rows = edited({"density": 0.1074, "compression_ratio": 9.31, "params_remaining": 1074})
    rows.loc[12, "prune_fraction"] = 0.893
    rows.loc[12, ["flops_remaining", "speedup"]] = [107_400, 9.31]
    as_rows(rows, "x")


@pytest.mark.parametrize(
    ("changes", "unchecked"),
    [
        # Both were in a table once: 10x became 20x, and 210x
        ({"baseline_test_accuracy": 0.9}, 20.0),
        ({"compression_ratio": 210.0}, 210.0),
    ],
)
def test_one_bad_row_moves_a_headline_no_more(changes, unchecked, monkeypatch):
    rows = sweep(seeds=(0,))
    bad = rows.index[(rows["density"] == 0.05)]
    for name, value in changes.items():
        rows.loc[bad, name] = value
    if "compression_ratio" in changes:
        rows.loc[bad, "test_accuracy"] = 0.92
    with pytest.raises(BadRows, match=f"{next(iter(changes.values())):g}"):
        as_rows(rows, "x")
    monkeypatch.setattr("analysis.table.columns.check_rows", lambda rows: None)
    lines = headlines(as_rows(rows, "x"), (NO_DROP,))
    assert lines["compression_ratio"].tolist() == [unchecked]


def test_the_length_of_the_original_training_is_found_once():
    """By hand: k + t of what rewinds, else the longest dense row of the same protocol."""
    rows = [
        row(method="dense", seed=0),  # 40 epochs
        row(method="dense", seed=1, train_epochs=15, test_accuracy=0.92),
        row(seed=1),
        row(seed=2, method="weight_rewind", rewind_epoch=20, retrain_epochs=10),
        row(seed=3, network="other"),
    ]
    found = dense_epochs_of_rows(table(rows))
    assert found.iloc[[0, 1, 2, 3]].tolist() == [30.0] * 4  # k + t = 30 speaks for its protocol
    assert np.isnan(found.iloc[4])
    without = table([each for each in rows if each.method != "weight_rewind"])
    assert dense_epochs_of_rows(without).tolist()[:3] == [40.0] * 3


@given(st.lists(st.floats(0.001, 1e6), unique=True).map(sorted))
def test_drops_survive_their_text(drops):
    found = numbers_of(numbers_text(drops))
    assert len(found) == len(drops) and np.allclose(found, drops, rtol=1e-14)


# No traceback for any finite table


def grid_rows():
    """Two networks, three methods, one-shot and iterative, several times, two metrics, filters."""
    made = []
    for network, task, metric in (
        ("resnet56", "image_classification", "accuracy"),
        ("gnmt", "translation", "bleu"),
    ):
        place = {
            "network": network,
            "dataset": "cifar10" if metric == "accuracy" else "wmt16_en_de",
            "task": task,
            "metric": metric,
        }
        for seed in (0, 1):
            base = f"{network}-dense-{seed}"
            of = place | {"seed": seed, "baseline_id": base}
            made.append(row(**of | {"method": "dense", "stage_id": base}))
            for method in ("finetune", "weight_rewind", "lr_rewind"):
                for density in (0.8, 0.64):
                    for t in (10, 20):
                        name = f"{network}-{method}-{density}-{t}-{seed}"
                        accuracy = 0.915 + 0.01 * density + t / 5000 + seed / 900
                        made.append(
                            row(
                                **of,
                                stage_id=name,
                                parent_id=base,
                                method=method,
                                density=density,
                                prune_fraction=1 - density,
                                retrain_epochs=t,
                                rewind_epoch=40 - t if "rewind" in method else None,
                                test_accuracy=accuracy,
                                val_accuracy=accuracy - 0.001,
                            )
                        )
                made.append(
                    row(
                        **of,
                        stage_id=f"{network}-{method}-2-{seed}",
                        parent_id=f"{network}-{method}-0.8-20-{seed}",
                        method=method,
                        level=2,
                        density=0.64,
                        prune_fraction=0.2,
                        retrain_epochs=20,
                        rewind_epoch=20 if "rewind" in method else None,
                        test_accuracy=0.9 + seed / 300,
                        structure="unstructured",
                    )
                )
            made.append(
                row(
                    **of,
                    stage_id=f"{network}-step-{seed}",
                    parent_id=base,
                    method="step",
                    structure="filters",
                    density=0.3,
                    retrain_lr=0.01,
                    retrain_drops="4 8",
                    trainability_accuracy=0.99,
                )
            )
    return made


TEXTS = ["", "nan", "zürich", "-", "a · b", "<b>", "dense", "finetune", "lr_rewind", "x, y", "0"]
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 0.5, 0.2, 1e-12, 1e12, 2**60, 10**25, 1e300, -1e300, 5e-324]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0, 1),
    st.integers(-3, 400),
)


@st.composite
def tables(draw):
    """A valid table with some rows left out, some columns emptied or made constant, some cells
    changed; as from a file, so cells are text, numbers or missing."""
    grid = pd.DataFrame([asdict(each) for each in grid_rows()], dtype=object)
    kept = draw(st.sampled_from([1.0, 1.0, 0.7, 0.3, 0.05]))
    chooser = random.Random(draw(st.integers(0, 10**6)))
    rows = grid[[chooser.random() < kept for _ in range(len(grid))]].reset_index(drop=True)
    for name in draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=3)):
        value = draw(st.one_of(st.none(), NUMBERS, st.sampled_from(TEXTS)))
        rows[name] = pd.Series([value] * len(rows), rows.index, dtype=object)
    for _ in range(draw(st.integers(0, 4)) if len(rows) else 0):
        name = draw(st.sampled_from(sorted(KINDS)))
        if name not in rows:
            rows[name] = None
        text = st.sampled_from([*TEXTS, *map(str, grid.get(name, pd.Series(["x"])).unique())])
        value = draw(st.one_of(st.none(), text if KINDS[name] == "str" else NUMBERS))
        rows.loc[draw(st.integers(0, len(rows) - 1)), name] = value
    # Coherent lies: what no check can refuse
    pruned = rows["level"].map(lambda level: level not in (0, "0"))
    if draw(st.booleans()):
        rows.loc[pruned, "status"] = draw(st.sampled_from(["diverged", "collapsed", "done"]))
    if draw(st.booleans()):
        rows["test_accuracy"] = draw(st.sampled_from([0.0, 1.0, 0.5]))
        rows["baseline_test_accuracy"] = rows["test_accuracy"]
    return rows


def figure_texts(rows):
    """Four of them, others for other tables; the 22,590 trials of one paper aren't laid over."""
    for name in random.Random(len(rows)).sample(sorted(FIGURES), 4):
        with contextlib.suppress(BadRows):
            as_text(make(name, Source(rows=rows), overlay=not name.startswith("renda")))


def report_of(rows):
    material = material_of(rows, "rows.csv")
    json.dumps(payload_of(material), allow_nan=False)
    return [section_html(section) for section in sections_of(material)]


def headline_of(rows):
    lines = headlines(rows, (0.0, NO_DROP, 0.01))
    leads = outperforming(costs_at_headlines(points_of(rows), (0.01,)))
    return (
        headline_text(lines),
        choices_text(lines),
        json_text({"x": records(lines)}),
        safe_zone(leads),
    )


QUESTIONS = {
    "points": lambda rows: panels_text(points_of(rows), dense_baselines(rows), ["method"]),
    "pareto": lambda rows: [
        pareto(rows, "method", ("compression_ratio", "test_accuracy")),
        pareto(rows, "density", ("speedup", "test_accuracy"), all_settings=True),
    ],
    "headline": headline_of,
    "search_cost": search_costs,
    "sharing": sharing_of,
    "compare": compare,
    "claims": judge,
    "fairness": fairness,
    "cross": cross_tests,
    "figures": figure_texts,
    "report": report_of,
}


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(rows=tables())
def test_no_question_ends_in_a_traceback(rows):
    """Every question is answered, or the table is refused as a user's error."""
    try:
        checked = drop_repeated(as_rows(rows.reindex(columns=[*KINDS]), "x"), "x")
    except BadRows as error:
        assert "(empty)" not in str(error)
        return
    assume(len(checked))  # the commands refuse a table without rows
    for name, question in QUESTIONS.items():
        try:
            question(checked)
        except BadRows as error:
            assert not str(error).rstrip().endswith((":", " of", " are")), (name, error)


COMMANDS = ("pareto", "headline", "search-cost", "compare", "claims", "fairness", "report")


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(rows=tables(), command=st.sampled_from(COMMANDS))
def test_no_command_ends_in_a_traceback(rows, command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    rows.reindex(columns=[*KINDS]).to_csv(folder / "rows.csv", index=False)
    more = ["--out", str(folder / "report.html")] if command == "report" else []
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        code = main([command, str(folder / "rows.csv"), *more])
    assert code in (DONE, FAILED), err.getvalue()
    assert (code == FAILED) == err.getvalue().rpartition("\n")[0].rpartition("\n")[2].startswith(
        "error: "
    )


def test_new_columns_survive_both_kinds_of_file(tmp_path):
    rows = table(grid_rows())
    for suffix in (".csv", ".parquet"):
        path = tmp_path / f"rows{suffix}"
        write_rows(rows, str(path))
        again = as_rows(
            pd.read_csv(path, dtype=str) if suffix == ".csv" else pd.read_parquet(path), "x"
        )
        for name in COLUMNS:
            pd.testing.assert_series_equal(again[name], rows[name])
    step = rows[rows["method"] == "step"]
    assert numbers_of(step["retrain_drops"].iloc[0]) == (4.0, 8.0)
    assert step["prune_shrink"].tolist() == [False] * 4
