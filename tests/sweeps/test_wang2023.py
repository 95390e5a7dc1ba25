"""Wang et al.'s recipes against what they published: every line of docs/protocols/wang2023.md."""

from __future__ import annotations

import ast
import csv
import re
from pathlib import Path

import pytest
import torch

from rewind_ray.models import build_network, initialise_
from rewind_ray.network_options import options_of
from rewind_ray.protocols import wang_cifar, wang_imagenet100
from rewind_ray.pruning import dense_mask, prunable_parameters, pruned_mask
from rewind_ray.pruning.channels import follower_mask
from rewind_ray.pruning.flops import multiply_adds
from rewind_ray.pruning.shrink import cut_of, shrink_
from rewind_ray.pruning.trace import followers
from rewind_ray.schedule import Schedule
from rewind_ray.spec import dense_stage
from rewind_ray.training.stage import epoch_rates
from sweeps import wang2023
from sweeps.plan.graph import build_graph
from sweeps.wang2023 import S42, SXA, SXB, TABLE5, TABLES
from tests.rewind_ray.examples import one_image

PUBLISHED = Path(__file__).parents[2] / "analysis/reference/wang2023_tables.csv"
TABLE_7_PRUNES = {0.3: 0.1, 0.5: 0.3, 0.7: 0.5, 0.9: 0.7}
"""Share that Table 7 names -> share that its speedups and parameters come to."""


PAGE = Path(__file__).parents[2] / "docs/protocols/wang2023.md"


def values_on_the_page(protocol):
    """What the last column of a protocol's table has as `name=value`."""
    section = PAGE.read_text().split(f"## `{protocol}`")[1].split("\n## ")[0]
    column = "\n".join(line.rsplit("|", 2)[1] for line in section.splitlines() if "|" in line)
    found = re.findall(r"`(\w+)=([^`]+)`", column)
    return {name: ast.literal_eval(value) for name, value in found}


@pytest.mark.parametrize(
    ("make", "network", "dataset", "others"),
    [
        (wang_imagenet100, "resnet34", "imagenet100", {}),
        (wang_cifar, "resnet56", "cifar10", {}),
        (wang_cifar, "vgg19", "cifar100", {"batch_size": 256, "standardisation": "dataset"}),
    ],
)
def test_protocols_are_what_their_page_says(make, network, dataset, others):
    """others: what the table says of this network alone."""
    protocol = make(network, dataset)
    options = options_of(network) | dict(protocol.network_options) | protocol.optimizer_settings
    page = values_on_the_page(make.__name__) | others
    if network == "vgg19":
        page.pop("zero_shortcut")
    assert len(page) > 12
    for name, value in page.items():
        assert (options[name] if name in options else getattr(protocol, name)) == value, name
    assert dict(protocol.network_options).keys() <= page.keys()
    if make is wang_cifar:
        assert protocol.steps_per_epoch == {"resnet56": 391, "vgg19": 196}[network]


def test_every_recipe_is_on_the_page():
    table = PAGE.read_text().split("\n## The recipes")[1].split("\n## ")[0]
    named = {line.split("|")[1].strip() for line in table.splitlines() if "|" in line}
    assert named - {"recipe", "---"} == set(TABLES)


def published_speedups():
    with PUBLISHED.open() as file:
        return {
            (int(line["table"]), float(line["pruning_ratio"])): float(line["speedup"])
            for line in csv.DictReader(file)
            if line["pruning_ratio"]
        }


def small_network(protocol, ratio):
    """FLOPs and parameters, dense and with the recipe's filters cut out."""
    side = protocol.image_size or 32
    classes = {"cifar10": 10}.get(protocol.dataset, 100)
    network = build_network(protocol.network, classes, 3, dict(protocol.network_options))
    initialise_(network, 0, protocol.initial_weights)
    sizes = []
    for _ in range(2):
        flops = sum(multiply_adds(network, one_image((3, side, side))).values())
        sizes.append((flops, sum(p.numel() for p in network.parameters())))
        parameters = prunable_parameters(network, protocol.prunable)
        if len(sizes) == 1:
            prune = wang2023.filters(protocol, ratio)
            mask = pruned_mask(parameters, dense_mask(parameters), prune)
            shape = (3, side, side)
            norms = follower_mask(network, mask, followers(network, one_image(shape)))
            shrink_(network, cut_of(network, {**mask, **norms}, one_image(shape)))
    return sizes


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 0.7, 0.9, 0.95])
def test_table_4_has_the_published_flops(ratio):
    (dense, _), (left, _) = small_network(wang_imagenet100(), ratio)
    gigaflops = {0.1: 3.30, 0.3: 2.59, 0.5: 1.90, 0.7: 1.19, 0.9: 0.48, 0.95: 0.30}[ratio]
    assert round(dense / 1e9, 2) == 3.66 and round(left / 1e9, 2) == gigaflops
    assert round(dense / left, 2) == published_speedups()[4, ratio] == wang2023.SPEEDUPS[ratio]


@pytest.mark.parametrize(
    ("ratio", "sparsity", "off"),
    [(0.3, 31.14, 0), (0.5, 49.82, 0), (0.7, 70.57, 0.02), (0.9, 90.39, 0.06)],
)
def test_table_6_has_the_published_parameters(ratio, sparsity, off):
    """App. C. Of 90% we count 11.58 and 90.45%, they 11.41 and 90.39%."""
    (dense, parameters), (left, parameters_left) = small_network(wang_cifar(), ratio)
    assert (round(2 * dense / 1e9, 2), round(parameters / 1e6, 2)) == (0.25, 0.85)
    assert 100 * (1 - parameters_left / parameters) == pytest.approx(sparsity, abs=0.005 + off)
    assert dense / left == pytest.approx(published_speedups()[6, ratio], rel=0.015)


@pytest.mark.parametrize(
    ("named", "sparsity"), [(0.3, 19.24), (0.5, 51.01), (0.7, 74.87), (0.9, 90.98)]
)
def test_table_7_has_the_published_parameters(named, sparsity):
    """App. C; to be had with other shares than the table names only."""
    ratio = TABLE_7_PRUNES[named]
    (dense, parameters), (left, parameters_left) = small_network(
        wang_cifar("vgg19", "cifar100"), ratio
    )
    assert (round(2 * dense / 1e9, 2), round(parameters / 1e6, 2)) == (0.80, 20.08)
    assert round(100 * (1 - parameters_left / parameters), 2) == sparsity
    assert dense / left == pytest.approx(published_speedups()[7, named], rel=0.006)
    stages = TABLES["table7"][1](*[wang_cifar("vgg19", "cifar100")] * 2, 0)
    assert {stage.prune.fraction for stage in stages} == set(TABLE_7_PRUNES.values())


def test_protocols():
    """PyTorch's ImageNet example; README and option.py of GReg."""
    imagenet, resnet, vgg = (TABLES[t][0]() for t in ("table4", "table6", "table7"))
    assert (imagenet.network, imagenet.dataset) == ("resnet34", "imagenet100")
    assert (resnet.network, resnet.dataset) == ("resnet56", "cifar10")
    assert (vgg.network, vgg.dataset) == ("vgg19", "cifar100")
    assert (imagenet.batch_size, resnet.batch_size, vgg.batch_size) == (256, 128, 256)
    assert (imagenet.weight_decay, resnet.weight_decay, vgg.weight_decay) == (1e-4, 5e-4, 5e-4)
    assert imagenet.schedule == Schedule(lr=0.1, drops=(30, 60, 90, 105))
    assert resnet.schedule == vgg.schedule == Schedule(lr=0.1, drops=(100, 150))
    assert (imagenet.epochs, resnet.epochs, vgg.epochs) == (120, 200, 200)
    for protocol in (imagenet, resnet, vgg):
        assert protocol.optimizer_settings == {"momentum": 0.9, "nesterov": False}
        assert (protocol.decayed, protocol.validation) == ("all", "none")
        assert protocol.label_smoothing == 0
    assert (imagenet.augmentation, imagenet.standardisation) == ("imagenet", "imagenet")
    assert (resnet.augmentation, resnet.standardisation) == ("zero4_flip", "imagenet")
    assert (vgg.augmentation, vgg.standardisation) == ("zero4_flip", "dataset")
    assert imagenet.initial_weights == "torchvision_resnet"
    assert resnet.initial_weights == vgg.initial_weights == "he_normal"
    for protocol in (imagenet, resnet, vgg):
        with torch.device("meta"):
            network = build_network(protocol.network, 100, 3, dict(protocol.network_options))
        norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert {(round(norm.momentum, 9), norm.eps) for norm in norms} == {(0.1, 1e-5)}


def rates_of(stage):
    """Epoch of this retraining -> the rate from then on."""
    rates = {}
    for epoch in range(stage.train_epochs):
        rate = epoch_rates(stage, epoch, 10)(0)
        if not rates or rate != pytest.approx(list(rates.values())[-1]):
            rates[epoch] = rate
    return rates


@pytest.mark.parametrize(
    ("setting", "rates"),
    [  # App. A, and the red lines of figures 2 and 3
        (SXA[0], {0: 1e-1, 30: 1e-2, 60: 1e-3, 75: 1e-4, 83: 1e-5}),
        (SXB[0], {0: 1e-1, 30: 1e-2, 60: 1e-3, 75: 1e-4, 83: 1e-5}),
        (SXA[1], {0: 1e-2, 30: 1e-3, 45: 1e-4, 53: 1e-5}),
        (SXB[1], {0: 1e-2, 30: 1e-3, 60: 1e-4, 75: 1e-5}),
        (S42[1], {0: 1e-2, 30: 1e-3, 60: 1e-4, 75: 1e-5}),
        (S42[3], {0: 1e-3, 30: 1e-4, 45: 1e-5}),
        (S42[5], {0: 1e-4, 15: 1e-5}),
        (TABLE5[3], {0: 1e-2, 90: 1e-3, 120: 1e-4, 135: 1e-5}),  # +60
        (TABLE5[8], {0: 1e-3, 210: 1e-4, 225: 1e-5}),  # +180
        (TABLE5[13], {0: 1e-4, 1500: 1e-5}),  # +1485: "the 1st LR stage is now 1500 epochs"
    ],
)
def test_learning_rates_of_imagenet(setting, rates):
    protocol = wang_imagenet100()
    found = rates_of(wang2023.pruned(protocol, protocol, 0, 0.95, setting))
    assert list(found) == list(rates)
    assert list(found.values()) == pytest.approx(list(rates.values()))


def test_every_imagenet_training_ends_at_the_same_rate():
    """App. A, rule 1; rule 3: at most 30 epochs at one rate."""
    protocol = wang_imagenet100()
    for setting in (*S42, *SXA, *SXB, *TABLE5):
        rates = rates_of(wang2023.pruned(protocol, protocol, 0, 0.5, setting))
        assert list(rates.values())[-1] == pytest.approx(1e-5)
        assert next(iter(rates.values())) == setting.lr
        ends = [*list(rates)[1:], setting.finetuned + setting.more]
        longest = max(end - start for start, end in zip(rates, ends, strict=True))
        assert longest <= 30 + setting.more


@pytest.mark.parametrize("table", ["table6", "table7"])
def test_learning_rates_of_cifar(table):
    """App. C: 120 epochs from 1e-2 or 1e-3 to 1e-4, stepwise as in GReg's README, or cosine;
    from scratch 200 epochs from 0.1, "the start point and end point of LR are the same"."""
    protocol = TABLES[table][0]()
    stages = list(TABLES[table][1](protocol, protocol, 0))
    assert len(stages) == 4 * 2 * 3
    for stage in stages:
        first, last = (
            epoch_rates(stage, e, 100)(u) for e, u in ((0, 0), (stage.train_epochs - 1, 99))
        )
        lr = stage.retrain.lr
        assert (stage.train_epochs, first) == (200 if lr == 0.1 else 120, pytest.approx(lr))
        assert last == pytest.approx(1e-3 if lr == 0.1 else 1e-4, rel=1e-3)
        if stage.method == "step":
            expected = {0.1: (100, 150), 1e-2: (60, 90), 1e-3: (60,)}[lr]
            assert stage.retrain.drops == expected
        else:  # half-way between, at half the time: torch's CosineAnnealingLR
            optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
            annealed = torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, stage.train_epochs, stage.retrain.last_lr
            )
            for epoch in range(stage.train_epochs):
                found = epoch_rates(stage, epoch, 100)(0)
                assert found == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
                optimizer.step()
                annealed.step()


def test_scratch_is_random_weights_of_the_pruned_shape():
    protocol = wang_imagenet100()
    stage = wang2023.scratch(protocol, 0, 0.5, "step")
    assert stage.parent.train_epochs == 0 and stage.prune.criterion == "random"
    assert stage.prune.shrink and stage.train_epochs == 120
    dense = dense_stage(protocol, 0)
    for epoch in range(120):
        assert epoch_rates(stage, epoch, 10)(0) == epoch_rates(dense, epoch, 10)(0)


@pytest.mark.parametrize("table", TABLES)
def test_the_dense_network_is_trained_to_its_end(table):
    protocol = TABLES[table][0]()
    graph = build_graph(TABLES[table][1](protocol, protocol, 0))
    (dense,) = [node for node in graph.values() if node.parent_id is None]
    assert max(dense.row_epochs) == dense.epochs == protocol.epochs
