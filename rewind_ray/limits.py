"""What a setting may be, checked and put into words by the same object. No torch.

``allowed.allows(value)`` says whether, ``str(allowed)`` names the allowed values in a message.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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


Allowed = Numbers | OneOf
TRUE_OR_FALSE = OneOf((True, False))


def check(name: str, value: Any, allowed: Allowed) -> None:
    """Raises UserError, naming the value and the allowed ones."""
    if not allowed.allows(value):
        raise UserError(f"{name} is {value!r}; allowed: {allowed}")
