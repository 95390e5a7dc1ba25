"""Where a stage starts from: weights, momentum, mask and batches of each method, to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rewind_ray.models import build_network, initialise_
from rewind_ray.pruning import dense_mask, empty_layers, prunable_parameters, pruned_mask, unpruned
from rewind_ray.spec import Stage, dense_stage
from rewind_ray.store.checkpoint import RewindPoint
from rewind_ray.training import stage as stage_module
from rewind_ray.training.epoch import train_epoch
from rewind_ray.training.run import data_seed
from rewind_ray.training.stage import run_epoch, start_stage
from tests.rewind_ray.tiny_stages import REWINDINGS, Lab, child, tiny


def masked(weights: dict[str, Tensor], mask: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: w * mask[n] if n in mask else w for n, w in weights.items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def differs(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def start(lab: Lab, stage: Stage) -> RewindPoint:
    """The stage's epoch 0, its ancestors trained."""
    for step in stage.chain[:-1]:
        lab.run(step)
    start_stage(lab.job(stage), lab.runtime())
    return lab.point(stage, 0)


def expected_mask(lab: Lab, stage: Stage) -> dict[str, Tensor]:
    """From the parent's final weights, by what tests/pruning has checked against brute force."""
    assert stage.parent is not None
    assert stage.prune is not None
    network = build_network("digits_resnet", 10, 1, {})
    parent = lab.point(stage.parent)
    network.load_state_dict(parent.weights | parent.buffers)
    parameters = prunable_parameters(network, stage.protocol.prunable)
    return pruned_mask(parameters, parent.mask or dense_mask(parameters), stage.prune)


# The dense network


def test_the_dense_network_starts_from_its_seed(lab: Lab) -> None:
    point = start(lab, dense_stage(tiny(), 5))
    network = build_network("digits_resnet", 10, 1, {})
    initialise_(network, 5)
    assert_same(point.weights, dict(network.named_parameters()))
    assert point.optimizer == {}
    assert point.mask == {}


# Pruned stages


@pytest.mark.parametrize("method", ["lr_rewind", "finetune"])
def test_these_start_from_the_parents_final_weights(lab: Lab, method: str) -> None:
    first = child(dense_stage(tiny(), 0), method, 4)
    second = child(first, method, 3)
    for stage in (first, second):
        point = start(lab, stage)
        assert stage.parent is not None
        parent = lab.point(stage.parent)
        assert_same(point.mask, expected_mask(lab, stage))
        assert_same(point.weights, masked(parent.weights, point.mask))
        assert_same(point.buffers, parent.buffers)


@pytest.mark.parametrize("epochs", [1, 4, 6])
def test_weight_rewinding_starts_from_the_baseline_at_the_rewind_point(
    lab: Lab, epochs: int
) -> None:
    """Epochs 6 of 6: from the very start."""
    stage = child(dense_stage(tiny(), 0), "weight_rewind", epochs)
    point = start(lab, stage)
    rewound = lab.point(stage.baseline, 6 - epochs)
    assert_same(point.mask, expected_mask(lab, stage))
    assert_same(point.weights, masked(rewound.weights, point.mask))
    assert_same(point.buffers, rewound.buffers)
    assert differs(rewound.weights, lab.point(stage.baseline).weights)


def test_iterative_weight_rewinding_goes_back_to_the_original_run(lab: Lab) -> None:
    """Renda et al. 2020, §2.4; pruned by the parent's final weights, not by the rewound ones."""
    first = child(dense_stage(tiny(), 0), "weight_rewind", 4)
    second = child(first, "weight_rewind", 4)
    third = child(second, "weight_rewind", 2)
    for stage, epoch in ((second, 2), (third, 4)):
        point = start(lab, stage)
        rewound = lab.point(stage.baseline, epoch)
        assert_same(point.mask, expected_mask(lab, stage))
        assert_same(point.weights, masked(rewound.weights, point.mask))
        assert_same(point.buffers, rewound.buffers)


@pytest.mark.parametrize("method", REWINDINGS)
def test_momentum_is_restored_where_the_spec_says_so(lab: Lab, method: str) -> None:
    baseline = dense_stage(tiny(), 0)
    without = start(lab, child(baseline, method, 4))
    assert without.optimizer == {}
    restored = start(lab, child(baseline, method, 4, restore_momentum=True))
    origin = lab.point(baseline, 2 if method == "weight_rewind" else 6)
    assert any(bool((velocity != 0).any()) for velocity in origin.optimizer.values())
    assert_same(restored.optimizer, origin.optimizer)
    assert_same(restored.weights, without.weights)


def test_restored_momentum_changes_the_training(lab: Lab) -> None:
    baseline = dense_stage(tiny(), 0)
    one, other = (child(baseline, "lr_rewind", 2, restore_momentum=r) for r in (False, True))
    lab.run_chain(one)
    lab.run_chain(other)
    assert differs(lab.point(one).weights, lab.point(other).weights)


def test_at_the_very_start_there_is_no_momentum_to_restore(lab: Lab) -> None:
    stage = child(dense_stage(tiny(), 0), "weight_rewind", 6, restore_momentum=True)
    assert start(lab, stage).optimizer == {}


def test_a_parent_is_taken_at_the_epoch_it_was_pruned_at(lab: Lab) -> None:
    """Of a trajectory that was trained further."""
    short = dense_stage(tiny(), 0, train_epochs=3)
    lab.run(short, rows=(3, 6))
    stage = child(short, "lr_rewind", 2)
    start_stage(lab.job(stage), lab.runtime())
    point = lab.point(stage, 0)
    assert_same(point.weights, masked(lab.point(short, 3).weights, point.mask))
    assert differs(lab.point(short, 3).weights, lab.point(short, 6).weights)


@pytest.mark.parametrize("prunable", ["kernels", "convolutions"])
def test_only_what_is_prunable_has_a_mask(lab: Lab, prunable: str) -> None:
    stage = child(dense_stage(tiny(prunable=prunable), 0), "lr_rewind", 2)
    point = start(lab, stage)
    network = build_network("digits_resnet", 10, 1, {})
    assert point.mask.keys() == prunable_parameters(network, prunable).keys()
    total = sum(kept.numel() for kept in point.mask.values())
    assert unpruned(point.mask) == total - round(0.5 * total)


# Through training


@pytest.mark.parametrize("method", REWINDINGS)
@pytest.mark.parametrize("structure", ["unstructured", "filters"])
def test_masks_are_nested_and_pruned_weights_zero_at_every_epoch(
    lab: Lab, method: str, structure: str
) -> None:
    stage = dense_stage(tiny(), 0)
    lab.run(stage)
    above: dict[str, Tensor] = {}
    for _ in range(3):
        stage = child(stage, method, 3, structure=structure, restore_momentum=True)
        lab.run(stage, rewinds=(0, 1, 2))
        mask = lab.point(stage).mask
        for epoch in range(4):
            point = lab.point(stage, epoch)
            assert_same(point.mask, mask)
            for name, kept in mask.items():
                assert not point.weights[name][~kept].any()
                assert not (kept & ~above.get(name, torch.ones_like(kept))).any()
        velocities = {name: point.optimizer[f"momentum_buffer/{name}"] for name in mask}
        assert any(bool(v[~mask[name]].any()) for name, v in velocities.items())
        above = mask


def test_a_layer_pruned_away_is_noticed(lab: Lab) -> None:
    baseline = dense_stage(tiny(), 0)
    gone = child(baseline, "lr_rewind", 2, fraction=0.9995)
    kept = child(baseline, "lr_rewind", 2, fraction=0.9995, keep_layers=True)
    for stage, status in ((gone, "collapsed"), (kept, "done")):
        lab.run_chain(stage)
        assert lab.row(stage).status == status
        assert bool(empty_layers(lab.point(stage).mask)) == (status == "collapsed")
        assert lab.row(stage).params_remaining == 77_072 - round(0.9995 * 77_072)


# Batches


def test_methods_see_the_same_batches_and_levels_others(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[tuple[Tensor, Tensor]]] = []

    def watching(**given: Any) -> Any:
        """The real train_epoch, and a note of what it was given."""
        batches = list(given.pop("batches"))
        seen.append(batches)
        return train_epoch(batches=batches, **given)

    monkeypatch.setattr(stage_module, "train_epoch", watching)
    baseline = dense_stage(tiny(), 0)
    lab.run(baseline)
    orders: dict[tuple[str, int], list[list[tuple[Tensor, Tensor]]]] = {("dense", 0): seen[:3]}
    for method in REWINDINGS:
        stage = baseline
        for level in (1, 2):
            stage = child(stage, method, 3)
            seen.clear()
            lab.run(stage)
            orders[method, level] = list(seen)

    def alike(one: list[Any], other: list[Any]) -> bool:
        pairs = zip(sum(one, []), sum(other, []), strict=True)  # noqa: RUF017
        return all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)

    assert all(len(epochs) == 3 and len(epochs[0]) == 2 for epochs in orders.values())
    for (method, level), epochs in orders.items():
        assert not alike(epochs[:1], epochs[1:2])  # epochs differ
        for (other_method, other_level), others in orders.items():
            assert alike(epochs, others) == (level == other_level), (method, other_method)


def test_seeds_have_batches_of_their_own() -> None:
    stages = [dense_stage(tiny(), seed) for seed in range(3)]
    stages += [child(stage, "lr_rewind", 2) for stage in stages]
    assert len({data_seed(stage) for stage in stages}) == len(stages)


def test_an_epoch_of_batches_does_not_depend_on_those_before(lab: Lab) -> None:
    run = start_stage(lab.job(dense_stage(tiny(), 0)), lab.runtime())
    run_epoch(run)
    fresh = [labels for _, labels in run.task.batches("train", data_seed(run.stage), 4)]
    for epoch in range(4):
        list(run.task.batches("train", data_seed(run.stage), epoch))
    again = [labels for _, labels in run.task.batches("train", data_seed(run.stage), 4)]
    assert all(torch.equal(a, b) for a, b in zip(fresh, again, strict=True))


# Precision


def test_bf16_stages_keep_fp32_weights(lab: Lab) -> None:
    stages = {p: child(dense_stage(tiny(precision=p), 0), "lr_rewind", 2) for p in ("fp32", "bf16")}
    for stage in stages.values():
        lab.run_chain(stage)
    point = lab.point(stages["bf16"])
    for part in (point.weights, point.optimizer, point.buffers):
        for name, tensor in part.items():
            expected = torch.int64 if name.endswith("num_batches_tracked") else torch.float32
            assert tensor.dtype == expected
    assert differs(point.weights, lab.point(stages["fp32"]).weights)
    baseline = stages["bf16"].baseline
    assert lab.metrics(baseline, 6)["train_loss"] < lab.metrics(baseline, 1)["train_loss"]
    assert lab.row(stages["bf16"]).precision == "bf16"
