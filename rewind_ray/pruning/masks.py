"""Masks: which weights of which layers are left."""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from rewind_ray.errors import UserError

Mask = dict[str, Tensor]
"""Parameter name -> bool tensor of the parameter's shape; True: the weight is kept."""


KERNELS: dict[str, tuple[type[nn.Module], ...]] = {
    "kernels": (_ConvNd, nn.Linear),
    "convolutions": (_ConvNd,),
}
"""Rule of ``spec.PRUNABLE`` -> modules whose ``weight`` may be pruned."""
NORMALISATION = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
NAMES_SHOWN = 6
"""Parameters that an error message lists."""


def prunable_parameters(network: nn.Module, prunable: str) -> dict[str, nn.Parameter]:
    """Parameters that may be pruned, by name, in the order of the modules.

    prunable: a rule of ``spec.PRUNABLE``, or a pattern of parameters' names (``fnmatch``; * also
    matches dots), of those with two dimensions or more: weights of LSTMs, attention and embeddings
    too. Biases and normalisation layers never. A shared parameter counts once, under its first
    name. Raises UserError for a pattern that matches nothing.
    """
    if prunable in KERNELS:
        kernels = {
            module.weight for module in network.modules() if isinstance(module, KERNELS[prunable])
        }
        return {name: p for name, p in network.named_parameters() if p in kernels}
    spared = {
        parameter
        for module in network.modules()
        if isinstance(module, NORMALISATION)
        for parameter in module.parameters(recurse=False)
    }
    matrices = {
        name: parameter
        for name, parameter in network.named_parameters()
        if parameter.dim() > 1 and parameter not in spared and "bias" not in name.split(".")[-1]
    }
    found = {name: p for name, p in matrices.items() if fnmatchcase(name, prunable)}
    if not found:
        names = list(matrices)
        more = ", ..." if len(names) > NAMES_SHOWN else ""
        raise UserError(
            f"prunable {prunable!r} matches no parameter of the network; allowed: "
            f"{', '.join(KERNELS)}, or a pattern of names such as "
            f"{', '.join(names[:NAMES_SHOWN]) or 'none'}{more}"
        )
    return found


def dense_mask(parameters: dict[str, nn.Parameter]) -> Mask:
    """Everything kept."""
    return {
        name: torch.ones(parameter.shape, dtype=torch.bool, device=parameter.device)
        for name, parameter in parameters.items()
    }


@torch.no_grad()
def apply_mask_(parameters: dict[str, nn.Parameter], mask: Mask) -> None:
    """Set the pruned weights to exactly zero; all layers in one call."""
    torch._foreach_mul_([parameters[name] for name in mask], list(mask.values()))


def unchanged(mask: Mask) -> Mask:
    return mask


def unpruned(mask: Mask) -> int:
    """How many prunable weights are left."""
    return sum(int(torch.count_nonzero(kept)) for kept in mask.values())


def any_left(kept: Tensor) -> Tensor:
    """Whether a unit has any weight left. kept: (units, ...) bool, -> (units,) bool.

    The largest byte says it some fifty times faster on a CPU than ``any`` does.
    """
    return kept.flatten(1).view(torch.uint8).amax(dim=1).bool()


def density(mask: Mask) -> float:
    """Unpruned / prunable weights, in [0, 1]."""
    return unpruned(mask) / sum(kept.numel() for kept in mask.values())


def empty_layers(mask: Mask) -> list[str]:
    """Names of the parameters that have no weight left."""
    return [name for name, kept in mask.items() if not kept.any()]
