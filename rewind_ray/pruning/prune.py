"""One pruning step: from a network and its mask to the next mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from rewind_ray.errors import UserError
from rewind_ray.pruning.criteria import CRITERIA, Gradients, Scoring
from rewind_ray.pruning.filters import remove_filters
from rewind_ray.pruning.layers import (
    layer_name,
    matching,
    remove_filters_of_each,
    remove_weights_of_each,
)
from rewind_ray.pruning.masks import Mask, unchanged, unpruned
from rewind_ray.pruning.n_of_m import input_size, n_and_m, remove_n_of_m
from rewind_ray.pruning.rates import RATES, check_rates_fit, remove_by_rates
from rewind_ray.pruning.unstructured import remove_weights
from rewind_ray.spec import Prune

OF_EACH_LAYER = {
    "unstructured": remove_weights_of_each,
    "filters": remove_filters_of_each,
}
NAMES_SHOWN = 6
"""Layers that an error message lists."""


@torch.no_grad()
def pruned_mask(
    parameters: dict[str, nn.Parameter],
    mask: Mask,
    prune: Prune,
    seed: int = 0,
    level: int = 1,
    gradients: Gradients | None = None,
    close: Callable[[Mask], Mask] = unchanged,
) -> Mask:
    """The mask after a pruning step, the least important weights removed. Never revives any.

    Globally, ``round(fraction * unpruned)`` weights go: unstructured exactly that many, whole
    filters at most that many. With scope ``layer``, or a pattern of ``layers``, that share of every
    (matching) layer, of its filters rounded up; rates and N:M say themselves how much. ``seed`` and
    ``level`` are for the criterion ``random``, ``gradients`` for ``snip``. ``close`` is for
    filters: it takes from a mask the weights that read what is pruned, see
    ``shrink.Channels.closed``, and they count as removed. Raises UserError if nothing would be
    left, or for what doesn't fit the network.
    """
    check_prune(prune)
    check_fits(prune, parameters)
    scoring = Scoring(
        weights={name: parameters[name] for name in mask},
        structure=prune.structure,
        seed=seed,
        level=level,
        gradients=gradients,
    )
    pruned = _without_least(CRITERIA[prune.criterion](scoring), mask, prune, close)
    left = unpruned(mask)
    all_asked_for = prune.fraction is not None and round(prune.fraction * left) >= left
    if all_asked_for or unpruned(pruned) == 0:  # every layer may round up to all of its weights
        raise UserError(
            f"pruning {_amount(prune)} of the {left} weights that are left leaves none; "
            "prune less, or stop the chain earlier"
        )
    return pruned


def _without_least(
    scores: dict[str, Tensor], mask: Mask, prune: Prune, close: Callable[[Mask], Mask]
) -> Mask:
    if prune.rates:
        rates = RATES[prune.rates]
        how = (prune.power, prune.keep_layers, prune.filters_only)
        return close(remove_by_rates(scores, mask, rates, *how))
    names = matching(mask, prune.layers)
    if groups := n_and_m(prune.structure):
        return remove_n_of_m(scores, mask, names, *groups)
    assert prune.fraction is not None
    if prune.scope == "layer" or prune.layers:
        of_each = OF_EACH_LAYER[prune.structure]
        pruned = of_each(scores, mask, names, prune.fraction, prune.keep_layers)
        return close(pruned) if prune.structure == "filters" else pruned
    count = round(prune.fraction * unpruned(mask))
    if prune.structure == "filters":
        return remove_filters(scores, mask, count, prune.keep_layers, close)
    return remove_weights(scores, mask, count, prune.keep_layers)


def _amount(prune: Prune) -> str:
    if prune.fraction is not None:
        return f"{prune.fraction:g}"
    return f"{prune.rates}, power {prune.power}," if prune.rates else prune.structure


def check_prune(prune: Prune) -> None:
    """Raises UserError, listing what is known, for an unknown criterion or table of rates."""
    if prune.criterion not in CRITERIA:
        raise UserError(
            f"unknown pruning criterion {prune.criterion!r}; known: {', '.join(CRITERIA)}"
        )
    if prune.rates and prune.rates not in RATES:
        raise UserError(f"unknown rates {prune.rates!r}; known: {', '.join(RATES)}")


def check_fits(prune: Prune, parameters: Mapping[str, Tensor]) -> None:
    """Raises UserError if layers, rates or N:M don't fit the network's prunable parameters.

    Looks at names and shapes only, so the network may be on the meta device.
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    if prune.rates:
        check_rates_fit(prune.rates, shapes)
        return
    names = matching(shapes, prune.layers)
    if prune.structure == "filters":
        names = [name for name in names if len(shapes[name]) == 4]
    if not names:
        kind = "convolution" if prune.structure == "filters" else "prunable layer"
        raise UserError(
            f"layers {prune.layers!r} matches no {kind}; there are, for example, "
            f"{_some_layers(shapes, prune.structure)}"
        )
    if groups := n_and_m(prune.structure):
        _check_groups(prune, {name: shapes[name] for name in names}, groups[1])


def _check_groups(prune: Prune, shapes: dict[str, tuple[int, ...]], m: int) -> None:
    odd = {name: size for name, shape in shapes.items() if (size := input_size(shape)) % m}
    if odd:
        name, size = next(iter(odd.items()))
        more = f" (nor are {len(odd) - 1} others)" if len(odd) > 1 else ""
        raise UserError(
            f"the input of {layer_name(name)} is {size}, which is not divisible by the {m} of "
            f"{prune.structure}{more}; give a pattern of layers that leaves it out, such as "
            f"'stages.*'; the layers are {_some_layers(shapes, prune.structure)}"
        )


def _some_layers(shapes: dict[str, tuple[int, ...]], structure: str) -> str:
    """A few names, for an error message."""
    names = [
        layer_name(name)
        for name, shape in shapes.items()
        if structure != "filters" or len(shape) == 4
    ]
    more = ", ..." if len(names) > NAMES_SHOWN else ""
    return (", ".join(names[:NAMES_SHOWN]) or "none") + more
