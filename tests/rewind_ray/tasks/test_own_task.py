"""A task that the core has never heard of is trained, pruned, rewound, resumed and reported."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

import rewind_ray.training
from analysis.table.rows import read_rows
from rewind_ray.spec import Stage, dense_stage, stage_from_dict, stage_to_dict
from rewind_ray.store.checkpoint import load_network_
from rewind_ray.tasks import Metric, load_task, task_of
from rewind_ray.training.epoch import BrokenOff
from rewind_ray.training.stage import run_epoch, start_stage
from sweeps.plan.estimate import check_graph, size_of
from sweeps.plan.graph import build_graph
from tests.rewind_ray.tasks.diabetes import PARTS, diabetes
from tests.rewind_ray.tiny_stages import Lab, child

NewLab = Callable[[str], Lab]
OWN = "tests.rewind_ray.tasks.diabetes"
EARLY = 3


def stages() -> list[Stage]:
    """Dense, rewound, rewound again after SNIP, and trained on at early and last rates."""
    dense = dense_stage(diabetes(), seed=0)
    rewound = child(dense, "weight_rewind", EARLY)
    again = child(rewound, "weight_rewind", EARLY, criterion="snip")
    return [dense, rewound, again, child(dense, "lr_rewind", 2), child(dense, "finetune", 2)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("own"))
    for stage in stages():
        lab.run(stage, rewinds=(EARLY,) if stage.level == 0 else (0,))
    return lab


def test_its_rows(trained: Lab) -> None:
    for stage in stages():
        row = trained.row(stage)
        assert (row.task, row.metric) == (f"{OWN}:Diabetes", "R2")
        assert (row.network, row.dataset) == ("perceptron", "diabetes")
        assert (row.params_total, row.params_prunable) == (10 * 32 + 32 + 32 + 1, 10 * 32 + 32)
        assert (row.flops_dense, row.density) == (352, 0.5**stage.level)
        assert row.flops_remaining == row.params_remaining == 352 * row.density
    assert trained.row(stages()[0]).test_accuracy > 0.3  # scikit-learn's linear model: 0.45


def test_its_metric_is_sklearns(trained: Lab) -> None:
    task = load_task(diabetes(), None, torch.device("cpu"))
    for stage in stages():
        network = task.network(0)
        load_network_(network, trained.point(stage))
        for part, column in (("val", "val_accuracy"), ("test", "test_accuracy")):
            rows = PARTS[part]
            with torch.no_grad():
                found = network(task.inputs[rows]).squeeze(1)  # type: ignore[attr-defined]
            expected = r2_score(task.targets[rows], found)  # type: ignore[attr-defined]
            assert asdict(trained.row(stage))[column] == pytest.approx(max(0, expected), abs=1e-5)


def test_its_training_loss_falls_and_no_accuracy_is_made_up(trained: Lab) -> None:
    epochs = [trained.metrics(stages()[0], epoch) for epoch in range(1, 7)]
    losses = [metrics["train_loss"] for metrics in epochs]
    assert losses[-1] < 0.8 * losses[0]
    assert all(metrics["train_accuracy"] is None for metrics in epochs)
    speed, seconds = epochs[0]["examples_per_second"], epochs[0]["train_seconds"]
    assert speed * seconds == pytest.approx(320)


def test_weights_are_rewound_and_masks_hold(trained: Lab) -> None:
    dense, rewound = stages()[:2]
    early, start = trained.point(dense, EARLY), trained.point(rewound, 0)
    end = trained.point(rewound)
    for name, weight in early.weights.items():
        kept = start.mask.get(name, torch.ones_like(weight, dtype=torch.bool))
        assert torch.equal(start.weights[name], weight * kept)
        assert not end.weights[name][~kept].any()
    assert start.mask.keys() == {"0.weight", "2.weight"}


def test_it_resumes_to_the_same_bits(trained: Lab, new_lab: NewLab) -> None:
    """Stopped in the middle of every epoch."""
    lab = new_lab("stopped")
    for stage in stages()[:3]:
        job = lab.job(stage, rewinds=(EARLY,) if stage.level == 0 else (0,))
        for _ in range(stage.train_epochs):
            run = start_stage(job, lab.runtime())
            asked = iter([False] * 4 + [True])
            run.stop = lambda asked=asked: next(asked)  # type: ignore[misc]
            with pytest.raises(BrokenOff):
                run_epoch(run)
            run_epoch(start_stage(job, lab.runtime()))
        assert lab.bytes(stage) == trained.bytes(stage)


def test_a_sweep_s_estimate_knows_its_sizes() -> None:
    graph = build_graph(stages())
    check_graph(graph, None)
    size = size_of(diabetes(), None)
    weights = 10 * 32 + 32 + 32 + 1
    assert (size.updates, size.num_test) == (10, None)
    assert size.point_bytes == 2 * 4 * weights + (10 * 32 + 32) // 8


def test_the_analysis_reads_its_rows(trained: Lab) -> None:
    rows = read_rows(str(trained.storage))
    assert len(rows) == len(stages())
    assert set(rows["metric"]) == {"R2"} and set(rows["task"]) == {f"{OWN}:Diabetes"}
    assert np.isfinite(rows["test_accuracy"]).all()


def test_its_options_are_in_the_id_and_change_the_network() -> None:
    dense, wide = (dense_stage(diabetes(task_options=o), 0) for o in ({}, {"hidden": 64}))
    assert dense.stage_id != wide.stage_id
    assert stage_from_dict(stage_to_dict(wide)).stage_id == wide.stage_id
    weights = task_of(wide.protocol, None).meta_network().state_dict()
    assert tuple(weights["0.weight"].shape) == (64, 10)
    with pytest.raises(ValueError, match=r"no option 'depth'.*hidden"):
        task_of(diabetes(task_options={"depth": 2}), None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("segmentation", r"unknown task 'segmentation'; known: image_classification"),
        ("not_there.at_all:Task", r"'not_there.at_all:Task'.*no module 'not_there'.*PYTHONPATH"),
        (f"{OWN}:Diabetis", r"has no 'Diabetis'; nearest: .*Diabetes"),
        (f"{OWN}:NO_TASK", r"is 'a text'; give a class"),
        (f"{OWN}:diabetes", r"is <function diabetes.*; give a class"),
    ],
)
def test_what_is_no_task_is_refused(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        task_of(diabetes(task=name), None)


def test_a_metric_out_of_range_is_refused(lab: Lab) -> None:
    with pytest.raises(ValueError, match=r"R2 of task .* is 27\.5 on val.*from 0 to 1"):
        lab.run(dense_stage(diabetes(task=f"{OWN}:OutOfRange"), 0))


def test_a_metric_that_falls_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'perplexity'.*1 - value"):
        Metric("perplexity", higher_is_better=False)


def test_training_knows_no_task_by_name() -> None:
    """The seam: nothing of what tasks are about is in training."""
    words = re.compile(r"cross_entropy|argmax|conv2d|channels_last|image|logits", re.IGNORECASE)
    assert words.search("F.cross_entropy(x)") and words.search("ImageTask")
    folder = Path(rewind_ray.training.__file__).parent
    modules = sorted(folder.glob("*.py"))
    assert len(modules) >= 7
    for module in modules:
        found = words.findall(module.read_text())
        assert not found, f"{module.name}: {found}"
