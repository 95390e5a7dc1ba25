"""Gradients of the training loss, for criteria that look at data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from rewind_ray.errors import UserError

SNIP_BATCHES = 1
"""Lee et al. 2019, §5: a single mini-batch of the training set."""


def loss_gradients(
    network: nn.Module,
    names: Iterable[str],
    batches: Iterable[Any],
    loss: Callable[[nn.Module, Any], Tensor],
    num_batches: int = SNIP_BATCHES,
) -> dict[str, Tensor]:
    """Parameter name -> gradient of the mean loss over the first ``num_batches`` batches.

    ``loss(network, batch)`` is a scalar. BatchNorm works on the batch, as in training; it does so
    in a copy of the network, so that nothing of the network itself changes.
    """
    probe = copy.deepcopy(network).train()
    parameters = {name: probe.get_parameter(name) for name in names}
    totals = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    seen = 0
    with torch.enable_grad():
        for batch in islice(batches, num_batches):
            gradients = torch.autograd.grad(loss(probe, batch), list(parameters.values()))
            for total, gradient in zip(totals.values(), gradients, strict=True):
                total += gradient
            seen += 1
    if seen == 0:
        raise UserError("no training batch to take gradients of; the training set gave none")
    return {name: total / seen for name, total in totals.items()}
