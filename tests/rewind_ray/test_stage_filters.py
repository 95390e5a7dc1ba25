"""Stages that prune filters: what goes with them, and physical shrinking."""

from __future__ import annotations

import pytest
import torch

from rewind_ray.flops import multiply_adds
from rewind_ray.models import build_network
from rewind_ray.pruning.shrink import cut_tensors
from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from rewind_ray.stage import run_epoch, start_stage
from rewind_ray.store.checkpoint import cut_point
from tests.rewind_ray.tiny_stages import KNOBS, Lab, tiny

FIRST = {"structure": "filters", "scope": "layer", "layers": "stages.*.conv1"}


def step(parent, method="lr_rewind", fraction=0.5, epochs=3, momentum=False, **prune):
    knobs = {"alpha": KNOBS["alpha"]} if method == "blend" else {}
    retrain = Retrain(method=method, epochs=epochs, restore_momentum=momentum, **knobs)
    return retrain_stage(parent, Prune(fraction=fraction, **FIRST | prune), retrain)


@pytest.fixture
def dense():
    return dense_stage(tiny(), 0)


def test_a_pruned_filter_takes_its_batch_norm_channel_with_it(lab: Lab, dense) -> None:
    stage = step(dense, momentum=True)
    lab.run_chain(stage)
    for epoch in (0, 3):
        point = lab.point(stage, epoch) if epoch in lab.points(stage) else lab.point(stage)
        for block in range(3):
            dead = ~point.mask[f"stages.{block}.0.conv1.weight"].flatten(1).any(dim=1)
            assert dead.sum() == len(dead) // 2
            for part in ("weight", "bias"):
                values = point.weights[f"stages.{block}.0.norm1.{part}"]
                assert torch.count_nonzero(values[dead]) == 0
                assert torch.count_nonzero(values[~dead]) > 0 or part == "bias"


def test_shrinking_trains_a_smaller_network_to_the_same_function(lab: Lab, dense) -> None:
    masked, shrunk = step(dense), step(dense, shrink=True)
    assert masked.stage_id != shrunk.stage_id
    for stage in (masked, shrunk):
        lab.run_chain(stage)
    small, full = lab.point(shrunk), lab.point(masked)
    assert small.cut is not None
    for name, weight in small.weights.items():
        expected = cut_tensors({name: full.weights[name]}, small.cut)[name]
        assert torch.allclose(weight, expected, atol=1e-4), name
    assert lab.row(shrunk).test_accuracy == pytest.approx(lab.row(masked).test_accuracy, abs=0.03)
    sizes = [sum(w.numel() for w in point.weights.values()) for point in (small, full)]
    assert sizes[0] < 0.7 * sizes[1]


def test_the_row_of_a_shrunk_network_counts_against_the_dense_one(lab: Lab, dense) -> None:
    stage = step(dense, shrink=True)
    lab.run_chain(stage)
    row, point = lab.row(stage), lab.point(stage)
    network = build_network("digits_resnet", 10, 1, {})
    dense_flops = sum(multiply_adds(network, (1, 8, 8)).values())
    kernels = [n for n in point.weights if "norm" not in n and "bias" not in n]
    left = sum(point.weights[name].numel() for name in kernels)
    assert row.flops_dense == dense_flops
    assert row.params_prunable == 77_072
    assert row.params_remaining == left  # of a shrunk layer nothing is masked any more
    assert row.density == pytest.approx(left / 77_072)
    # conv1 and conv2 of each block have half their work left; stem, projections and dense all
    projections = 16 * 32 * 16 + 32 * 64 * 4
    others = 9 * 16 * 64 + projections + 640
    assert row.flops_remaining == others + (dense_flops - others) // 2
    assert row.speedup == pytest.approx(dense_flops / row.flops_remaining)


@pytest.mark.parametrize("method", ["lr_rewind", "weight_rewind", "blend", "reinit"])
def test_a_shrunk_chain_goes_on_to_the_same_bits(lab: Lab, new_lab, dense, method: str) -> None:
    """Two levels, the second interrupted after every epoch."""
    first = step(dense, method, fraction=0.3, shrink=True)
    second = step(first, method, fraction=0.3, shrink=True)
    lab.run_chain(second)
    assert lab.row(second).density < lab.row(first).density
    broken = new_lab("broken")
    for stage in second.chain[:-1]:
        broken.run(stage)
    for _ in range(second.train_epochs - 1):
        run_epoch(start_stage(broken.job(second), broken.runtime()))
    broken.run(second)
    assert broken.bytes(second) == lab.bytes(second)


def test_rewinding_maps_the_baseline_through_the_same_cut(lab: Lab, dense) -> None:
    first = step(dense, "weight_rewind", fraction=0.3, shrink=True)
    second = step(first, "weight_rewind", fraction=0.3, shrink=True)
    lab.run_chain(first)
    run = start_stage(lab.job(second), lab.runtime())
    rewound = cut_point(lab.point(dense, 3), run.cut)
    for name, weight in run.network.named_parameters():
        mask = {**run.mask, **run.companions}.get(name)
        expected = rewound.weights[name]
        if mask is not None:
            expected = expected * mask
        assert torch.equal(weight.detach().contiguous(), expected), name


def test_a_masked_step_after_a_shrunk_one(lab: Lab, dense) -> None:
    first = step(dense, shrink=True)
    second = retrain_stage(first, Prune(fraction=0.5), Retrain(method="lr_rewind", epochs=2))
    lab.run_chain(second)
    expected = lab.row(first).params_remaining - round(0.5 * lab.row(first).params_remaining)
    assert lab.row(second).params_remaining == expected


@pytest.mark.parametrize("structure", ["unstructured", "2:4"])
def test_only_filters_can_be_cut_out(structure: str) -> None:
    fraction = None if ":" in structure else 0.5
    with pytest.raises(ValueError, match=r"shrink with structure .* allowed: structure 'filters'"):
        Prune(fraction=fraction, structure=structure, shrink=True)
