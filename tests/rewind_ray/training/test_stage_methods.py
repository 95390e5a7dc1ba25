"""The further rows of the method table: where they start, and that they run, stop and go on."""

from __future__ import annotations

import math

import pytest
import torch

from rewind_ray.retraining import METHODS
from rewind_ray.spec import Retrain, dense_stage
from rewind_ray.training.stage import run_epoch, start_stage
from tests.rewind_ray.tiny_stages import Lab, child, tiny

NAMES = list(METHODS)


def weights_at_start(lab: Lab, stage):
    """Of epoch 0, before any update."""
    for step in stage.chain[:-1]:
        lab.run(step)
    run = start_stage(lab.job(stage), lab.runtime())
    return {name: p.detach().clone() for name, p in run.network.named_parameters()}, run.mask


@pytest.mark.parametrize("method", NAMES)
def test_every_method_trains_to_a_row(lab: Lab, method: str) -> None:
    stage = child(dense_stage(tiny(), 0), method, 3)
    lab.run_chain(stage)
    row = lab.row(stage)
    assert row.status == "done" and row.method == method
    assert row.train_epochs == stage.train_epochs
    assert row.search_cost_epochs == stage.train_epochs
    assert row.density == pytest.approx(0.5, abs=1e-4)
    expected = {"scratch_e": 6}.get(method, 3)
    assert row.retrain_epochs == expected


@pytest.mark.parametrize("method", NAMES)
def test_every_method_goes_on_to_the_same_bits(lab: Lab, new_lab, method: str) -> None:
    """Also those whose rates depend on what pruning removed."""
    stage = child(child(dense_stage(tiny(), 0), method, 3), method, 3)
    lab.run_chain(stage)
    broken = new_lab("broken")
    for step in stage.chain[:-1]:
        broken.run(step)
    for _ in range(stage.train_epochs - 1):
        run_epoch(start_stage(broken.job(stage), broken.runtime()))
    broken.run(stage)
    assert broken.bytes(stage) == lab.bytes(stage)


@pytest.mark.parametrize(("alpha", "same"), [(0, "weight_rewind"), (1, "lr_rewind")])
@pytest.mark.parametrize("restore_momentum", [False, True])
def test_the_ends_of_blend_are_the_two_rewindings(
    lab: Lab, alpha: int, same: str, restore_momentum: bool
) -> None:
    """Bit for bit, at the second level of a chain too."""
    blend = other = dense_stage(tiny(), 0)
    for _ in range(2):
        blend = child(blend, "blend", 4, alpha=alpha, restore_momentum=restore_momentum)
        other = child(other, same, 4, restore_momentum=restore_momentum)
        lab.run_chain(blend)
        lab.run_chain(other)
        assert blend.stage_id != other.stage_id
        assert lab.bytes(blend) == lab.bytes(other)


def test_blend_starts_between_the_two(lab: Lab) -> None:
    baseline = dense_stage(tiny(), 0)
    weights, mask = weights_at_start(lab, child(baseline, "blend", 4, alpha=0.25))
    final, rewound = lab.point(baseline).weights, lab.point(baseline, 2).weights
    for name, weight in weights.items():
        expected = 0.25 * final[name] + 0.75 * rewound[name]
        if name in mask:
            expected = expected * mask[name]
        assert torch.equal(weight, expected), name


def test_low_lr_weight_rewinding_starts_from_the_rewound_weights(lab: Lab) -> None:
    baseline = dense_stage(tiny(), 0)
    weights, mask = weights_at_start(lab, child(baseline, "low_lr_weight_rewind", 4))
    rewound = lab.point(baseline, 2).weights
    assert all(torch.equal(weights[name], rewound[name] * mask[name]) for name in mask)


@pytest.mark.parametrize("method", ["reinit", "scratch_e", "scratch_b"])
def test_fresh_weights_are_neither_the_baseline_s_nor_the_same_again(lab: Lab, method: str) -> None:
    baseline = dense_stage(tiny(), 0)
    first = child(baseline, method, 2)
    weights, mask = weights_at_start(lab, first)
    initial = lab.point(baseline, 0).weights
    name = next(iter(mask))
    kept = mask[name]
    assert not torch.equal(weights[name][kept], initial[name][kept])
    assert torch.count_nonzero(weights[name][~kept]) == 0
    again, _ = weights_at_start(lab, first)
    assert torch.equal(again[name], weights[name])
    lab.run(first)
    second, second_mask = weights_at_start(lab, child(first, method, 2))
    both = second_mask[name]
    assert not torch.equal(second[name][both], weights[name][both])


def test_fresh_weights_come_with_fresh_statistics(lab: Lab) -> None:
    stage = child(dense_stage(tiny(), 0), "reinit", 2)
    for step in stage.chain[:-1]:
        lab.run(step)
    run = start_stage(lab.job(stage), lab.runtime())
    means = [b for name, b in run.network.named_buffers() if name.endswith("running_mean")]
    assert all(torch.count_nonzero(mean) == 0 for mean in means)


def test_what_pruning_removed_is_measured_as_zimmer_does(lab: Lab) -> None:
    baseline = dense_stage(tiny(), 0)
    first = child(baseline, "allr", 2, fraction=0.7)
    second = child(first, "allr", 2, fraction=0.4)
    lab.run_chain(second)
    for stage, share in ((first, 0.7), (second, 0.4)):
        parent = lab.point(stage.parent)
        mask = lab.point(stage).mask
        assert parent.weights.keys() > mask.keys()  # BatchNorm and biases count in the norm
        norm = math.sqrt(sum(float(weight.square().sum()) for weight in parent.weights.values()))
        removed = math.sqrt(
            sum(float(parent.weights[n][~kept].square().sum()) for n, kept in mask.items())
        )
        measured = lab.metrics(stage, 0)["removed_norm"]
        assert measured == pytest.approx(removed / norm / math.sqrt(share), rel=1e-3)
        assert 0 < measured < 1  # the smallest weights went


def test_what_removing_filters_took_is_the_drop_of_the_whole_norm(lab: Lab) -> None:
    """As Zimmer et al. 2023 compute it, of the norms before and after: BatchNorm goes along."""
    baseline = dense_stage(tiny(), 0)
    stage = child(baseline, "allr", 1, fraction=0.5, structure="filters")
    lab.run_chain(stage)
    start, mask = weights_at_start(lab, stage)
    before, after = (
        sum(float(weight.double().square().sum()) for weight in weights.values())
        for weights in (lab.point(baseline).weights, start)
    )
    share = 1 - sum(int(m.sum()) for m in mask.values()) / sum(m.numel() for m in mask.values())
    measured = lab.metrics(stage, 0)["removed_norm"]
    assert measured == pytest.approx(math.sqrt((before - after) / before / share), rel=1e-5)


def test_pruning_at_initialisation(lab: Lab) -> None:
    """Magnitude at initialisation: a parent of 0 epochs, then the whole schedule."""
    untrained = dense_stage(tiny(), 0, train_epochs=0)
    stage = child(untrained, "lr_rewind", 6)
    lab.run_chain(stage)
    assert lab.row(untrained).train_epochs == 0
    start, mask = weights_at_start(lab, stage)
    initial = lab.point(untrained, 0).weights
    assert all(torch.equal(start[name], initial[name] * mask[name]) for name in mask)
    assert lab.row(stage).train_epochs == 6


def test_pruning_in_the_middle_of_the_baseline(lab: Lab) -> None:
    """P3F3, 0.05: pruned at epoch 3, whatever the baseline's final state; Wang et al., Tab. 4."""
    early = dense_stage(tiny(), 0, train_epochs=3)
    stage = child(early, "step", 3, lr=0.05, drops=(2,))
    lab.run_chain(stage)
    whole = dense_stage(tiny(), 0)
    lab.run(whole)
    assert whole.stage_id == early.stage_id  # one trajectory
    start, mask = weights_at_start(lab, stage)
    at_three = lab.point(whole, 3).weights
    assert all(torch.equal(start[name], at_three[name] * mask[name]) for name in mask)
    late = child(whole, "step", 3, lr=0.05, drops=(2,))
    assert late.stage_id != stage.stage_id


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "blend"}, "blend needs alpha; allowed: 0 to 1"),
        ({"method": "blend", "alpha": 1.5}, "alpha is 1.5; allowed: 0 to 1"),
        ({"method": "blend", "alpha": -0.1}, "alpha is -0.1"),
        ({"method": "scratch_b"}, "scratch_b needs speedup"),
        ({"method": "scratch_b", "speedup": 0.5}, "speedup is 0.5; allowed: 1 and up"),
        ({"method": "step"}, "step needs lr"),
        ({"method": "cosine"}, "cosine needs lr"),
        (
            {"method": "step", "lr": 0.1, "drops": (3,)},
            "drops is .* epochs of a retraining of 3, before its end",
        ),
        ({"method": "step", "lr": 0.1, "drops": (2, 1)}, "rising order"),
        ({"method": "step", "lr": 0.1, "factor": 2}, "factor is 2.0"),
        ({"method": "slr", "warmup": 1}, "warmup is 1.0; allowed: 0 up to below 1"),
        ({"method": "lr_rewind", "alpha": 0.5}, "lr_rewind doesn't use it; leave alpha out"),
        ({"method": "finetune", "drops": (1,)}, "finetune doesn't use it; leave drops out"),
        ({"method": "reinit", "restore_momentum": True}, "restore_momentum is True, but reinit"),
    ],
)
def test_knobs_that_are_missing_or_wrong_are_refused(settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Retrain(epochs=3, **settings)


def test_a_default_that_is_given_is_the_same_stage() -> None:
    baseline = dense_stage(tiny(), 0)
    plain = child(baseline, "slr", 3)
    assert child(baseline, "slr", 3, warmup=0.1).stage_id == plain.stage_id
    assert child(baseline, "slr", 3, warmup=0.0).stage_id != plain.stage_id
    step = child(baseline, "step", 3, lr=0.1, drops=(1,))
    assert child(baseline, "step", 3, lr=0.1, drops=(1,), factor=0.1).stage_id == step.stage_id
