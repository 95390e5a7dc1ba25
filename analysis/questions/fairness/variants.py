"""The text of a variant, part by part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rewind_ray.retraining import METHODS

RATE_KNOBS = ("lr", "drops", "factor", "warmup")
RETRAINING_KNOBS = ("restore momentum", "alpha", "speedup")
PRUNING_KNOBS = ("keep layers", "scope", "layers", "power", "shrink", "filters only")
NAMED_RATES = re.compile(r"\w+-[A-Z]")  # of Li et al. 2017: resnet56-A
WHEN = re.compile(r"P(\d+)(/k)?F\d+")  # Wang et al. 2023, Table 4: P30F90, P30/kF90
RATE = re.compile(r"(\d+e-\d+)(?: \(\+\d+ epochs\))?")  # 1e-2, 1e-2 (+60 epochs)

NEED_RATE = [name for name, method in METHODS.items() if "lr" in method.needs]


@dataclass(frozen=True, kw_only=True, slots=True)
class Knobs:
    """The parts of a variant."""

    pruning: tuple[str, ...] = ()
    rates: Mapping[str, str]
    """lr, drops, factor, warmup, where given."""
    retraining: tuple[str, ...] = ()
    """What else belongs to the retraining, and what this module can't read."""
    unread: tuple[str, ...] = ()
    """The latter."""
    pruned_at: int | None = None
    """Epoch of the dense training."""
    over_speedup: bool = False
    """It is to be divided by the speedup."""
    after: str | None = None
    """Digest of the earlier steps, where they differ from the last."""


def read_variant(variant: str) -> Knobs:
    """What ``details.details_of`` wrote, and the settings of Wang et al. 2023, in parts.

    The latter name the first rate and not the epochs at which it drops: they stay ``unread`` too.
    """
    pruning, rates, retraining, unread = [], {}, [], []
    pruned_at, over_speedup, after = None, False, None
    for part in filter(None, variant.split(", ")):
        name, _, value = part.partition(" ")
        when, rate = WHEN.fullmatch(part), RATE.fullmatch(part)
        if name in RATE_KNOBS and value:
            rates[name] = value
        elif part.startswith(PRUNING_KNOBS) or NAMED_RATES.fullmatch(part):
            pruning.append(part)
        elif part.startswith("from epoch "):
            pruned_at = int(part.removeprefix("from epoch "))
        elif name == "after":
            after = value
        elif part.startswith(RETRAINING_KNOBS):
            retraining.append(part)
        else:
            retraining.append(part)
            unread.append(part)
            if when:
                pruned_at, over_speedup = int(when[1]), bool(when[2])
            if rate:
                rates["lr"] = f"{float(rate[1]):g}"
    return Knobs(
        pruning=tuple(pruning),
        rates=rates,
        retraining=tuple(retraining),
        unread=tuple(unread),
        pruned_at=pruned_at,
        over_speedup=over_speedup,
        after=after,
    )


def retraining_of(variant: str) -> str:
    """What of a variant is not about pruning."""
    pruning = read_variant(variant).pruning
    return ", ".join(part for part in variant.split(", ") if part not in pruning)
