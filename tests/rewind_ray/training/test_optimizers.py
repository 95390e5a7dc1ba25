"""Every optimizer of the table: resumed to the bit, zeros stay zero, weight decay as documented."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rewind_ray import optimizers
from rewind_ray.limits import Numbers
from rewind_ray.optimizers import OPTIMIZERS, OptimizerKind, Option
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Stage, dense_stage
from rewind_ray.store import checkpoint
from rewind_ray.store.checkpoint import RewindPoint
from rewind_ray.training.optimizers import make_optimizer, tensors_of_a_weight
from rewind_ray.training.stage import run_epoch, start_stage
from tests.rewind_ray.tiny_stages import Lab, child, tiny


def rms_prop(groups: Any, *, alpha: float, **common: float) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(groups, alpha=alpha, momentum=0.5, **common)


@pytest.fixture(autouse=True)
def with_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/extending.md has it: an entry of the table, and nothing else."""
    more = OptimizerKind(
        build=rms_prop,
        options={"alpha": Option(default=0.99, allowed=Numbers(least=0, below=1), help="decay")},
        weight_decay="c * w is added to the gradient",
        tensors=2,
        source="of a test",
    )
    monkeypatch.setitem(optimizers.OPTIMIZERS, "rmsprop", more)


ALL = (*OPTIMIZERS, "rmsprop")
LR = {"sgd": 0.1}


def dense(optimizer: str) -> Stage:
    """4 epochs of 2 updates, with enough weight decay to move a weight in one."""
    schedule = Schedule(lr=LR.get(optimizer, 0.01), drops=(2,))
    protocol = tiny(
        network="resnet8", epochs=4, optimizer=optimizer, schedule=schedule, weight_decay=0.5
    )
    return dense_stage(protocol, 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The dense networks are trained once for all tests."""
    return Lab(tmp_path_factory.mktemp("optimizers"))


@pytest.mark.parametrize("optimizer", ALL)
def test_a_run_taken_up_again_after_every_epoch_is_the_same_to_the_bit(
    trained: Lab, lab: Lab, optimizer: str
) -> None:
    """Of a pruned network that starts with the restored state."""
    stage = child(dense(optimizer), "weight_rewind", 2, restore_momentum=True)
    rewinds = {stage.baseline: (2,), stage: (0,)}
    for step in stage.chain:
        trained.run(step, rewinds=rewinds[step])
        for _ in range(step.train_epochs):
            run_epoch(start_stage(lab.job(step, rewinds=rewinds[step]), lab.runtime()))
        assert lab.bytes(step) == trained.bytes(step)
    assert trained.row(stage).optimizer == optimizer
    at_the_start, rewound = lab.point(stage, 0).optimizer, lab.point(stage.baseline, 2).optimizer
    assert at_the_start.keys() == rewound.keys() != set()
    assert all(torch.equal(tensor, rewound[name]) for name, tensor in at_the_start.items())


@pytest.mark.parametrize("optimizer", ALL)
@pytest.mark.parametrize("structure", ["unstructured", "filters"])
def test_pruned_weights_stay_zero_under_weight_decay(
    trained: Lab, optimizer: str, structure: str
) -> None:
    stage = child(dense(optimizer), "lr_rewind", 2, structure=structure, restore_momentum=True)
    trained.run(stage.baseline)
    trained.run(stage, rewinds=(0, 1))
    for epoch in range(3):
        point = trained.point(stage, epoch)
        for name, kept in point.mask.items():
            assert not point.weights[name][~kept].any()
            assert point.weights[name][kept].all()


@pytest.mark.parametrize("optimizer", ALL)
def test_the_restored_state_of_pruned_weights_does_not_matter(
    trained: Lab, lab: Lab, optimizer: str
) -> None:
    """The same start, with other numbers in the state where the mask is off."""
    stage = child(dense(optimizer), "lr_rewind", 2, restore_momentum=True)
    for step in stage.chain:
        trained.run(step)
    shutil.copytree(trained.storage, lab.storage)
    shutil.rmtree(lab.storage / "stages" / stage.stage_id)
    run = start_stage(lab.job(stage), lab.runtime())
    changed = 0
    for name, parameter in run.network.named_parameters():
        for value in run.optimizer.state[parameter].values():
            if name in run.mask and value.dim():
                value[~run.mask[name]] = 3.0
                changed += 1
    assert changed
    while not run.finished:
        run_epoch(run)
    one, two = trained.point(stage), lab.point(stage)
    for part in ("weights", "buffers"):
        found = getattr(two, part)
        assert all(torch.equal(t, found[name]) for name, t in getattr(one, part).items())


@pytest.mark.parametrize("optimizer", ALL)
def test_the_state_is_cut_with_the_network(trained: Lab, optimizer: str) -> None:
    """Each tensor as its parameter; counters stay. Then the small network trains on."""
    stage = child(
        dense(optimizer),
        *("lr_rewind", 2),
        structure="filters",
        layers="stages.*.conv1",
        shrink=True,
        restore_momentum=True,
    )
    trained.run(stage.baseline)
    trained.run(stage, rewinds=(0,))
    parent, small = trained.point(stage.baseline), trained.point(stage, 0)
    assert small.cut is not None
    for full, tensor in small.optimizer.items():
        name = full.partition("/")[2]
        whole = parent.optimizer[full]
        assert tensor.shape == (small.weights[name].shape if whole.dim() else ())
        if name in small.cut.kept and whole.dim():
            for dim, kept in enumerate(small.cut.kept[name]):
                whole = whole if kept is None else whole.index_select(dim, torch.tensor(kept))
        assert torch.equal(tensor, whole)
    assert trained.row(stage).status == "done"


# What the rules say


def by_hand(optimizer: str, weight: float, gradients: list[float], lr: float, c: float) -> float:
    """Kingma & Ba 2015, Algorithm 1; Loshchilov & Hutter 2019, Algorithm 2; in plain numbers."""
    m = v = 0.0
    for step, gradient in enumerate(gradients, start=1):
        if optimizer == "adam":
            gradient += c * weight
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        if optimizer == "adamw":
            weight *= 1 - lr * c
        weight -= lr * (m / (1 - 0.9**step)) / (math.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return weight


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_s_weight_decay_is_what_the_protocol_says(optimizer: str) -> None:
    gradients = [1.0, -0.5, 0.25, 2.0, -0.01]
    protocol = tiny(optimizer=optimizer, weight_decay=0.3, schedule=Schedule(lr=0.05))
    network = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(network.weight, 2.0)
    built = make_optimizer(network, protocol)
    for gradient in gradients:
        network.weight.grad = torch.full((1, 1), gradient, dtype=torch.float64)
        built.step()
    expected = by_hand(optimizer, 2.0, gradients, 0.05, 0.3)
    assert network.weight.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "tensors"),
    [
        ({}, 1),
        ({"optimizer_options": {"momentum": 0}}, 0),
        ({"optimizer": "adam"}, 2),
        ({"optimizer": "adamw"}, 2),
        ({"optimizer": "rmsprop"}, 2),
    ],
)
def test_how_much_an_optimizer_keeps(lab: Lab, changes: dict[str, Any], tensors: int) -> None:
    """What the plan's estimate of the disk counts, against what is written."""
    stage = dense_stage(
        tiny(epochs=1, network="resnet8", schedule=Schedule(lr=0.001), **changes), 0
    )
    lab.run(stage)
    state, weights = lab.point(stage).optimizer, lab.point(stage).weights
    assert tensors_of_a_weight(stage.protocol) == tensors
    assert sum(tensor.numel() for tensor in state.values() if tensor.dim()) == tensors * sum(
        weight.numel() for weight in weights.values()
    )


def test_a_sweep_is_planned_without_pytorchs_compiler() -> None:
    """Its import takes seconds, and making any optimizer of PyTorch imports it."""
    program = """
import sys
from rewind_ray.protocols import digits
from rewind_ray.training.optimizers import tensors_of_a_weight
assert tensors_of_a_weight(digits()) == 1
assert "torch" in sys.modules and "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# Rewind points of any optimizer

TORCH: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.01),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.01),
}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


def train_(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(8, 1, 4, 4, generator=generator)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", TORCH)
def test_any_optimizer_goes_on_from_a_point_to_the_same_bits(name: str) -> None:
    network, other = net(), net()
    optimizer, fresh = TORCH[name](network.parameters()), TORCH[name](other.parameters())
    train_(network, optimizer, 1)
    point = checkpoint.from_bytes(checkpoint.to_bytes(checkpoint.capture(network, optimizer, {})))
    checkpoint.load_network_(other, point)
    checkpoint.load_optimizer_(other, fresh, point.optimizer)
    train_(network, optimizer, 2)
    train_(other, fresh, 2)
    before, after = (
        checkpoint.to_bytes(checkpoint.capture(*pair, {}))
        for pair in ((network, optimizer), (other, fresh))
    )
    assert before == after


def test_a_state_that_is_no_weight_s_is_refused() -> None:
    network = net()
    optimizer = torch.optim.Adafactor(network.parameters())
    train_(network, optimizer, 1)
    with pytest.raises(TypeError, match="Adafactor keeps row_var"):
        checkpoint.capture(network, optimizer, {})


def trained_point(optimizer: str = "adam") -> tuple[nn.Module, RewindPoint]:
    network = net()
    built = make_optimizer(network, tiny(optimizer=optimizer, schedule=Schedule(lr=0.01)))
    train_(network, built, 1)
    return network, checkpoint.capture(network, built, {})


FORGED: dict[str, tuple[str, Tensor | None]] = {
    "a moment is missing": ("exp_avg/0.weight", None),
    "a counter is missing": ("step/3.bias", None),
    "a counter for each weight": ("step/0.weight", torch.ones(4, 1, 3, 3)),
    "a moment for all weights": ("exp_avg/0.weight", torch.tensor(1.0)),
    "of another shape": ("exp_avg/0.weight", torch.ones(4, 1, 3, 2)),
    "of another optimizer": ("momentum_buffer/0.weight", torch.ones(4, 1, 3, 3)),
    "of no weight": ("exp_avg/9.weight", torch.ones(4, 1, 3, 3)),
    "of another precision": ("exp_avg/0.weight", torch.ones(4, 1, 3, 3).double()),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_state_that_does_not_fit_is_refused_and_nothing_loaded(case: str) -> None:
    network, point = trained_point()
    name, tensor = FORGED[case]
    state = dict(point.optimizer)
    if tensor is None:
        del state[name]
    else:
        state[name] = tensor
    optimizer = make_optimizer(network, tiny(optimizer="adam", schedule=Schedule(lr=0.01)))
    with pytest.raises(ValueError, match="fit"):
        checkpoint.load_optimizer_(network, optimizer, state)
    assert not optimizer.state


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_counters_that_count_nothing_are_refused(value: float) -> None:
    _, point = trained_point()
    forged = replace(point, optimizer=point.optimizer | {"step/0.weight": torch.tensor(value)})
    with pytest.raises(ValueError, match=r"step/0\.weight"):
        checkpoint.from_bytes(checkpoint.to_bytes(forged))


def test_a_weight_without_a_gradient_has_no_state_and_is_restored_so() -> None:
    network = net()
    network.register_parameter("spare", nn.Parameter(torch.ones(3)))
    optimizer = make_optimizer(network, tiny(optimizer="adam", schedule=Schedule(lr=0.01)))
    train_(network, optimizer, 1)
    state = checkpoint.capture(network, optimizer, {}).optimizer
    assert "exp_avg/spare" not in state and "exp_avg/0.weight" in state
    checkpoint.load_optimizer_(network, optimizer, state)
    assert checkpoint.capture(network, optimizer, {}).optimizer.keys() == state.keys()


def test_a_blend_mixes_moments_and_keeps_the_counters_of_one() -> None:
    _, one = trained_point()
    other = replace(one, optimizer={name: 3 * t for name, t in one.optimizer.items()})
    blended = checkpoint.blend(one, other, alpha=0.25).optimizer
    for name, tensor in one.optimizer.items():
        expected = 2.5 * tensor if tensor.dim() else tensor
        torch.testing.assert_close(blended[name], expected)
    assert checkpoint.blend(one, replace(other, optimizer={}), alpha=0.25).optimizer == {}
