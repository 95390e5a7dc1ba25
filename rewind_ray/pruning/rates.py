"""Shares of filters per layer: Li et al. 2017, as Renda et al. 2020 used them.

How the densities published with Renda et al. 2020 come about, checked weight by weight in
tests/rewind_ray/pruning/test_rates.py (all six tables, levels 1 to 5):

- *How many filters*: ``filters left * (1 - (1 - rate)^i)``, its fractional part rounded up with
  that probability. Their code (lottery/prune_functions.py) seeds Python's generator with 0 at
  every pruning, and draws once a listed layer in the order of the network. So all their trials
  removed as many, and so do we, whatever the seed. At level 5, ResNet-110-A loses all filters of
  7 layers; Renda et al. trained it like that, ``keep_layers`` leaves one in each.
- *Which weights count as removed*: the filters, and the inputs that they were in the convolution
  after. ``remove_by_rates`` masks both; but their code masks the filters alone and trains the
  inputs on, which read what BatchNorm's shift makes of the pruned channel: ``filters_only``.
- *Out of which*: all kernels, the dense one included, of a network with a projection in the first
  block, too (``first_projection``).
- They count weights of projections as removed, too, which read no removed channel: on CIFAR, in a
  projection after a stage, (its outputs) x (filters removed from the stage's last block); on
  ImageNet 64 x (filters removed from convolution 6, or 4: the same number). No mask does that.

So the densities of rows with the inputs masked are near the published ones, not equal; those with
``filters_only``, as Renda et al. trained, count what is there to be trained and are well above:
docs/protocols/renda2020.md has both.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from rewind_ray.errors import UserError
from rewind_ray.pruning.layers import layer_name
from rewind_ray.pruning.masks import Mask
from rewind_ray.pruning.removal import Removal
from rewind_ray.pruning.whole_units import least_units, units_left

PROJECTIONS = ("shortcut", "downsample", "projection")
"""Parts of the names of projections, which are not counted."""
ROUNDING_SEED = 0  # lottery/prune_functions.py of Renda et al. 2020


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterRates:
    """Shares of the filters of some layers of one network."""

    convolutions: int
    """How many the network has, projections not counted."""
    shares: dict[int, float]
    """Number of a convolution, from 1 -> share of its filters that is removed."""


def _first_of_blocks(
    steps: tuple[tuple[int, float], ...], skip: tuple[int, ...]
) -> dict[int, float]:
    """Even numbers are the blocks' first convolutions. steps: (last convolution, its rate)."""
    shares: dict[int, float] = {}
    for last, rate in steps:
        for number in range(2, last + 1, 2):
            if number not in skip:
                shares.setdefault(number, rate)
    return dict(sorted(shares.items()))


# Li et al. 2017, §4; Renda et al. 2020, Appendix (lottery/l1_filter_pruning.py)
RATES: dict[str, FilterRates] = {
    "resnet56-A": FilterRates(
        convolutions=55,
        shares=_first_of_blocks(((55, 0.1),), skip=(16, 20, 38, 54)),
    ),
    "resnet56-B": FilterRates(
        convolutions=55,
        shares=_first_of_blocks(((19, 0.6), (37, 0.3), (55, 0.1)), skip=(16, 18, 20, 34, 38, 54)),
    ),
    "resnet110-A": FilterRates(
        convolutions=109,
        shares=_first_of_blocks(((36, 0.5),), skip=(36,)),
    ),
    "resnet110-B": FilterRates(
        convolutions=109,
        shares=_first_of_blocks(((37, 0.5), (73, 0.4), (109, 0.3)), skip=(36, 38, 74)),
    ),
    "resnet34-A": FilterRates(
        convolutions=33,
        shares=_first_of_blocks(((26, 0.3),), skip=(2, 8, 14, 16, 26)),
    ),
    "resnet34-B": FilterRates(
        convolutions=33,
        shares=_first_of_blocks(((6, 0.5), (14, 0.6), (26, 0.4)), skip=(2, 8, 14, 16, 26)),
    ),
    "vgg16-A": FilterRates(
        convolutions=13,
        shares=dict.fromkeys((1, *range(8, 14)), 0.5),
    ),
}


def remove_by_rates(removal: Removal, name: str, power: int, filters_only: bool = False) -> Mask:
    """Without the least important filters of each layer that the rates of this name list, and
    the inputs that they were.

    (1 - rate)^power of a layer's filters stay, see above for the rounding. Unless
    ``filters_only``, the next convolution's weights on the removed channels go as well, as in Li et
    al. 2017, §3.1: they are multiplied with what BatchNorm and ReLU make of a channel of zeros,
    which is zero unless BatchNorm's shift is above it. After the last convolution it is the dense
    layer's, where that is prunable.
    """
    mask, split = removal.mask, removal.split
    pruned = {name: kept.clone() for name, kept in mask.items()}
    counted = counted_convolutions({name: tuple(kept.shape) for name, kept in mask.items()})
    readers = [*counted[1:], *_dense_after(mask, counted[-1])]
    rounding = Random(ROUNDING_SEED)
    for number, rate in RATES[name].shares.items():
        layer = counted[number - 1]
        amount = units_left(mask[layer], split) * (1 - (1 - rate) ** power)
        count = int(amount) + (rounding.random() < amount - int(amount))
        removed = least_units(
            removal.scores[layer], mask[layer], count, split, removal.reduce, removal.keep_layers
        )
        pruned[layer][removed] = False
        if number <= len(readers) and not filters_only:
            pruned[readers[number - 1]][:, removed] = False
    return removal.close(pruned)


def counted_convolutions(shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Names of the convolutions in order, without projections; the first one is number 1."""
    return [
        name
        for name, shape in shapes.items()
        if len(shape) == 4 and not set(PROJECTIONS).intersection(layer_name(name).split("."))
    ]


def check_rates_fit(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises UserError unless the rates are for a network of these kernels."""
    rates, counted = RATES[name], counted_convolutions(shapes)
    if len(counted) != rates.convolutions:
        known = ", ".join(f"{key} ({value.convolutions})" for key, value in RATES.items())
        raise UserError(
            f"rates {name} are for a network of {rates.convolutions} convolutions (projections "
            f"not counted), and this one has {len(counted)}; there are {known}. Choose the "
            "network's own, or give a fraction and a pattern of layers instead of rates"
        )
    for number in rates.shares:
        if number == len(counted):
            continue
        layer, reader = counted[number - 1], counted[number]
        if shapes[layer][0] != shapes[reader][1]:
            raise UserError(
                f"rates {name} remove filters of {layer_name(layer)}, convolution {number}, which "
                f"has {shapes[layer][0]}, but {layer_name(reader)} after it reads "
                f"{shapes[reader][1]}; give a fraction and a pattern of layers instead of rates"
            )


def _dense_after(mask: Mask, last: str) -> list[str]:
    """The dense layer that reads the last convolution, one input a filter, if it is there."""
    return [
        name
        for name, kept in mask.items()
        if kept.dim() == 2 and kept.shape[1] == mask[last].shape[0]
    ][:1]
