"""The retraining methods, as data: which weights, which learning rates, how long, which knobs.

A method is a row of METHODS. Its two words are keys: ``weights`` of the origins that
``stage.ORIGINS`` knows, ``rate`` of RATES. A knob is a field of ``Retrain``, declared there once. A
new method is a new row, and with a new knob a new field: nothing outside of this module changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rewind_ray import schedule as schedules
from rewind_ray.errors import UserError
from rewind_ray.knobs import Search, is_given, knob, knobs_of, settle_, value_of
from rewind_ray.limits import TRUE_OR_FALSE, Numbers, Range, Rising, check
from rewind_ray.schedule import (
    SHAPES,
    Schedule,
    half_cosine,
    learning_rate,
    rate_after_warmup,
)

WARMUP = 0.1
"""Share of the updates that ``slr``, ``clr``, ``llr``, ``allr`` warm up in; Le & Hua 2021, and
Zimmer et al. 2023, their code."""

ONE_CYCLE_STARTS_AT = 1 / 100
ONE_CYCLE_ENDS_AT = 1 / 100 / 100
"""Of the top rate of ``clr``; Le & Hua 2021, their code (div_factor and final_div_factor 100). In
their schedules the former is the original training's lowest rate, as figure 1 draws it."""

FACTOR = 0.1
"""What a drop of ``step`` multiplies the rate by; Wang et al. 2023, Tab. 3."""


def rates_below(schedule: Schedule) -> Range:
    """From a hundredth of the original training's largest rate up to that."""
    return Range(low=schedule.lr / 100, high=schedule.lr, log=True)


def with_two_digits(lr: float, epochs: int, schedule: Schedule) -> dict[str, Any]:
    """Finer differences of a rate aren't worth a training."""
    return {"lr": float(f"{lr:.2g}")}


def halving(decays: int, epochs: int, schedule: Schedule) -> dict[str, Any]:
    """First at half of the retraining, then each time halfway to its end, by the original
    schedule's factor, as in Renda et al. 2020, Table 1."""
    drops = tuple(epochs * (1 - 0.5 ** (number + 1)) for number in range(decays))
    return {"drops": drops, "factor": schedule.factor if drops else None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrain:
    """How the pruned network is trained again."""

    method: str
    """Name in METHODS."""
    epochs: int
    """t, in epochs of the protocol."""
    lr: float | None = knob(
        help="Learning rate other than the original schedule's: the fixed one of finetune and "
        "low_lr_weight_rewind, the largest one of others",
        allowed=Numbers(above=0),
        of_rates=True,
        label="lr {}",
        flag="knob_lr",
        metavar="RATE",
        usual=0.01,  # Wang et al. 2023, Tab. 4: "P30F90, 1e-2"
        search=Search(
            name="lrs",
            values=Range(low=0.001, high=0.1, log=True),
            of_schedule=rates_below,
            help="Top learning rate, of methods that take one",
            settings=with_two_digits,
        ),
    )
    alpha: float | None = knob(
        help="Of blend: 0 starts from the rewound weights, 1 from the final ones",
        allowed=Numbers(least=0, most=1),
        label="alpha {}",
        flag="alpha",
        metavar="SHARE",
        usual=0.5,
        search=Search(
            name="alphas",
            values=Range(low=0.1, high=0.9, step=0.1),
            help="Of the method blend: from 0 (rewound weights) to 1 (final ones)",
        ),
    )
    speedup: float | None = knob(
        help="Of scratch_b: dense / pruned FLOPs, what pruning makes an epoch cheaper by",
        allowed=Numbers(least=1),
        label="speedup {}",
        flag="speedup",
        metavar="FACTOR",
        usual=2.0,
        search=Search(
            name="speedups",
            values=(2.0,),
            help="Of the method scratch_b: what pruning makes an epoch cheaper by",
        ),
    )
    drops: tuple[float, ...] = knob(
        (),
        help="Of step: epochs of this retraining at which the rate drops, rising",
        allowed=Rising(),
        of_rates=True,
        label="drops {}",
        flag="knob_drops",
        metavar="EPOCHS",
        search=Search(
            name="decays",
            values=(0, 1, 2),
            help="Of the method step: how often its rate drops, first at half of the retraining, "
            "then each time halfway to its end",
            parameter="decays",
            allowed=Numbers(least=0, most=20, whole=True),
            settings=halving,
        ),
    )
    factor: float | None = knob(
        help="Of step: what each drop multiplies the rate by; 0.1 if left out",
        allowed=Numbers(above=0, below=1),
        default=FACTOR,
        of_rates=True,
        label="factor {}",
        flag="knob_factor",
        metavar="FACTOR",
    )
    warmup: float | None = knob(
        help="Of slr, clr, llr and allr: share of the updates in which the rate climbs; 0.1 if "
        "left out, 0 for none",
        allowed=Numbers(least=0, below=1),
        default=WARMUP,
        of_rates=True,
        label="warmup {}",
        flag="knob_warmup",
        metavar="SHARE",
    )
    last_lr: float | None = knob(
        help="Of cosine: learning rate that it ends at, below its first; 0 if left out",
        allowed=Numbers(above=0),
        default=0.0,
        of_rates=True,
        label="last lr {}",
        flag="knob_last_lr",
        metavar="RATE",
    )
    rates_from: int | None = knob(
        # Mikler's code starts from 0 whatever the weights' epoch: its new optimizer counts its
        # updates from 0
        help="Of methods that rewind the schedule: epoch of it that the rates start from; T - t if "
        "left out",
        allowed=Numbers(least=0, whole=True),
        of_rates=True,
        label="rates from {}",
        flag="rates_from",
        metavar="EPOCH",
    )
    restore_momentum: bool = knob(
        False,
        # Renda et al.'s code restored it, with all variables; Mikler's started from none
        help="Start with the optimizer's state (momentum, moments) that belongs to the starting "
        "weights, instead of with none",
        allowed=TRUE_OR_FALSE,
        column="restore_momentum",
        label="restore momentum",
        flag="restore_momentum",
        search=Search(
            name="momentum",
            values=(False, True),
            help="Restore the optimizer's state with the weights, or not",
            parameter="momentum",
        ),
    )

    def __post_init__(self) -> None:
        method = method_named(self.method)
        check("retrain_epochs", self.epochs, Numbers(least=1, whole=True))
        settle_(self)
        for name in knobs_of(type(self)):
            if is_given(self, name) and name not in method.knobs:
                raise UserError(
                    f"{name} is {getattr(self, name)}, but {self.method} doesn't use it; leave "
                    f"{name} out"
                )
            if not is_given(self, name) and name in method.needs:
                allowed = knobs_of(type(self))[name].allowed
                raise UserError(f"{self.method} needs {name}; allowed: {allowed}")
        if self.last_lr is not None and self.lr is not None and self.last_lr >= self.lr:
            raise UserError(
                f"last_lr is {self.last_lr}; allowed: 0 up to below lr, which is {self.lr}"
            )
        if self.drops and self.drops[-1] >= self.epochs:
            raise UserError(
                f"drops is {self.drops}; they are epochs of a retraining of {self.epochs}, "
                "before its end"
            )
        if not self.drops:  # a factor of no drops
            object.__setattr__(self, "factor", None)


@dataclass(frozen=True, kw_only=True, slots=True)
class RateContext:
    """What a retraining's learning rate may depend on."""

    retrain: Retrain
    schedule: Schedule
    """S, of the original training."""
    steps_per_epoch: int
    dense_epochs: int
    """T, the length of the original training in epochs."""
    train_epochs: int
    """Length of this training run; t for most methods."""
    removed_norm: float = 1.0
    """||dW|| / ||W|| / sqrt(share of the weights removed): how much pruning took away; Zimmer et
    al. 2023. See ``stage.removed_norm_of``."""

    def knob(self, name: str) -> float:
        """The number that was given, or its default."""
        number: float = value_of(self.retrain, name)
        return number

    @property
    def top(self) -> float:
        """The given rate, or the original training's largest."""
        return self.schedule.lr if self.retrain.lr is None else self.retrain.lr

    @property
    def updates(self) -> int:
        return self.train_epochs * self.steps_per_epoch

    def original(self, update: int) -> float:
        """S at this update of the original training."""
        return learning_rate(update, self.schedule, self.steps_per_epoch, self.dense_epochs)


def last_rate(update: int, context: RateContext) -> float:
    """S[T], or the given rate, whatever the update."""
    if context.retrain.lr is not None:
        return context.retrain.lr
    return schedules.last_rate(context.schedule, context.dense_epochs)


def rewound_rate(update: int, context: RateContext) -> float:
    """S from epoch T - t on, or from the given epoch."""
    start_epoch = context.retrain.rates_from
    if start_epoch is None:
        start_epoch = context.dense_epochs - context.retrain.epochs
    return context.original(start_epoch * context.steps_per_epoch + update)


def original_rate(update: int, context: RateContext) -> float:
    """S from its start, its last rate extended: S[g > T] = S[T]."""
    return context.original(update)


def stretched_rate(update: int, context: RateContext) -> float:
    """The whole of S, stretched into this run, its warm-up along with the rest."""
    return context.original(
        update * context.dense_epochs * context.steps_per_epoch // context.updates
    )


def squeezed_rate(update: int, context: RateContext) -> float:
    """A linear warm-up from 0, then the whole of S squeezed into the rest of this run.

    Where S has a warm-up of its own, its top rate stands in the place of that (Zimmer et al. 2023,
    their code for ``slr``).
    """
    warmup: int = round(context.knob("warmup") * context.updates)
    if update < warmup:
        return context.schedule.lr * update / warmup
    place = (update - warmup) * context.dense_epochs * context.steps_per_epoch
    there = place // (context.updates - warmup)
    return rate_after_warmup(there, context.schedule, context.steps_per_epoch, context.dense_epochs)


def one_cycle_rate(update: int, context: RateContext) -> float:
    """Half a cosine up to the top rate, and half a cosine down from there.

    From a hundredth of the top rate to a ten thousandth of it, which the last update has: PyTorch's
    ``OneCycleLR``, as Le & Hua 2021 ran it. They also let it cycle the momentum, unmentioned in
    their text; here the momentum stays.
    """
    top = context.top
    peak = max(0.0, context.knob("warmup") * context.updates - 1)
    if update < peak:
        return half_cosine(top * ONE_CYCLE_STARTS_AT, top, update / peak)
    rest = context.updates - 1 - peak or 1.0  # 0 where there is a single update
    return half_cosine(top, top * ONE_CYCLE_ENDS_AT, (update - peak) / rest)


def cosine_rate(update: int, context: RateContext) -> float:
    """Half a cosine from the top rate to the last, which the update after the end would have."""
    return half_cosine(context.top, context.knob("last_lr"), update / context.updates)


def linear_rate(update: int, context: RateContext) -> float:
    """A straight line from the top rate to 0, after the warm-up if there is one."""
    climbing, progress = warmup_and_progress(update, context)
    return context.top * climbing * (1 - progress)


def adapted_linear_rate(update: int, context: RateContext) -> float:
    """As ``linear_rate``, from clip(top * removed_norm, top * t / T, top)."""
    least = context.retrain.epochs / context.dense_epochs
    share = min(1.0, max(context.removed_norm, least))
    return share * linear_rate(update, context)


def step_rate(update: int, context: RateContext) -> float:
    """The given rate, times ``factor`` at each of the given epochs of this retraining."""
    given = Schedule(lr=context.top, drops=context.retrain.drops, factor=context.knob("factor"))
    return learning_rate(update, given, context.steps_per_epoch, context.train_epochs)


def warmup_and_progress(update: int, context: RateContext) -> tuple[float, float]:
    """Share of the top rate that the warm-up has reached, and share of the rest that is done."""
    warmup = round(context.knob("warmup") * context.updates)
    if update < warmup:
        return update / warmup, 0.0
    return 1.0, (update - warmup) / (context.updates - warmup)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """A rule for the learning rates of a retraining."""

    rate: Callable[[int, RateContext], float]
    """Of an update, from 0."""
    words: str
    stays: bool = False
    """It stays the same for a while before it falls, whatever the original schedule."""
    of_schedule: bool = False
    """It is the original schedule, in one way or another, and stays as long as that does."""
    absolute: bool = False
    """A given ``lr`` frees it from the original schedule."""


RATES: dict[str, Rate] = {
    "last": Rate(rate=last_rate, words="the last rate, fixed", stays=True, absolute=True),
    "rewound": Rate(rate=rewound_rate, words="the schedule from T - t on", of_schedule=True),
    "original": Rate(rate=original_rate, words="the schedule from its start", of_schedule=True),
    "stretched": Rate(rate=stretched_rate, words="the whole schedule, stretched", of_schedule=True),
    "squeezed": Rate(
        rate=squeezed_rate,
        words="the whole schedule, squeezed, after a warm-up",
        of_schedule=True,
    ),
    "one cycle": Rate(
        rate=one_cycle_rate, words="one cycle: up, then a cosine down", absolute=True
    ),
    "cosine": Rate(rate=cosine_rate, words="a cosine down", absolute=True),
    "linear": Rate(rate=linear_rate, words="linear down to 0", absolute=True),
    "adapted linear": Rate(rate=adapted_linear_rate, words="linear down to 0 from an adapted rate"),
    "step": Rate(rate=step_rate, words="steps down from a given rate", stays=True, absolute=True),
}


def as_asked(dense_epochs: int, retrain: Retrain) -> int:
    """t."""
    return retrain.epochs


def original_and_more(dense_epochs: int, retrain: Retrain) -> int:
    """T + t."""
    return dense_epochs + retrain.epochs


def equal_epochs(dense_epochs: int, retrain: Retrain) -> int:
    """T."""
    return dense_epochs


def equal_flops(dense_epochs: int, retrain: Retrain) -> int:
    """(K1 * F1 + K2 * F2) / F2, of K1 = T epochs at F1 and K2 = t at F2 = F1 / speedup."""
    assert retrain.speedup is not None
    return round(dense_epochs * retrain.speedup) + retrain.epochs


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    weights: str
    """Where the surviving weights start: ``parent`` (its final ones), ``baseline`` (at T - t),
    ``blend`` of the two, or ``fresh`` (random)."""
    rate: str
    """Key of RATES."""
    rewinds: bool = False
    """It goes back to epoch T - t of the original training, so t is at most T."""
    length_in_id: bool = True
    """Its numbers depend on t. Where they don't, all lengths are one trajectory and one stage."""
    length: Callable[[int, Retrain], int] = as_asked
    """Epochs that are trained, of T and the retraining."""
    needs: tuple[str, ...] = ()
    """Knobs of ``Retrain`` that have to be given."""
    takes: tuple[str, ...] = ()
    """Knobs of ``Retrain`` that may be given, beside ``restore_momentum``, which all methods take
    whose weights have an optimizer's state."""
    source: str

    @property
    def knobs(self) -> tuple[str, ...]:
        state = () if self.weights == "fresh" else ("restore_momentum",)
        return (*self.needs, *self.takes, *state)


METHODS: dict[str, Method] = {
    "finetune": Method(
        weights="parent",
        rate="last",
        length_in_id=False,
        takes=("lr",),
        source="TRAIN^t(W_T, m, T); Renda et al. 2020, §2.3",
    ),
    "weight_rewind": Method(
        weights="baseline",
        rate="rewound",
        rewinds=True,
        takes=("rates_from",),
        source="TRAIN^t(W_{T-t}, m, T-t); Renda et al. 2020, §2.3, after Frankle et al. 2019",
    ),
    "lr_rewind": Method(
        weights="parent",
        rate="rewound",
        rewinds=True,
        takes=("rates_from",),
        source="TRAIN^t(W_T, m, T-t); Renda et al. 2020, §2.3",
    ),
    "low_lr_weight_rewind": Method(
        weights="baseline",
        rate="last",
        rewinds=True,
        takes=("lr",),
        source="TRAIN^t(W_{T-t}, m, T); Renda et al. 2020, App. E",
    ),
    "reinit": Method(
        weights="fresh",
        rate="original",
        length_in_id=False,
        length=original_and_more,
        source="TRAIN^{T+t}(W'_0, m, 0); Renda et al. 2020, App. E, after Liu et al. 2019",
    ),
    "scratch_e": Method(
        weights="fresh",
        rate="stretched",
        length_in_id=False,
        length=equal_epochs,
        source="Scratch-E of Liu et al. 2019, §3: as many epochs as the dense network",
    ),
    "scratch_b": Method(
        weights="fresh",
        rate="stretched",
        length=equal_flops,
        needs=("speedup",),
        source="Scratch-B of Liu et al. 2019, §3: the same FLOPs; Wang et al. 2023, SX-B",
    ),
    "slr": Method(
        weights="parent",
        rate="squeezed",
        takes=("warmup",),
        source="scaled learning rate restarting, Le & Hua 2021, §3",
    ),
    "clr": Method(
        weights="parent",
        rate="one cycle",
        takes=("warmup", "lr"),
        source="cyclic learning rate restarting, Le & Hua 2021, §3: one cycle",
    ),
    "llr": Method(
        weights="parent",
        rate="linear",
        takes=("warmup", "lr"),
        source="linear learning rate restarting, Zimmer et al. 2023",
    ),
    "allr": Method(
        weights="parent",
        rate="adapted linear",
        takes=("warmup", "lr"),
        source="adaptive linear learning rate restarting, Zimmer et al. 2023",
    ),
    "step": Method(
        weights="parent",
        rate="step",
        length_in_id=False,
        needs=("lr",),
        takes=("drops", "factor"),
        source="'P30F90, 1e-2': a given rate, decayed at given epochs; Wang et al. 2023, Tab. 4",
    ),
    "cosine": Method(
        weights="parent",
        rate="cosine",
        needs=("lr",),
        takes=("last_lr",),
        source="a given rate, annealed to 0 or to last_lr; Wang et al. 2023, Tab. 3 and App. C",
    ),
    "blend": Method(
        weights="blend",
        rate="rewound",
        rewinds=True,
        needs=("alpha",),
        takes=("rates_from",),
        source="alpha * W_T + (1 - alpha) * W_{T-t}: ours, between the two rewindings, as Mikler "
        "2022, §7 asks for",
    ),
}


def stays_at_first(method: Method, schedule: Schedule) -> bool:
    """Whether its learning rate stays the same for a while before it falls."""
    rule = RATES[method.rate]
    return rule.stays or (rule.of_schedule and SHAPES[schedule.shape].stays)


def default_lr(method: Method, schedule: Schedule, dense_epochs: int) -> float | None:
    """The ``lr`` of a method that takes one but doesn't need it; None for other methods."""
    if "lr" not in method.takes:
        return None
    return schedules.last_rate(schedule, dense_epochs) if method.rate == "last" else schedule.lr


def method_named(name: str) -> Method:
    """Raises UserError, listing the known methods, for an unknown name."""
    if name not in METHODS:
        raise UserError(f"unknown retraining method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]
