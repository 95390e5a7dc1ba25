"""Mikler's recipes against what he published: every line of docs/protocols/mikler2022.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rewind_ray.models import build_network
from rewind_ray.protocols import mikler_resnet, mikler_wrn
from rewind_ray.pruning import prunable_parameters
from rewind_ray.pruning.flops import multiply_adds
from rewind_ray.spec import dense_stage
from rewind_ray.training.stage import epoch_rates
from sweeps import mikler2022
from sweeps.iterative_wrn import iterative_wrn
from sweeps.mikler2022 import FIGURES, REWIND_EPOCH, REWINDINGS, retrainings
from sweeps.plan.graph import build_graph
from tests.rewind_ray.examples import one_image

STEPS = 2000
RESNETS = ("fig1", "fig2", "fig3", "fig4", "table5")
COUNTS = {  # trainable, of kernels; tables 1 and 2
    "resnet20": (272_282, 270_896),
    "resnet56": (855_578, 851_504),
    "resnet110": (1_730_522, 1_722_416),
    "wrn_16_8": (10_961_370, 10_954_160),
}


PAGE = Path(__file__).parents[2] / "docs/protocols/mikler2022.md"


def values_on_the_page(protocol):
    """What the last column of a protocol's table has as `name=value`."""
    section = PAGE.read_text().split(f"## `{protocol}`")[1].split("\n## ")[0]
    column = "\n".join(line.rsplit("|", 2)[1] for line in section.splitlines() if "|" in line)
    found = re.findall(r"`(\w+)=([^`]+)`", column)
    return {name: ast.literal_eval(value) for name, value in found}


@pytest.mark.parametrize(
    ("make", "network"),
    [
        *((mikler_resnet, network) for network in ("resnet20", "resnet56", "resnet110")),
        (mikler_wrn, "wrn_16_8"),
    ],
)
def test_protocols_are_what_their_page_says(make, network):
    protocol = make(network)
    options = protocol.optimizer_settings | dict(protocol.network_options)
    page = values_on_the_page(make.__name__)
    assert len(page) > 12
    for name, value in page.items():
        assert (options[name] if name in options else getattr(protocol, name)) == value, name
    assert options.keys() <= page.keys()


def test_every_recipe_is_on_the_page():
    table = PAGE.read_text().split("\n## The recipes")[1].split("\n## ")[0]
    named = {line.split("|")[1].strip() for line in table.splitlines() if "|" in line}
    assert named - {"recipe", "---"} == {*FIGURES, "iterative_wrn"}


def stages(figure, rates="as_run"):
    return [n.stage for n in build_graph(mikler2022.stages_of(figure, 0, rates)).values()]


def rates_of(stage):
    """Runs of equal learning rates: (updates, rate)."""
    runs = []
    for epoch in range(stage.train_epochs):
        rate = epoch_rates(stage, epoch, STEPS)
        assert rate(0) == rate(STEPS - 1)  # his drops are whole epochs of 2,000 updates
        if runs and runs[-1][1] == pytest.approx(rate(0)):
            runs[-1] = (runs[-1][0] + STEPS, runs[-1][1])
        else:
            runs.append((STEPS, rate(0)))
    return runs


@pytest.mark.parametrize("figure", FIGURES)
def test_protocols(figure):
    protocol = FIGURES[figure][0]()
    wide = protocol.network == "wrn_16_8"
    assert protocol.steps_per_epoch == STEPS
    assert protocol.epochs == (40 if wide else 36)
    assert protocol.batch_size == 128
    assert protocol.optimizer_settings == {"momentum": 0.9, "nesterov": True}
    assert protocol.weight_decay == (4e-4 if wide else 2e-4)
    assert (protocol.decayed, protocol.initial_weights) == ("all", "he_uniform")
    assert (protocol.augmentation, protocol.standardisation) == ("reflect4_flip", "dataset")
    assert (protocol.validation, protocol.prunable) == ("none", "kernels")
    assert dict(protocol.network_options) == {"same_padding": True}
    classes = {"cifar10": 10, "cifar100": 100}[protocol.dataset]
    with torch.device("meta"):
        network = build_network(protocol.network, classes, 3, dict(protocol.network_options))
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    decay, epsilon = (0.9, 1e-3) if wide else (0.997, 1e-5)
    assert {round(1 - norm.momentum, 9) for norm in norms} == {decay}
    assert {norm.eps for norm in norms} == {epsilon}
    if classes == 10:
        trainable, kernels = COUNTS[protocol.network]
        assert sum(p.numel() for p in network.parameters()) == trainable
        prunable = prunable_parameters(network, protocol.prunable)
        assert sum(p.numel() for p in prunable.values()) == kernels


@pytest.mark.parametrize("figure", FIGURES)
def test_learning_rates_as_run(figure):
    """experiments/*.yaml and training/run.py: 32 (WRN: 36) epochs with a new optimizer, whose
    PiecewiseConstantDecay counts updates from 0."""
    wide = figure in ("fig5", "fig6")
    whole = (
        [(32_000, 0.1), (16_000, 0.02), (16_000, 0.004), (16_000, 0.0008)]
        if wide
        else [(36_000, 0.1), (18_000, 0.01), (18_000, 0.001)]
    )
    expected = {
        "dense": whole,
        "lr_rewind": whole,
        "weight_rewind": [*whole[:-1], (whole[-1][0] - 8_000, whole[-1][1])],
        "finetune": [(72_000, 0.001)],
    }
    for stage in stages(figure):
        found = rates_of(stage)
        assert [updates for updates, _ in found] == [n for n, _ in expected[stage.method]]
        assert [rate for _, rate in found] == pytest.approx([r for _, r in expected[stage.method]])
        if stage.method == "weight_rewind":
            assert stage.rewind_epoch == REWIND_EPOCH == 4
        if stage.retrain:
            assert not stage.retrain.restore_momentum


def test_learning_rates_as_written():
    """§5.2: what is left of the original schedule, so drops after 28,000 and 46,000 updates."""
    (rewound,) = [s for s in stages("table5", "as_written") if s.method == "weight_rewind"]
    assert rates_of(rewound) == [
        (28_000, pytest.approx(0.1)),
        (18_000, pytest.approx(0.01)),
        (18_000, pytest.approx(0.001)),
    ]
    (as_run,) = [s for s in stages("table5") if s.method == "weight_rewind"]
    assert rewound.stage_id != as_run.stage_id
    others = {s.stage_id for s in stages("table5")} - {as_run.stage_id}
    assert others == {s.stage_id for s in stages("table5", "as_written")} - {rewound.stage_id}


def test_every_step_of_a_chain_starts_from_the_highest_rate():
    dense = dense_stage(FIGURES["fig5"][0](), 0)
    retrained = retrainings(dense.protocol, REWIND_EPOCH, "as_run", REWINDINGS)
    for node in build_graph(iterative_wrn(dense, retrained, (0.3,), 10.0)).values():
        assert epoch_rates(node.stage, 0, STEPS)(0) == pytest.approx(0.1)


def test_a_rewinding_to_the_start_is_one_stage_however_it_is_said():
    dense = dense_stage(FIGURES["fig1"][0](), 0)
    as_run, as_written = (
        retrainings(dense.protocol, 0, rates, ("weight_rewind",))
        for rates in ("as_run", "as_written")
    )
    recipe = FIGURES["fig1"][1]
    assert (
        build_graph(recipe(dense, as_run)).keys() == build_graph(recipe(dense, as_written)).keys()
    )


def test_structured_pruning_masks_kernels_only():
    prunes = {stage.prune for stage in stages("fig3") if stage.prune}
    assert {(p.structure, p.scope, p.filters_only, p.keep_layers) for p in prunes} == {
        ("filters", "global", True, False)
    }


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_8"])
@pytest.mark.parametrize("side", [32, 15])
def test_keras_padding(name, side):
    """Keras: ceil(side / 2) outputs, max((outputs - 1) * 2 + 3 - side, 0) pixels of padding, the
    smaller half before. One output pixel at a time."""
    network = build_network(name, 10, 3, {"same_padding": True})
    for stage in (1, 2):
        convolution = network.get_submodule(f"stages.{stage}.0.conv1")
        channels = convolution.weight.shape[1]
        image = torch.randn(1, channels, side, side)
        found = convolution(image)
        outputs = -(-side // 2)
        before = max((outputs - 1) * 2 + 3 - side, 0) // 2
        assert found.shape[2:] == (outputs, outputs)
        for row, column in ((0, 0), (outputs // 2, 1), (outputs - 1, outputs - 1)):
            window = torch.zeros(channels, 3, 3)
            for y, x in np.ndindex(3, 3):
                from_y, from_x = 2 * row + y - before, 2 * column + x - before
                if 0 <= from_y < side and 0 <= from_x < side:
                    window[:, y, x] = image[0, :, from_y, from_x]
            expected = (convolution.weight * window).sum(dim=(1, 2, 3))
            torch.testing.assert_close(found[0, :, row, column], expected, rtol=1e-4, atol=1e-4)
    plain = build_network(name, 10, 3, {})
    assert multiply_adds(network, one_image((3, 32, 32))) == multiply_adds(
        plain, one_image((3, 32, 32))
    )
    one_by_one = [m for m in network.modules() if getattr(m, "kernel_size", None) == (1, 1)]
    picked = one_by_one[-1]
    image = torch.randn(1, picked.in_channels, side, side)
    torch.testing.assert_close(picked(image), F.conv2d(image[:, :, ::2, ::2], picked.weight))
