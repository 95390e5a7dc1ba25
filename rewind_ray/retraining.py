"""The retraining methods, as data: which weights, which learning rates, how long.

A method is a row of METHODS. Its two words are keys: ``weights`` of the origins that
``stage.start_weights`` knows, ``rate`` of RATES. A new method is a new row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rewind_ray.schedule import Schedule, learning_rate


@dataclass(frozen=True, kw_only=True, slots=True)
class RateContext:
    """What a retraining's learning rate may depend on."""

    schedule: Schedule
    """S, of the original training."""
    steps_per_epoch: int
    dense_epochs: int
    """T, the length of the original training in epochs."""
    retrain_epochs: int
    """t, the length of this retraining in epochs."""
    lr: float | None
    """A rate given by the user, where the method takes one."""


def last_rate(update: int, context: RateContext) -> float:
    """S[T], or the given rate, whatever the update."""
    if context.lr is not None:
        return context.lr
    last_update = context.dense_epochs * context.steps_per_epoch - 1
    return learning_rate(last_update, context.schedule, context.steps_per_epoch)


def rewound_rate(update: int, context: RateContext) -> float:
    """S from epoch T - t on."""
    rewind_epoch = context.dense_epochs - context.retrain_epochs
    start = rewind_epoch * context.steps_per_epoch
    return learning_rate(start + update, context.schedule, context.steps_per_epoch)


RATES: dict[str, Callable[[int, RateContext], float]] = {
    "last": last_rate,
    "rewound": rewound_rate,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    weights: str
    """Where the surviving weights start: ``parent`` (its final ones) or ``baseline`` (at T - t)."""
    rate: str
    """Key of RATES."""
    rewinds: bool
    """It goes back to epoch T - t of the original training, so t is at most T."""
    length_in_id: bool
    """Its rates depend on t. Where they don't, all lengths are one trajectory and one stage."""
    takes_lr: bool = False
    """A rate may be given instead of the schedule's."""
    source: str


METHODS: dict[str, Method] = {
    "finetune": Method(
        weights="parent",
        rate="last",
        rewinds=False,
        length_in_id=False,
        takes_lr=True,
        source="TRAIN^t(W_T, m, T); Renda et al. 2020, §2.3",
    ),
    "weight_rewind": Method(
        weights="baseline",
        rate="rewound",
        rewinds=True,
        length_in_id=True,
        source="TRAIN^t(W_{T-t}, m, T-t); Renda et al. 2020, §2.3, after Frankle et al. 2019",
    ),
    "lr_rewind": Method(
        weights="parent",
        rate="rewound",
        rewinds=True,
        length_in_id=True,
        source="TRAIN^t(W_T, m, T-t); Renda et al. 2020, §2.3",
    ),
}


def method_named(name: str) -> Method:
    """Raises ValueError, listing the known methods, for an unknown name."""
    if name not in METHODS:
        raise ValueError(f"unknown retraining method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]
