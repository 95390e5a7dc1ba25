"""What criteria may ask of a network: gradients of its loss, and what flows through it.

All of it is computed in a copy, so that nothing of the network itself changes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rewind_ray.errors import UserError
from rewind_ray.pruning.example import fitted
from rewind_ray.pruning.masks import Mask, apply_mask_


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A network, what it is trained for, and on what."""

    network: nn.Module
    example: tuple[Tensor, ...]
    """Inputs of one forward pass on one example."""
    loss: Callable[[nn.Module, Any], Tensor] | None = None
    """(network, batch) -> mean loss of the batch, a scalar."""
    batches: Callable[[], Iterable[Any]] | None = None
    """Training batches; the same ones at every call."""

    def masked(self, mask: Mask) -> Probe:
        """The same of a copy of the network, its pruned weights zero."""
        network = copy.deepcopy(self.network)
        apply_mask_(dict(network.named_parameters()), mask)
        return replace(self, network=network)

    def gradients(self, names: Iterable[str], num_batches: int) -> Iterator[dict[str, Tensor]]:
        """Of the loss by parameter name, batch after batch.

        BatchNorm works on the batch, as in training.
        """
        network, parameters = self._training(names)
        for batch in self._first(num_batches):
            yield derivatives(self._loss(network, batch), parameters)

    def mean_gradients(self, names: Iterable[str], num_batches: int) -> dict[str, Tensor]:
        """Of the mean loss over the first ``num_batches`` batches, by parameter name."""
        totals: dict[str, Tensor] = {}
        count = 0
        for gradients in self.gradients(names, num_batches):
            count += 1
            for name, gradient in gradients.items():
                totals[name] = totals[name] + gradient if name in totals else gradient
        return {name: total / count for name, total in totals.items()}

    def hessian_gradients(self, names: Iterable[str], num_batches: int) -> dict[str, Tensor]:
        """H g by parameter name: g the gradient and H the Hessian of the mean loss over the first
        ``num_batches`` batches, in these parameters.

        By a second backward pass through the product of g and each batch's gradient.
        """
        names = list(names)
        constant = self.mean_gradients(names, num_batches)
        network, parameters = self._training(names)
        totals = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        count = 0
        for batch in self._first(num_batches):
            gradients = derivatives(self._loss(network, batch), parameters, create_graph=True)
            with torch.enable_grad():
                product = torch.stack([(constant[n] * g).sum() for n, g in gradients.items()]).sum()
            seconds = derivatives(product, parameters)
            count += 1
            for name, second in seconds.items():
                totals[name] += second
        return {name: total / count for name, total in totals.items()}

    def synaptic_flow(self, names: Iterable[str]) -> dict[str, Tensor]:
        """|dR/dw * w| by parameter name, float64, of the linearised network.

        R is the sum of its outputs on an input of ones. All of its weights are in absolute value
        and all biases and BatchNorm's shifts and means zero, so R is a sum over paths of products
        of weights, and no data are looked at. BatchNorm scales by |scale| / deviation, as in
        evaluation. float64: products over many layers leave the range of float32.
        """
        network = copy.deepcopy(self.network).double().eval()
        linearise_(network)
        parameters = wanted(network, names)
        ones = [
            torch.ones_like(part) if part.is_floating_point() else part
            for part in fitted(self.example, network)
        ]
        with torch.enable_grad():
            flow = network(*ones).sum()
        return {
            name: (gradient * parameters[name]).detach().abs()
            for name, gradient in derivatives(flow, parameters).items()
        }

    def _training(self, names: Iterable[str]) -> tuple[nn.Module, dict[str, nn.Parameter]]:
        network = copy.deepcopy(self.network).train()
        return network, wanted(network, names)

    def _loss(self, network: nn.Module, batch: Any) -> Tensor:
        assert self.loss is not None
        with torch.enable_grad():
            return self.loss(network, batch)

    def _first(self, num_batches: int) -> Iterator[Any]:
        """Raises UserError if there is no batch at all."""
        assert self.batches is not None
        empty = True
        for batch in islice(self.batches(), num_batches):
            empty = False
            yield batch
        if empty:
            raise UserError("no training batch to take gradients of; the training set gave none")


def wanted(network: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """These parameters, with gradients even where they were frozen."""
    parameters = {name: network.get_parameter(name) for name in names}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    return parameters


def derivatives(
    of: Tensor, by: dict[str, nn.Parameter], create_graph: bool = False
) -> dict[str, Tensor]:
    """By name; zero where it doesn't depend on the parameter."""
    found = torch.autograd.grad(
        of, list(by.values()), create_graph=create_graph, materialize_grads=True
    )
    return dict(zip(by, found, strict=True))


@torch.no_grad()
def linearise_(network: nn.Module) -> None:
    """See ``Probe.synaptic_flow``."""
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.abs_()
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            module.running_mean.zero_()
