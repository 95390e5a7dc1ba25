"""How important each weight is: the less, the sooner it is pruned."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def magnitude(weight: Tensor) -> Tensor:
    """|w|, whatever the layer (Han et al. 2015; globally: Renda et al. 2020, §2.2)."""
    return weight.abs()


CRITERIA: dict[str, Callable[[Tensor], Tensor]] = {
    "magnitude": magnitude,
}
