"""What a setting may be, checked and put into words by the same object. No torch.

``allowed.allows(value)`` says whether, ``str(allowed)`` names the allowed values in a message.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rewind_ray.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbers:
    """Finite numbers between bounds; at most one of each side's two bounds is given."""

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    whole: bool = False

    def allows(self, value: Any) -> bool:
        kinds = (int,) if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        return (
            -math.inf < value < math.inf
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        )

    def __str__(self) -> str:
        """``above 0 and finite``, ``0 up to below 1``, ``whole numbers from 1 up``."""
        if self.whole:
            start = f"whole numbers from {self.least:g}"
            return f"{start} up" if self.most is None else f"{start} to {self.most:g}"
        included = self.least is not None
        low = f"{self.least:g}" if included else f"above {self.above:g}"
        if self.below is not None:
            return f"{low} {'up to' if included else 'and'} below {self.below:g}"
        if self.most is not None:
            return f"{low}{'' if included else ', up'} to {self.most:g}"
        return f"{low}{' and up,' if included else ''} and finite"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these values, and of the same type: 1 is not True."""

    values: tuple[Any, ...]

    def allows(self, value: Any) -> bool:
        return any(type(value) is type(each) and value == each for each in self.values)

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


@dataclass(frozen=True, slots=True)
class TrueOrFalse:
    def allows(self, value: Any) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True, slots=True)
class Rising:
    """Several numbers above 0, each larger than the one before."""

    def allows(self, values: Any) -> bool:
        above_0 = Numbers(above=0)
        return (
            isinstance(values, tuple)
            and all(map(above_0.allows, values))
            and all(low < high for low, high in pairwise(values))
        )

    def __str__(self) -> str:
        return "numbers above 0, in rising order"


Allowed = Numbers | OneOf | TrueOrFalse | Rising
TRUE_OR_FALSE = TrueOrFalse()

MOST_VALUES = 1_000_000
"""Of a range with a step."""


def check(name: str, value: Any, allowed: Allowed) -> None:
    """Raises UserError, naming the value and the allowed ones."""
    if not allowed.allows(value):
        raise UserError(f"{name} is {value!r}; allowed: {allowed}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Numbers to choose from, ``low`` and ``high`` among them; whole ones if both bounds and step
    are."""

    low: float
    high: float
    step: float | None = None
    """None: every number between them, which a grid can't have."""
    log: bool = False
    """As likely between 0.001 and 0.01 as between 0.01 and 0.1; without a step."""

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf:
            raise UserError(f"a range from {self.low} to {self.high}; low is at most high")
        if self.step is not None and (self.log or not self.step > 0):
            raise UserError(f"a step of {self.step}; allowed: above 0, and not with log")
        if self.step is not None and not (self.high - self.low) / self.step < MOST_VALUES:
            raise UserError(
                f"a step of {self.step:g} from {self.low:g} to {self.high:g}; allowed: up to "
                f"{MOST_VALUES:,} values; give a larger step, or none"
            )
        if self.log and not self.low > 0:
            raise UserError(f"a logarithmic range from {self.low}; allowed: above 0")

    @property
    def whole(self) -> bool:
        return all(isinstance(number, int) for number in (self.low, self.high, self.step))
