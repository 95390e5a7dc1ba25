"""The experiments of Wang et al., 2023: why the state of pruning is so confusing.

L1-norm filter pruning of the first convolution of every residual block, retrained with small and
large learning rates. Images of ImageNet-100 are looked for in DATA/imagenet100.

table4  ResNet-34, ImageNet-100: when to prune, and from which rate to retrain
table5  ResNet-34, ImageNet-100, 95% of the filters: small rates catch up with more epochs
table6  ResNet-56, CIFAR-10: stepwise and cosine rates
table7  VGG-19, CIFAR-100: likewise
setups  table4 at 50% and 90% under the comparison setups S4.2, SX-A and SX-B only

"P30F90, 1e-2": pruned at epoch 30, retrained for 90 epochs from rate 1e-2. "P30/k": the pruning
epoch divided by the speedup k. The slides leave the details of the schedules to a supplement we
don't have; what is ours is said where it stands.

Examples:
  python -m sweeps.wang2023 table4 --dry-run
  python -m sweeps.wang2023 table6 --data /data --precision bf16
  python -m sweeps.wang2023 setups --smoke
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

from rewind_ray.protocols import renda_cifar, wang_imagenet100
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol, Prune, Retrain, Stage, dense_stage, retrain_stage
from sweeps.launch import Sweep, command, run_sweep
from sweeps.options import Options
from sweeps.recipes import prepared, scaled, seeds, sweep_name

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
    """Further epochs, at the first rate (ours: that is what "not converged" asks for)."""
    over_speedup: bool = False
    """P30/k."""


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
    """Scratch against fine-tuning from 1e-2 and 1e-3, each stepwise and cosine.

    120 epochs of fine-tuning with drops at 60 and 90 are ours.
    """
    dense = dense_stage(protocol, seed)
    epochs = scaled(120, full.epochs, protocol)
    for ratio in (0.3, 0.5, 0.7, 0.9):
        for kind in ("step", "cosine"):
            yield scratch(protocol, seed, ratio, kind)
            for lr in (1e-2, 1e-3):
                drops = half_and_three_quarters(epochs) if kind == "step" else ()
                retrain = Retrain(method=kind, epochs=epochs, lr=lr, drops=drops)
                yield retrain_stage(dense, filters(protocol, ratio), retrain)


def wang_cifar(network: str, dataset: str) -> Protocol:
    """200 epochs with drops at 100 and 150, weight decay 5e-4, are ours: usual for these."""
    return replace(
        renda_cifar(network, dataset),
        epochs=200,
        schedule=Schedule(lr=0.1, drops=(100, 150)),
        weight_decay=5e-4,
        validation="none",
        validation_fraction=0.0,
    )


TABLES: dict[
    str, tuple[Callable[[], Protocol], Callable[[Protocol, Protocol, int], Iterator[Stage]]]
] = {
    "table4": (wang_imagenet100, table4),
    "table5": (wang_imagenet100, table5),
    "table6": (lambda: wang_cifar("resnet56", "cifar10"), table6),
    "table7": (lambda: wang_cifar("vgg19", "cifar100"), table6),
    "setups": (wang_imagenet100, setups),
}

VGG = "features.[!0]*"
"""It has no blocks: all but the first."""
FIRST_CONVOLUTIONS = {"resnet34": "layer*.conv1", "vgg19": VGG, "vgg8": VGG}
"""Which convolutions are pruned; of the other networks the first of every block."""


def filters(protocol: Protocol, ratio: float) -> Prune:
    """The filters of smallest L1 norm, the same share of each of these layers, cut out.

    With the inputs they were to the next layer: only so do the FLOPs come to those of Table 4.
    """
    layers = FIRST_CONVOLUTIONS.get(protocol.network, "stages.*.conv1")
    return Prune(fraction=ratio, structure="filters", scope="layer", layers=layers, shrink=True)


def scratch(protocol: Protocol, seed: int, ratio: float, kind: str) -> Stage:
    """The pruned shape, trained from its initial weights with the whole original schedule."""
    untrained = dense_stage(protocol, seed, train_epochs=0)
    drops = protocol.schedule.drops if kind == "step" else ()
    retrain = Retrain(method=kind, epochs=protocol.epochs, lr=protocol.schedule.lr, drops=drops)
    return retrain_stage(untrained, filters(protocol, ratio), retrain)


def pruned(full: Protocol, protocol: Protocol, seed: int, ratio: float, setting: Setting) -> Stage:
    """Drops: the original ones that are still ahead where the rate is the original one; with
    another rate at a third, two thirds and five sixths (ours, after the 90 epochs with 30/60/75
    of Table 3)."""
    at = setting.pruned_at / SPEEDUPS[ratio] if setting.over_speedup else setting.pruned_at
    pruned_at = scaled(round(at), full.epochs, protocol)
    epochs = scaled(setting.finetuned, full.epochs, protocol)
    more = scaled(setting.more, full.epochs, protocol)
    if setting in S42 or setting.more:
        ahead = [drop - setting.pruned_at for drop in full.schedule.drops]
        drops = [round(drop * protocol.epochs / full.epochs) for drop in ahead if drop > 0]
    else:
        drops = [round(epochs * share) for share in (1 / 3, 2 / 3, 5 / 6)]
    later = sorted({drop + more for drop in drops if 0 < drop < epochs})
    retrain = Retrain(method="step", epochs=epochs + more, lr=setting.lr, drops=tuple(later))
    dense = dense_stage(protocol, seed, train_epochs=pruned_at)
    return retrain_stage(dense, filters(protocol, ratio), retrain)


def half_and_three_quarters(epochs: int) -> tuple[float, ...]:
    return tuple(sorted({round(epochs / 2), round(epochs * 3 / 4)} - {0, epochs}))


def main(
    table: Annotated[
        Literal["table4", "table5", "table6", "table7", "setups"], tyro.conf.Positional
    ],
    *,
    options: Annotated[Options, tyro.conf.arg(name="")],
) -> int:
    """Run a table's sweep.

    Args:
        table: which table
    """
    make_protocol, recipe = TABLES[table]
    full = make_protocol()
    protocol = prepared(full, options)
    stages = [stage for seed in seeds(options, SEEDS) for stage in recipe(full, protocol, seed)]
    name = sweep_name(f"wang2023-{table}", options)
    return run_sweep(Sweep(name=name, stages=stages, data=options.data_folder), options)


if __name__ == "__main__":
    command(main)
