"""The learning rate of the original training at any update: one pure function.

To rewind the schedule to epoch k is to call it with ``k * steps_per_epoch`` added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rewind_ray.errors import UserError

DROP_FACTOR = 0.1
"""What a drop multiplies the rate by, where nothing else is given."""


SIGNIFICANT_DIGITS = 12
"""1 - 0.8 and 0.2 are the same fraction, 0.1 * 0.1 and 0.01 the same rate: each has one id."""


def rounded(value: float) -> float:
    return float(f"{float(value):.{SIGNIFICANT_DIGITS}g}") + 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A stepwise learning rate: ``lr``, times ``factor`` at every drop.

    Past its end the last rate is extended: S[g > T] = S[T] (Renda et al. 2020, §2.3).
    """

    lr: float
    """Rate before the first drop, and the rate that a warm-up climbs to."""
    drops: tuple[float, ...] = ()
    """Epochs at which the rate is multiplied by ``factor``, rising."""
    factor: float = DROP_FACTOR
    """What each drop multiplies the rate by."""
    warmup_epochs: float = 0.0
    """Length of a linear warm-up from 0 (Renda et al. 2020, Table 1, ImageNet: 5)."""

    def __post_init__(self) -> None:
        for name in ("lr", "factor", "warmup_epochs"):
            object.__setattr__(self, name, rounded(getattr(self, name)))
        object.__setattr__(self, "drops", tuple(rounded(drop) for drop in self.drops))
        if not 0 < self.lr < math.inf:
            raise UserError(f"lr is {self.lr}; a learning rate is above 0 and finite")
        if not 0 < self.factor < 1:
            raise UserError(f"factor is {self.factor}; a drop's factor lies between 0 and 1")
        if not 0 <= self.warmup_epochs < math.inf:
            raise UserError(
                f"warmup_epochs is {self.warmup_epochs}; it can't be negative or endless"
            )
        rising = list(self.drops) == sorted(set(self.drops))
        if not rising or not all(0 < drop < math.inf for drop in self.drops):
            raise UserError(f"drops are {self.drops}; they are epochs above 0, in rising order")
        if not self.drops:  # a factor without drops changes nothing, and no id either
            object.__setattr__(self, "factor", DROP_FACTOR)


def learning_rate(update: int, schedule: Schedule, steps_per_epoch: int) -> float:
    """Rate of the ``update``-th update (from 0) of the original training.

    A drop at epoch d holds from update ``d * steps_per_epoch`` on, the first of that epoch.
    """
    epoch = update / steps_per_epoch
    if epoch < schedule.warmup_epochs:
        return schedule.lr * epoch / schedule.warmup_epochs
    drops_passed = sum(update >= round(drop * steps_per_epoch) for drop in schedule.drops)
    return schedule.lr * schedule.factor**drops_passed
