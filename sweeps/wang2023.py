"""The experiments of Wang et al., 2023: why the state of pruning is so confusing.

L1-norm filter pruning of the first convolution of every residual block, retrained with small and
large learning rates. Images of ImageNet-100 are looked for in DATA/imagenet100.

  table4  ResNet-34, ImageNet-100: when to prune, and from which rate to retrain
  table5  ResNet-34, ImageNet-100, 95% of the filters: small rates catch up with more epochs
  table6  ResNet-56, CIFAR-10: stepwise and cosine rates
  table7  VGG-19, CIFAR-100: stepwise and cosine rates
  setups  table4 at 50% and 90% under the comparison setups S4.2, SX-A and SX-B only

"P30F90, 1e-2": pruned at epoch 30, retrained for 90 epochs from rate 1e-2. "P30/k": the pruning
epoch divided by the speedup k. The learning rates follow the rules of the paper's Appendix A and C;
every setting with its source is in docs/protocols/wang2023.md. The dense network is trained to its
end too (84.56% on ImageNet-100), whatever the epoch that it is pruned at.

Examples:
  rewind-ray wang2023 table4 --dry-run
  rewind-ray wang2023 table6 --data /data --precision bf16
  rewind-ray wang2023 setups --smoke
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

from rewind_ray.protocols import wang_cifar, wang_imagenet100
from rewind_ray.spec import Protocol, Prune, Retrain, Stage, dense_stage, retrain_stage
from sweeps.options import Options
from sweeps.plan.chains import prepared, scaled, seeds
from sweeps.run.launch import command, run_recipe

SEEDS = 3  # "at least three random runs"
SPEEDUPS = {0.1: 1.11, 0.3: 1.41, 0.5: 1.93, 0.7: 3.09, 0.9: 7.68, 0.95: 12.06}
"""Share of filters pruned -> dense / pruned FLOPs; Table 4."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A line of Table 4 or 5."""

    pruned_at: int
    """Epoch."""
    finetuned: int
    """Epochs, without ``more``."""
    lr: float
    more: int = 0
    """Further epochs, at the first rate (§5.2: "we extend the epochs of the LR 0.001 phase")."""
    over_speedup: bool = False
    """P30/k."""


LAST_LR = 1e-5
"""Every ImageNet training ends at it; App. A, rule 1."""
LONGEST = 30
"""Epochs at one rate, of ImageNet; App. A, rule 3."""
CIFAR_EPOCHS, CIFAR_LAST_LR, CIFAR_SCRATCH_LAST_LR = 120, 1e-4, 1e-3
"""Of retraining in Tables 6 and 7, and of training from scratch; App. C."""
FACTOR = 0.1

S42 = (  # the rest of the original schedule, whenever it is pruned
    Setting(pruned_at=15, finetuned=105, lr=1e-1),
    Setting(pruned_at=30, finetuned=90, lr=1e-2),
    Setting(pruned_at=45, finetuned=75, lr=1e-2),
    Setting(pruned_at=60, finetuned=60, lr=1e-3),
    Setting(pruned_at=75, finetuned=45, lr=1e-3),
    Setting(pruned_at=90, finetuned=30, lr=1e-4),
)
SXA = (  # the same epochs in all, a larger rate
    Setting(pruned_at=30, finetuned=90, lr=1e-1),
    Setting(pruned_at=60, finetuned=60, lr=1e-2),
    Setting(pruned_at=90, finetuned=30, lr=1e-2),
)
SXB = (  # the same FLOPs in all
    Setting(pruned_at=30, finetuned=90, lr=1e-1, over_speedup=True),
    Setting(pruned_at=30, finetuned=90, lr=1e-2, over_speedup=True),
)
TABLE5 = (
    *(replace(S42[1], lr=lr) for lr in (1e-1, 1e-2)),
    *(replace(S42[1], more=more) for more in (30, 60)),
    *(replace(S42[3], lr=lr) for lr in (1e-2, 1e-3)),
    *(replace(S42[3], more=more) for more in (60, 120, 180)),
    *(replace(S42[5], lr=lr) for lr in (1e-2, 1e-4)),
    *(replace(S42[5], more=more) for more in (60, 270, 1485)),
)


def table4(full: Protocol, protocol: Protocol, seed: int) -> Iterator[Stage]:
    """Published at 95%: scratch 76.67%; P30F90 1e-2 77.64%, 1e-1 79.57%; P90F30 1e-4 29.89%."""
    for ratio in SPEEDUPS:
        yield scratch(protocol, seed, ratio, "step")
        for setting in (*S42, *SXA, *SXB):
            yield pruned(full, protocol, seed, ratio, setting)


def table5(full: Protocol, protocol: Protocol, seed: int) -> Iterator[Stage]:
    """Published: P90F30 1e-4 29.89%, with 1,485 more epochs 78.18%."""
    for setting in TABLE5:
        yield pruned(full, protocol, seed, 0.95, setting)


def setups(full: Protocol, protocol: Protocol, seed: int) -> Iterator[Stage]:
    for ratio in (0.5, 0.9):
        yield scratch(protocol, seed, ratio, "step")
        for setting in (*S42, *SXA, *SXB):
            yield pruned(full, protocol, seed, ratio, setting)


def table6(full: Protocol, protocol: Protocol, seed: int) -> Iterator[Stage]:
    """Published at 90%: scratch 88.36%, retrained from 1e-2 86.75%, from 1e-3 87.57% (stepwise)."""
    yield from stepwise_and_cosine(full, protocol, seed, (0.3, 0.5, 0.7, 0.9))


def table7(full: Protocol, protocol: Protocol, seed: int) -> Iterator[Stage]:
    """The table says 30, 50, 70 and 90%, but its speedups (1.23, 1.97, 3.60, 8.84) and parameters
    (19.24, 51.01, 74.87, 90.98% fewer) are those of 10, 30, 50 and 70%, which are pruned here.
    GReg's README has 8.84 as ``--stage_pr [1-15:0.7]`` as well."""
    yield from stepwise_and_cosine(full, protocol, seed, (0.1, 0.3, 0.5, 0.7))


def stepwise_and_cosine(
    full: Protocol, protocol: Protocol, seed: int, ratios: tuple[float, ...]
) -> Iterator[Stage]:
    """Scratch against retraining from 1e-2 and 1e-3, each stepwise and cosine (App. C)."""
    dense = dense_stage(protocol, seed)
    epochs = scaled(CIFAR_EPOCHS, full.epochs, protocol)
    for ratio in ratios:
        for kind in ("step", "cosine"):
            yield scratch(protocol, seed, ratio, kind)
            for lr in (1e-2, 1e-3):
                whole = halving_drops(CIFAR_EPOCHS, lr, CIFAR_LAST_LR, longest=CIFAR_EPOCHS)
                retrain = decaying(kind, epochs, lr, CIFAR_LAST_LR, in_smoke(whole, full, protocol))
                yield retrain_stage(dense, filters(protocol, ratio), retrain)


def decaying(
    kind: str, epochs: int, lr: float, last_lr: float, drops: tuple[float, ...]
) -> Retrain:
    """From ``lr`` to ``last_lr``, stepwise at the drops or along a cosine."""
    if kind == "cosine":
        return Retrain(method=kind, epochs=epochs, lr=lr, last_lr=last_lr)
    early_enough = tuple(drop for drop in drops if 0 < drop < epochs)
    return Retrain(method=kind, epochs=epochs, lr=lr, drops=early_enough)


def halving_drops(epochs: int, lr: float, last_lr: float, longest: int) -> tuple[float, ...]:
    """Epochs at which the rate falls to a tenth, from ``lr`` to ``last_lr`` (App. A).

    Half of the epochs that are left, rounded, but at most ``longest``, go to each rate but the
    last. 90 epochs from 1e-1 to 1e-5 are 30, 60, 75, 83; 60 from 1e-2 are 30, 45, 53.
    """
    drops: list[float] = []
    passed = 0
    for _ in range(round(math.log(last_lr / lr, FACTOR))):
        passed += min(longest, math.floor((epochs - passed) / 2 + 0.5))
        drops.append(passed)
    return tuple(drops)


def in_smoke(drops: tuple[float, ...], full: Protocol, protocol: Protocol) -> tuple[float, ...]:
    """Epochs of the full training, as whole ones of this protocol's."""
    if full.epochs == protocol.epochs:
        return drops
    return tuple(sorted({float(round(d * protocol.epochs / full.epochs)) for d in drops}))


TABLES: dict[
    str, tuple[Callable[[], Protocol], Callable[[Protocol, Protocol, int], Iterator[Stage]]]
] = {
    "table4": (wang_imagenet100, table4),
    "table5": (wang_imagenet100, table5),
    "table6": (lambda: wang_cifar("resnet56", "cifar10"), table6),
    "table7": (lambda: wang_cifar("vgg19", "cifar100"), table7),
    "setups": (wang_imagenet100, setups),
}

VGG = "features.[!0]*"
"""All convolutions but the first: VGG has no blocks."""
FIRST_CONVOLUTIONS = {"resnet34": "layer*.conv1", "vgg19": VGG, "vgg8": VGG}
"""Pattern of the pruned convolutions; in other networks the first of every block."""


def filters(protocol: Protocol, ratio: float) -> Prune:
    """The filters of smallest L1 norm, the same share of each of these layers, cut out.

    Cut out together with the next layer's inputs: only so are the FLOPs those of Table 4.
    """
    layers = FIRST_CONVOLUTIONS.get(protocol.network, "stages.*.conv1")
    return Prune(fraction=ratio, structure="filters", layers=layers, shrink=True)


def scratch(protocol: Protocol, seed: int, ratio: float, kind: str) -> Stage:
    """The pruned shape, trained from random weights with the whole original schedule.

    Which filters go is drawn: those left of an untrained network are then random weights, too.
    """
    untrained = dense_stage(protocol, seed, train_epochs=0)
    retrain = decaying(
        *(kind, protocol.epochs, protocol.schedule.lr, CIFAR_SCRATCH_LAST_LR),
        protocol.schedule.drops,
    )
    return retrain_stage(untrained, replace(filters(protocol, ratio), criterion="random"), retrain)


def pruned(full: Protocol, protocol: Protocol, seed: int, ratio: float, setting: Setting) -> Stage:
    """Drops: under setup S4.2 those of the original schedule that are still ahead, with another
    rate by halving."""
    at = setting.pruned_at / SPEEDUPS[ratio] if setting.over_speedup else setting.pruned_at
    epochs = scaled(setting.finetuned, full.epochs, protocol)
    more = scaled(setting.more, full.epochs, protocol)
    drops = in_smoke(drops_of(full, setting), full, protocol)
    later = tuple(drop + more for drop in drops if 0 < drop < epochs)
    retrain = decaying("step", epochs + more, setting.lr, LAST_LR, later)
    dense = dense_stage(protocol, seed, train_epochs=scaled(round(at), full.epochs, protocol))
    return retrain_stage(dense, filters(protocol, ratio), retrain)


def drops_of(full: Protocol, setting: Setting) -> tuple[float, ...]:
    """Of the full training, without ``more``."""
    if setting in S42 or setting.more:
        ahead = (drop - setting.pruned_at for drop in full.schedule.drops)
        return tuple(drop for drop in ahead if drop > 0)
    return halving_drops(setting.finetuned, setting.lr, LAST_LR, LONGEST)


def main(
    table: Annotated[
        Literal["table4", "table5", "table6", "table7", "setups"], tyro.conf.Positional
    ],
    *,
    options: Annotated[Options, tyro.conf.arg(name="")],
) -> int:
    """Run a table's sweep.

    Args:
        table: table of the paper, or setups
    """
    make_protocol, recipe = TABLES[table]
    full = make_protocol()
    protocol = prepared(full, options)
    stages = (stage for seed in seeds(options, SEEDS) for stage in recipe(full, protocol, seed))
    return run_recipe(f"wang2023-{table}", stages, options)


if __name__ == "__main__":
    command(main)
