"""The learning rate of the original training at any update: one pure function.

To rewind the schedule to epoch k is to call it with ``k * steps_per_epoch`` added. A new shape is a
new entry of SHAPES, a new form of warm-up one of WARMUPS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
    """A learning rate that may climb at first, and then falls in a shape of SHAPES.

    Past the end of the training, T, its last rate is extended: S[g > T] = S[T] (Renda et al. 2020,
    §2.3).
    """

    lr: float
    """The largest rate: that before the first drop, and what a warm-up climbs to."""
    shape: str = "steps"
    """Key of SHAPES. Steps without drops are constant, and become that."""
    drops: tuple[float, ...] = ()
    """Of steps: epochs at which the rate is multiplied by ``factor``, rising; they may lie within
    an epoch."""
    factor: float = DROP_FACTOR
    """Of steps: what each drop multiplies the rate by."""
    last_lr: float = 0.0
    """Of cosine and linear: the rate at T."""
    warmup_epochs: float = 0.0
    """Length of the warm-up (Renda et al. 2020, Table 1, ImageNet: 5)."""
    warmup_shape: str = "linear"
    """Key of WARMUPS."""
    warmup_start: float = 0.0
    """Share of ``lr`` that the warm-up starts from (Renda et al. 2020, Table 1, GNMT: 0.01)."""

    def __post_init__(self) -> None:
        for name in ("lr", "factor", "last_lr", "warmup_epochs", "warmup_start"):
            object.__setattr__(self, name, rounded(getattr(self, name)))
        object.__setattr__(self, "drops", tuple(rounded(drop) for drop in self.drops))
        for name, table in (("shape", SHAPES), ("warmup_shape", WARMUPS)):
            if getattr(self, name) not in table:
                raise UserError(
                    f"unknown {name} {getattr(self, name)!r}; known: {', '.join(table)}"
                )
        if not 0 < self.lr < math.inf:
            raise UserError(f"lr is {self.lr}; a learning rate is above 0 and finite")
        self._check_fall()
        self._check_warmup()
        self._drop_what_has_no_effect()

    def _check_fall(self) -> None:
        takes = SHAPES[self.shape].takes
        for name, unset in (("drops", ()), ("last_lr", 0.0)):
            value = getattr(self, name)
            if value != unset and name not in takes:
                users = ", ".join(known for known, row in SHAPES.items() if name in row.takes)
                raise UserError(
                    f"{name} is {value} in a schedule of shape {self.shape!r}, which has none; "
                    f"leave it out, or choose a shape that has: {users}"
                )
        if not 0 < self.factor < 1:
            raise UserError(f"factor is {self.factor}; a drop's factor lies between 0 and 1")
        rising = list(self.drops) == sorted(set(self.drops))
        if not rising or not all(0 < drop < math.inf for drop in self.drops):
            raise UserError(f"drops are {self.drops}; they are epochs above 0, in rising order")
        if not 0 <= self.last_lr < self.lr:
            raise UserError(
                f"last_lr is {self.last_lr}; allowed: 0 up to below lr, which is {self.lr}"
            )

    def _check_warmup(self) -> None:
        if not 0 <= self.warmup_epochs < math.inf:
            raise UserError(
                f"warmup_epochs is {self.warmup_epochs}; it can't be negative or endless"
            )
        if not 0 <= self.warmup_start < 1:
            raise UserError(f"warmup_start is {self.warmup_start}; allowed: 0 up to below 1")
        if self.warmup_epochs and self.warmup_shape == "exponential" and not self.warmup_start:
            raise UserError(
                "an exponential warm-up from 0 never climbs; give a warmup_start above 0"
            )
        if not self.warmup_epochs and SHAPES[self.shape].needs_warmup:
            raise UserError(
                f"a schedule of shape {self.shape!r} falls from the end of its warm-up on, at a "
                "pace set by its length; give warmup_epochs above 0"
            )

    def _drop_what_has_no_effect(self) -> None:
        """Two descriptions of the same rates are equal, and so have one id."""
        if not self.drops:
            object.__setattr__(self, "factor", DROP_FACTOR)
            if self.shape == "steps":
                object.__setattr__(self, "shape", "constant")
        if not self.warmup_epochs:
            object.__setattr__(self, "warmup_shape", "linear")
            object.__setattr__(self, "warmup_start", 0.0)


def learning_rate(update: int, schedule: Schedule, steps_per_epoch: int, epochs: int) -> float:
    """Rate of the ``update``-th update (from 0) of the original training of ``epochs`` epochs."""
    epoch = min(update / steps_per_epoch, epochs)
    if epoch < schedule.warmup_epochs:
        return WARMUPS[schedule.warmup_shape](epoch, schedule)
    return rate_after_warmup(update, schedule, steps_per_epoch, epochs)


def rate_after_warmup(update: int, schedule: Schedule, steps_per_epoch: int, epochs: int) -> float:
    """The same without the warm-up, in whose place the top rate stands, less drops within it."""
    update = min(update, epochs * steps_per_epoch)
    return SHAPES[schedule.shape].rate(update, schedule, steps_per_epoch, epochs)


def last_rate(schedule: Schedule, epochs: int) -> float:
    """S[T], which follows on the last update."""
    return learning_rate(epochs, schedule, 1, epochs)


# Shapes


def steps(update: int, schedule: Schedule, steps_per_epoch: int, epochs: int) -> float:
    """A drop at epoch d holds from update ``d * steps_per_epoch`` on, the first of that epoch."""
    drops_passed = sum(update >= round(drop * steps_per_epoch) for drop in schedule.drops)
    return schedule.lr * schedule.factor**drops_passed


def constant(update: int, schedule: Schedule, steps_per_epoch: int, epochs: int) -> float:
    return schedule.lr


def cosine(update: int, schedule: Schedule, steps_per_epoch: int, epochs: int) -> float:
    """Half a cosine down to ``last_lr`` at T."""
    progress = fallen(update, schedule, steps_per_epoch, epochs)
    return half_cosine(schedule.lr, schedule.last_lr, progress)


def linear(update: int, schedule: Schedule, steps_per_epoch: int, epochs: int) -> float:
    """A straight line down to ``last_lr`` at T."""
    progress = fallen(update, schedule, steps_per_epoch, epochs)
    return (1 - progress) * schedule.lr + progress * schedule.last_lr


def inverse_sqrt(update: int, schedule: Schedule, steps_per_epoch: int, epochs: int) -> float:
    """lr * sqrt(w / epoch) from the end w of the warm-up on (Vaswani et al. 2017, eq. 3)."""
    warmup = schedule.warmup_epochs
    return schedule.lr * math.sqrt(warmup / max(warmup, update / steps_per_epoch))


def fallen(update: int, schedule: Schedule, steps_per_epoch: int, epochs: int) -> float:
    """Share that is over, in [0, 1], of the training after the warm-up."""
    warmup = schedule.warmup_epochs
    return max(0.0, (update / steps_per_epoch - warmup) / (epochs - warmup))


def half_cosine(start: float, end: float, progress: float) -> float:
    """From start, at progress 0, to end, at 1."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    rate: Callable[[int, Schedule, int, int], float]
    """Of (update, schedule, steps_per_epoch, epochs T), with update at most T * steps_per_epoch;
    the warm-up is left to ``learning_rate``."""
    takes: tuple[str, ...] = ()
    """Fields of ``Schedule`` that only some shapes have."""
    stays: bool = False
    """The rate stays for a while before it falls."""
    needs_warmup: bool = False
    source: str


SHAPES: dict[str, Shape] = {
    "steps": Shape(
        rate=steps,
        takes=("drops", "factor"),
        stays=True,
        source="lr, times factor at every drop; Renda et al. 2020, Table 1",
    ),
    "constant": Shape(rate=constant, stays=True, source="lr throughout"),
    "cosine": Shape(
        rate=cosine, takes=("last_lr",), source="half a cosine; Loshchilov & Hutter 2017, eq. 5"
    ),
    "linear": Shape(
        rate=linear, takes=("last_lr",), source="a straight line; Devlin et al. 2019, App. A.2"
    ),
    "inverse_sqrt": Shape(
        rate=inverse_sqrt, needs_warmup=True, source="Vaswani et al. 2017, eq. 3"
    ),
}


# Warm-ups


def linear_warmup(epoch: float, schedule: Schedule) -> float:
    start = schedule.lr * schedule.warmup_start
    return start + (schedule.lr - start) * epoch / schedule.warmup_epochs


def exponential_warmup(epoch: float, schedule: Schedule) -> float:
    """lr * start^(1 - epoch / w); Renda et al. 2020, Table 1, GNMT: 0.002 * 0.01^(1 - 8t)."""
    return float(schedule.lr * schedule.warmup_start ** (1 - epoch / schedule.warmup_epochs))


WARMUPS: dict[str, Callable[[float, Schedule], float]] = {
    "linear": linear_warmup,
    "exponential": exponential_warmup,
}
"""Of the epoch so far, below ``warmup_epochs``."""
