"""Training against a loop written out by hand, zeros that stay zero, evaluation against sklearn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score
from torch import Tensor, nn

from rewind_ray.models import build_network, initialise_
from rewind_ray.pruning import Mask, dense_mask, prunable_parameters, pruned_mask
from rewind_ray.spec import Protocol, Prune
from rewind_ray.tasks import Metric, Task
from rewind_ray.tasks.image import accuracy, classification_loss
from rewind_ray.training.epoch import evaluate, train_epoch
from rewind_ray.training.optimizers import make_optimizer
from tests.rewind_ray.tiny_stages import tiny

Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def new_network(name: str = "digits_resnet", seed: int = 0) -> nn.Module:
    network = build_network(name, 10, 1, {})
    initialise_(network, seed)
    return network


def random_batches(number: int, size: int = 16) -> Batches:
    generator = torch.Generator().manual_seed(9)
    return [
        (
            torch.randn(size, 1, 8, 8, generator=generator),
            torch.randint(10, (size,), generator=generator),
        )
        for _ in range(number)
    ]


class OfBatches(Task):
    """Images and labels given as batches."""

    metric = Metric("accuracy")

    def __init__(self, batches: Batches, precision: str) -> None:
        super().__init__(tiny(precision=precision), None, torch.device("cpu"))
        self.given = batches

    def evaluate(self, network: nn.Module, part: str) -> float:
        return accuracy(network, self.given)


def measured(network: nn.Module, batches: Batches, precision: str) -> float:
    found = evaluate(OfBatches(batches, precision), network, "test")
    assert found is not None
    return found


def half_mask(network: nn.Module) -> Mask:
    parameters = prunable_parameters(network, "kernels")
    return pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.5))


def train(
    network: nn.Module,
    batches: Batches,
    rate: Callable[[int], float],
    mask: Mask,
    protocol: Protocol,
    optimizer: torch.optim.SGD | None = None,
) -> Any:
    return train_epoch(
        network=network,
        optimizer=optimizer or make_optimizer(network, protocol),
        batches=batches,
        batch_loss=classification_loss,
        learning_rate=rate,
        parameters=prunable_parameters(network, protocol.prunable),
        mask=mask,
        precision=protocol.precision,
    )


def by_hand(
    network: nn.Module,
    batches: Batches,
    rate: Callable[[int], float],
    mask: Mask,
    protocol: Protocol,
) -> tuple[list[float], list[float]]:
    """Nesterov's momentum as PyTorch documents it, without torch.optim; losses and accuracies."""
    network.train()
    momentum, looks_ahead = protocol.optimizer_settings.values()
    velocity: dict[str, Tensor] = {}
    losses, accuracies = [], []
    for update, (images, labels) in enumerate(batches):
        logits = network(images)
        log_p = logits - logits.exp().sum(dim=1, keepdim=True).log()
        loss = -log_p[torch.arange(len(labels)), labels].mean()
        names, parameters = zip(*network.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for name, weight, gradient in zip(names, parameters, gradients, strict=True):
                step = gradient + protocol.weight_decay * weight
                old = velocity.get(name)
                velocity[name] = step if old is None else momentum * old + step
                nesterov = step + momentum * velocity[name]
                weight.sub_(rate(update) * (nesterov if looks_ahead else velocity[name]))
                if name in mask:
                    weight[~mask[name]] = 0
        losses.append(loss.item())
        accuracies.append(accuracy_score(labels.numpy(), logits.detach().argmax(1).numpy()))
    return losses, accuracies


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("pruned", [True, False])
def test_an_epoch_is_what_the_loop_by_hand_does(pruned: bool, nesterov: bool) -> None:
    protocol = tiny(weight_decay=1e-2, optimizer_options={"nesterov": nesterov})
    batches = random_batches(8)
    ours, theirs = new_network(), new_network()
    mask = half_mask(ours) if pruned else {}

    def rate(update: int) -> float:
        return 0.02 if update < 4 else 0.005

    metrics = train(ours, batches, rate, mask, protocol)
    losses, accuracies = by_hand(theirs, batches, rate, mask, protocol)

    for (name, found), expected in zip(
        ours.state_dict().items(), theirs.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4, msg=name)
    assert metrics.train_loss == pytest.approx(sum(losses) / 8, rel=1e-5)
    assert metrics.train_accuracy == pytest.approx(sum(accuracies) / 8, abs=1e-12)
    assert metrics.last_lr == 0.005


def test_smoothed_labels_are_spread_over_all_classes() -> None:
    """One update by the loss -sum(q * log p), where q is 0.9 of the label and 0.1 / 10 of each."""
    network, theirs = new_network(), new_network()
    batches = random_batches(1)
    images, labels = batches[0]
    metrics = train_epoch(
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        batches=batches,
        batch_loss=partial(classification_loss, label_smoothing=0.1),
        learning_rate=lambda _: 0.05,
        parameters={},
        mask={},
        precision="fp32",
    )
    wanted = 0.9 * nn.functional.one_hot(labels, 10) + 0.1 / 10
    loss = -(wanted * theirs.train()(images).log_softmax(dim=1)).sum(dim=1).mean()
    loss.backward()
    assert metrics.train_loss == pytest.approx(loss.item(), rel=1e-5)
    for ours, parameter in zip(network.parameters(), theirs.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(ours, parameter - 0.05 * parameter.grad, atol=1e-6, rtol=1e-4)


def test_every_update_has_the_rate_it_was_given() -> None:
    network, protocol = new_network(), tiny()
    optimizer = make_optimizer(network, protocol)
    used: list[float] = []
    optimizer.register_step_pre_hook(
        lambda optimizer, _args, _options: used.append(optimizer.param_groups[0]["lr"])
    )
    given = [0.1, 0.1, 0.03, 0.02, 0.01]
    metrics = train(network, random_batches(5), given.__getitem__, {}, protocol, optimizer)
    assert used == given
    assert metrics.last_lr == 0.01


def test_pruned_weights_stay_zero_though_momentum_and_decay_pull_at_them() -> None:
    """The mistake: momentum gathered before pruning revives pruned weights."""
    network, protocol = new_network(), tiny(weight_decay=1e-2)
    optimizer = make_optimizer(network, protocol)
    train(network, random_batches(5), lambda _: 0.05, {}, protocol, optimizer)  # dense: momentum
    parameters = prunable_parameters(network, "kernels")
    mask = half_mask(network)
    after_updates = []

    def check_before_the_next_update(optimizer: Any, _args: Any, _options: Any) -> None:
        if after_updates:
            for name, parameter in parameters.items():
                assert (parameter[~mask[name]] == 0).all()
        after_updates.append(True)

    optimizer.register_step_pre_hook(check_before_the_next_update)
    train(network, random_batches(30), lambda _: 0.05, mask, protocol, optimizer)

    assert len(after_updates) == 30
    moved = False
    for name, parameter in parameters.items():
        assert (parameter[~mask[name]] == 0).all()
        assert (parameter[mask[name]] != 0).any()
        velocity = optimizer.state[parameter]["momentum_buffer"]
        moved |= bool((velocity[~mask[name]] != 0).any())
    assert moved  # or else nothing pulled


def test_an_empty_mask_prunes_nothing() -> None:
    network, protocol = new_network(), tiny()
    train(network, random_batches(3), lambda _: 0.01, {}, protocol)
    for parameter in prunable_parameters(network, "kernels").values():
        assert (parameter != 0).all()


def test_the_speed_is_examples_over_seconds() -> None:
    metrics = train(new_network(), random_batches(3), lambda _: 0.01, {}, tiny())
    assert metrics.train_seconds > 0
    assert metrics.examples_per_second * metrics.train_seconds == pytest.approx(48)


def test_training_leaves_evaluation_behind() -> None:
    """BatchNorm follows the batches although the network was just evaluated."""
    network = new_network()
    measured(network, random_batches(1), "fp32")
    before = network.norm.running_mean.clone()  # type: ignore[union-attr, operator]
    train(network, random_batches(1), lambda _: 0.01, {}, tiny())
    assert not torch.equal(network.norm.running_mean, before)  # type: ignore[arg-type, union-attr]


def test_bf16_trains_and_keeps_everything_in_fp32() -> None:
    batches = random_batches(1, size=64) * 15
    trained = {}
    for precision in ("fp32", "bf16"):
        network, protocol = new_network(), tiny(precision=precision)
        optimizer = make_optimizer(network, protocol)
        first = train(network, batches[:1], lambda _: 0.02, {}, protocol, optimizer)
        last = train(network, batches, lambda _: 0.02, {}, protocol, optimizer)
        assert last.train_loss < 0.7 * first.train_loss
        for tensor in [
            *network.parameters(),
            *(b for b in network.buffers() if b.is_floating_point()),
            *(state["momentum_buffer"] for state in optimizer.state.values()),
        ]:
            assert tensor.dtype == torch.float32
        trained[precision] = torch.cat([p.detach().flatten() for p in network.parameters()])
    assert not torch.equal(trained["fp32"], trained["bf16"])
    network = new_network()
    inputs: list[torch.dtype] = []
    network.dense.register_forward_hook(  # type: ignore[union-attr, operator]
        lambda _module, _inputs, out: inputs.append(out.dtype)
    )
    measured(network, batches[:1], "bf16")
    measured(network, batches[:1], "fp32")
    assert inputs == [torch.bfloat16, torch.float32]


# Evaluation


def test_accuracy_is_sklearns() -> None:
    """Batches of different sizes; every image counts the same."""
    network, protocol = new_network(), tiny()
    train(network, random_batches(5), lambda _: 0.05, {}, protocol)
    images, labels = random_batches(1, size=101)[0]
    labels[:40] = network.eval()(images[:40]).argmax(1)  # some are right
    parts = [slice(0, 60), slice(60, 100), slice(100, 101)]
    found = measured(network, [(images[part], labels[part]) for part in parts], "fp32")
    predicted = network.eval()(images).argmax(1)
    assert found == accuracy_score(labels.numpy(), predicted.numpy())
    assert 0.3 < found < 1


def test_evaluating_changes_nothing() -> None:
    network = new_network()
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    measured(network, random_batches(2), "fp32")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
