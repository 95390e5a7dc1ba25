"""Stages that prune filters: what goes with them, and physical shrinking."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from rewind_ray.models import build_network
from rewind_ray.pruning.flops import multiply_adds
from rewind_ray.pruning.shrink import cut_of, cut_tensors, shrink_
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from rewind_ray.store.checkpoint import cut_point
from rewind_ray.training.stage import run_epoch, start_stage
from tests.rewind_ray.examples import one_image
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
    dense_flops = sum(multiply_adds(network, one_image((1, 8, 8))).values())
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


@pytest.mark.parametrize("method", ["lr_rewind", "weight_rewind"])
def test_filters_only_leaves_batch_norm_and_what_reads_it_to_training(
    lab: Lab, dense, method: str
) -> None:
    """Pruned filters stay zero; their shift, and the weights on it, are trained, as by Renda."""
    stage = step(dense, method, momentum=True, filters_only=True)
    assert stage.stage_id != step(dense, method, momentum=True).stage_id
    lab.run(dense, rewinds=(3,))
    run = start_stage(lab.job(stage), lab.runtime())
    assert run.companions == {}
    begun = {name: p.detach().clone() for name, p in run.network.named_parameters()}
    while not run.finished:
        run_epoch(run)
    moved = 0.0
    for block in range(3):
        name = f"stages.{block}.0"
        pruned = ~run.mask[f"{name}.conv1.weight"].flatten(1).any(dim=1)
        assert pruned.any()
        weights = dict(run.network.named_parameters())
        assert not weights[f"{name}.conv1.weight"][pruned].any()
        shifts = weights[f"{name}.norm1.bias"][pruned]
        assert not torch.equal(shifts, begun[f"{name}.norm1.bias"][pruned])
        readers = weights[f"{name}.conv2.weight"][:, pruned]
        assert run.mask[f"{name}.conv2.weight"].all()
        difference = readers - begun[f"{name}.conv2.weight"][:, pruned]
        moved += float(difference.detach().abs().sum())
        assert not torch.equal(readers, torch.zeros_like(readers))
    assert moved > 0


def test_a_chain_prunes_filters_one_way(dense) -> None:
    first = step(dense, filters_only=True, fraction=0.2)
    step(first, filters_only=True)
    between = retrain_stage(first, Prune(fraction=0.2), Retrain(method="lr_rewind", epochs=2))
    for parent in (first, between):
        with pytest.raises(ValueError, match=r"filters_only is False at level .*True at level 1"):
            step(parent)
    with pytest.raises(ValueError, match="shrink with filters_only"):
        step(dense, filters_only=True, shrink=True)
    with pytest.raises(ValueError, match="filters_only with structure 'unstructured'"):
        Prune(fraction=0.2, filters_only=True)


@pytest.mark.parametrize("structure", ["unstructured", "filters"])
def test_masks_stay_zero_with_all_of_renda_s_settings(lab: Lab, structure: str) -> None:
    """And each of them changes what is trained."""
    options = {"first_projection": True, "zero_last_norm": True, "batch_norm_shards": 4}
    settings = {
        "decayed": "not_batch_norm",
        "initial_weights": "truncated_normal",
        "standardisation": "image",
        "network_options": {**options, "projection_batch_norm": True},
    }
    dense = dense_stage(tiny(epochs=3, schedule=Schedule(lr=0.1), **settings), 0)
    prune = Prune(fraction=0.3, structure=structure, filters_only=structure == "filters")
    retrain = Retrain(method="lr_rewind", epochs=2, restore_momentum=True)
    stage = retrain_stage(dense, prune, retrain)
    lab.run_chain(stage)
    point = lab.point(stage)
    assert sum(int((~kept).sum()) for kept in point.mask.values()) > 20_000
    for name, kept in point.mask.items():
        assert not point.weights[name][~kept].any()
    if structure == "unstructured":
        for changed in ("decayed", "initial_weights", "standardisation"):
            fewer = {name: value for name, value in settings.items() if name != changed}
            other = dense_stage(tiny(epochs=3, schedule=Schedule(lr=0.1), **fewer), 0)
            assert other.stage_id != dense.stage_id
            lab.run(other)
            assert not torch.equal(
                lab.point(other).weights["dense.weight"], lab.point(dense).weights["dense.weight"]
            )


SIZES = (
    "density",
    "compression_ratio",
    "params_total",
    "params_prunable",
    "params_remaining",
    "flops_dense",
    "flops_remaining",
    "speedup",
    "search_cost_flops",
    "status",
)
"""Columns that say how large the network is, and what follows from it."""


@pytest.mark.parametrize("prunable", ["kernels", "convolutions"])
@pytest.mark.parametrize(
    "prune",
    [
        {"layers": "", "scope": "global", "fraction": 0.4},
        {"layers": "", "scope": "layer", "fraction": 0.4, "keep_layers": True},
        {"fraction": 0.5},
    ],
    ids=["global", "each layer", "first of blocks"],
)
def test_one_network_has_one_size(lab: Lab, prunable: str, prune: dict[str, Any]) -> None:
    """Rows of a masked and of a shrunk chain, two steps each: the same function, the same size."""
    dense = dense_stage(tiny(prunable=prunable), 0)
    chains = []
    for shrink in (False, True):
        stages = [dense]
        for _ in range(2):
            stages.append(step(stages[-1], epochs=1, shrink=shrink, **prune))
        lab.run_chain(stages[-1])
        chains.append(stages[1:])
    before = 1.0
    for masked, shrunk in zip(*chains, strict=True):
        for name in SIZES:
            assert getattr(lab.row(masked), name) == getattr(lab.row(shrunk), name), name
        sizes = [lab.metrics(stage, 1)["density"] for stage in (masked, shrunk)]
        assert sizes == [lab.row(masked).density] * 2
        norms = [lab.metrics(stage, 0)["removed_norm"] for stage in (masked, shrunk)]
        assert norms[0] == pytest.approx(norms[1], rel=1e-4)
        full, small = lab.point(masked), lab.point(shrunk)
        assert small.cut is not None
        for name, kept in cut_tensors(full.mask, small.cut).items():
            assert torch.equal(kept, small.mask[name]), name
        if prune.get("scope") == "global":  # what is asked for is what is left
            assert lab.row(masked).density == pytest.approx(0.6 * before, abs=0.02)
        before = lab.row(masked).density


def test_a_masked_network_computes_what_its_shrunk_one_does(lab: Lab, dense) -> None:
    stage = step(dense, layers="", scope="global", fraction=0.5)
    lab.run_chain(stage)
    point = lab.point(stage)
    run = start_stage(lab.job(stage), lab.runtime())
    network = run.network.eval()
    cut = cut_of(network, {**run.mask, **run.companions}, one_image((1, 8, 8)))
    small = shrink_(copy.deepcopy(network), cut)
    images = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(small(images), network(images), rtol=1e-5, atol=1e-5)
    row = lab.row(stage)
    kernels = [p for n, p in small.named_parameters() if p.dim() > 1]
    masked_still = sum(int((~kept).sum()) for kept in cut_tensors(point.mask, cut).values())
    assert row.params_remaining == sum(kernel.numel() for kernel in kernels) - masked_still
