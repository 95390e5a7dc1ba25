"""How important each weight is: the less, the sooner it is pruned."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Gradients = Callable[[], dict[str, Tensor]]
"""Gives, by parameter name, the gradient of the training loss at the present weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """What a criterion may look at."""

    weights: dict[str, Tensor]
    """The prunable parameters, in the order of the modules."""
    structure: str = "unstructured"
    seed: int = 0
    """Of the stage."""
    level: int = 1
    """Pruning steps from the baseline to here."""
    gradients: Gradients | None = None


def magnitude(scoring: Scoring) -> dict[str, Tensor]:
    """|w|, whatever the layer (Han et al. 2015; globally: Renda et al. 2020, §2.2).

    Magnitude at initialisation is this too, on a parent at epoch 0.
    """
    return {name: weight.abs() for name, weight in scoring.weights.items()}


def random(scoring: Scoring) -> dict[str, Tensor]:
    """Uniform in [0, 1), a function of seed, level and shapes alone; drawn on the CPU.

    Of filters and dense inputs, one number each: the mean of many would spare the large ones.
    """
    digest = hashlib.sha256(f"pruning {scoring.seed} {scoring.level}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
    scores = {}
    for name, weight in scoring.weights.items():
        shape = tuple(weight.shape)
        if scoring.structure == "filters":
            shape = (len(weight), 1, 1, 1) if weight.dim() == 4 else (1, shape[1])
        drawn = torch.rand(shape, generator=generator)
        scores[name] = drawn.to(weight.device).expand(weight.shape)
    return scores


def snip(scoring: Scoring) -> dict[str, Tensor]:
    """|gradient * w| (Lee et al. 2019, eq. 4 and 5; their normalisation changes no order)."""
    if scoring.gradients is None:
        raise ValueError(
            "criterion 'snip' needs gradients of the training loss, and none were given; "
            "give pruned_mask its gradients, or choose a criterion without data: "
            f"{', '.join(name for name in CRITERIA if name != 'snip')}"
        )
    with torch.enable_grad():
        gradients = scoring.gradients()
    return {
        name: (gradients[name] * weight).detach().abs() for name, weight in scoring.weights.items()
    }


CRITERIA: dict[str, Callable[[Scoring], dict[str, Tensor]]] = {
    "magnitude": magnitude,
    "random": random,
    "snip": snip,
}
