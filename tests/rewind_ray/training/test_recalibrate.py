"""BatchNorm statistics measured anew: against the batches' own moments, and without a trace."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rewind_ray.datasets.batches import epoch_batches
from rewind_ray.datasets.image_set import prepare
from rewind_ray.models import NETWORKS, build_network, initialise_
from rewind_ray.spec import Stage, dense_stage
from rewind_ray.store.strict_json import seal, unseal
from rewind_ray.tasks.image import classification_loss
from rewind_ray.training import stage as stage_module
from rewind_ray.training.recalibrate import (
    NUM_BATCHES,
    RECALIBRATED,
    pruned_accuracies,
    recalibrated,
)
from rewind_ray.training.run import data_seed
from rewind_ray.training.stage import start_stage
from tests.rewind_ray.tiny_stages import Lab, child, tiny
from tests.rewind_ray.training.test_stage_rows import accuracy, network_of

TIMES = ("train_seconds", "examples_per_second", "finished_at")


def random_batches(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.zeros(16, dtype=torch.int64)
    return [(2 + torch.randn(16, 1, 8, 8, generator=generator), labels) for _ in range(count)]


def moments_of_inputs(network: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """Name of a BatchNorm -> mean over the batches of their channels' mean and variance."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
    probe = copy.deepcopy(network).train()

    def note(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor]) -> None:
            values = inputs[0].detach().double().transpose(0, 1).flatten(1)  # (C, N*H*W)
            seen.setdefault(name, []).append((values.mean(1), values.var(1)))

        return hook

    for name, module in probe.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(note(name))
    with torch.no_grad():
        for images, _ in batches:
            probe(images)
    return {
        n: tuple(torch.stack(part).mean(0) for part in zip(*v, strict=True))
        for n, v in seen.items()
    }


def with_moments(network: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> nn.Module:
    """The network with these statistics, by the test's own arithmetic."""
    expected = copy.deepcopy(network).eval()
    for name, (mean, variance) in moments_of_inputs(network, batches).items():
        norm = expected.get_submodule(name)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
    return expected


@pytest.fixture
def network() -> nn.Module:
    network = build_network("digits_resnet", 10, 1, {})
    initialise_(network, 0)
    return network


# the statistics


def test_statistics_are_the_mean_of_the_batches_own(network: nn.Module) -> None:
    batches = random_batches(7)
    found = dict(recalibrated(network, batches, classification_loss, "fp32").named_buffers())
    expected = moments_of_inputs(network, batches)
    assert len(expected) == 7
    for name, (mean, variance) in expected.items():
        torch.testing.assert_close(found[f"{name}.running_mean"].double(), mean, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            found[f"{name}.running_var"].double(), variance, atol=1e-5, rtol=1e-5
        )


def test_what_the_statistics_were_before_does_not_matter(network: nn.Module) -> None:
    other = copy.deepcopy(network)
    for name, buffer in other.named_buffers():
        if not name.endswith("num_batches_tracked"):
            buffer.fill_(5.0)
    batches = random_batches(3)
    one, two = (
        recalibrated(n, batches, classification_loss, "fp32").state_dict() for n in (network, other)
    )
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.mark.parametrize("available", [3, NUM_BATCHES, NUM_BATCHES + 9])
def test_at_most_fifty_batches_are_looked_at(network: nn.Module, available: int) -> None:
    batches = iter(random_batches(available))
    recalibrated(network, batches, classification_loss, "fp32")
    assert len(list(batches)) == max(0, available - 50)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("training", [True, False])
def test_nothing_else_changes(precision: str, training: bool) -> None:
    """Neither weights, statistics and modes of the network nor the global random numbers."""
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 10)
    )
    network.train(training)
    before = copy.deepcopy(network.state_dict())
    random = torch.get_rng_state()
    probe = recalibrated(network, random_batches(4), classification_loss, precision)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training == training for module in network.modules())
    assert not any(module.training for module in probe.modules())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        if "running" not in name and "tracked" not in name:
            assert torch.equal(probe.state_dict()[name], before[name]), name
    assert network[1].momentum == 0.1


# of a stage


@pytest.mark.parametrize("structure", ["unstructured", "filters"])
def test_a_stage_tells_accuracy_with_its_own_statistics(lab: Lab, structure: str) -> None:
    stage = child(dense_stage(tiny(), 0), "weight_rewind", 4, fraction=0.4, structure=structure)
    lab.run(stage.baseline)
    run = start_stage(lab.job(stage), lab.runtime())
    parent, mask = lab.point(stage.baseline), lab.point(stage, 0).mask
    weights = {n: w * mask[n] if n in mask else w for n, w in parent.weights.items()}
    weights |= {name: parent.weights[name] * kept.cpu() for name, kept in run.companions.items()}
    pruned = network_of(parent, weights)
    images = prepare(stage.protocol, stage_data(), "cpu")
    batches = list(epoch_batches(images, data_seed(stage), 0))
    probe = with_moments(pruned, batches)
    found = pruned_accuracies(lab.ledger, stage.stage_id)
    assert found == {
        "pruned_accuracy": accuracy(pruned),
        "pruned_accuracy_recalibrated": accuracy(probe),
        "val_pruned_accuracy_recalibrated": accuracy(probe, "val"),
    }
    assert found["pruned_accuracy"] != found["pruned_accuracy_recalibrated"]


def stage_data() -> Any:
    from rewind_ray.datasets import load

    return load("digits", None, None)


def test_a_dense_stage_has_none(lab: Lab) -> None:
    stage = dense_stage(tiny(), 0)
    lab.run(stage)
    found = pruned_accuracies(lab.ledger, stage.stage_id)
    assert found == dict.fromkeys(("pruned_accuracy", *RECALIBRATED))


def test_without_batch_norm_there_is_none(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(num_classes: int, in_channels: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes)
        )

    monkeypatch.setitem(NETWORKS, "plain", plain)
    stage = child(dense_stage(tiny(network="plain"), 0), "lr_rewind", 2)
    lab.run_chain(stage)
    found = pruned_accuracies(lab.ledger, stage.stage_id)
    assert 0 <= found.pop("pruned_accuracy") <= 1
    assert found == dict.fromkeys(RECALIBRATED)


def test_a_stage_begun_before_this_was_measured_has_none(lab: Lab) -> None:
    stage = child(dense_stage(tiny(), 0), "lr_rewind", 2)
    lab.run_chain(stage)
    path = lab.file(stage, 0, "json")
    metrics = unseal(path.read_bytes())
    path.write_bytes(seal({n: v for n, v in metrics.items() if n not in RECALIBRATED}))
    found = pruned_accuracies(lab.ledger, stage.stage_id)
    assert found.pop("pruned_accuracy") == lab.row(stage).pruned_accuracy
    assert found == dict.fromkeys(RECALIBRATED)


# the training that follows


def everything(lab: Lab, stage: Stage) -> dict[str, Any]:
    """All that a chain has left, without times."""
    left: dict[str, Any] = {}
    for step in stage.chain:
        for epoch in range(step.train_epochs + 1):
            metrics = lab.metrics(step, epoch)
            left[f"{step.stage_id} {epoch}"] = {
                n: v for n, v in metrics.items() if n not in (*TIMES, *RECALIBRATED)
            }
        left |= {f"{step.stage_id} {e} bytes": lab.bytes(step, e) for e in lab.points(step)}
        row = asdict(lab.row(step))
        left[f"{step.stage_id} row"] = {n: v for n, v in row.items() if n not in TIMES}
    return left


@pytest.mark.parametrize(
    "options",
    [
        {"method": "lr_rewind"},
        {"method": "lr_rewind", "restore_momentum": True, "precision": "bf16"},
        {"method": "weight_rewind", "structure": "filters", "shrink": True},
        {"method": "reinit", "augmentation": "zero1"},
        {"method": "allr", "criterion": "snip"},
        {"method": "finetune", "criterion": "random"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_no_number_of_the_training_changes(
    lab: Lab, new_lab: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Two levels with and without it, to the bit."""
    of_protocol = {n: options[n] for n in ("precision", "augmentation") if n in options}
    rest = {n: v for n, v in options.items() if n not in ("method", *of_protocol)}
    first = child(dense_stage(tiny(**of_protocol), 0), options["method"], 3, **rest)
    second = child(first, options["method"], 2, **rest)
    lab.run_chain(second)
    assert (
        pruned_accuracies(lab.ledger, second.stage_id)["pruned_accuracy_recalibrated"] is not None
    )
    without = new_lab("without")
    monkeypatch.setattr(stage_module, "recalibrated_accuracies", lambda run: {})
    without.run_chain(second)
    assert everything(without, second) == everything(lab, second)
