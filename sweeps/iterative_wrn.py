"""Where learning-rate rewinding fails: WRN-16-8 on CIFAR-10, pruned at once and step by step.

Mikler 2022, figures 5 and 6, and the corners they leave out: weight rewinding and learning-rate
rewinding, one-shot to 1.33–40×, iterative in steps of 20% and of 30%, all up to 100×. Weights
rewind to epoch 4 of 40, and the learning rates of both start from 0.1 again, as in Mikler's
published code (``--rates as_written`` for his text, see sweeps/mikler2022.py). Published: 95.72%
dense; iterative at 100× weight rewinding keeps 93.86%, while learning-rate rewinding falls from the
first step on, to 87.52%.

Not yet measured by us. At the 17.4 updates/s published for an RTX 3080 about 98 GPU-hours a
seed; --dry-run shows the sum.

Examples:
  python -m sweeps.iterative_wrn --dry-run
  python -m sweeps.iterative_wrn --smoke
  python -m sweeps.iterative_wrn --data /data/cifar10 --precision bf16 --gpus-per-trial 1/2
  python -m sweeps.iterative_wrn --fractions 0.3 --target-compression 20
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

import tyro

from rewind_ray.errors import UserError
from rewind_ray.protocols import mikler_wrn
from rewind_ray.spec import Prune, Retrain, Stage, dense_stage
from sweeps.mikler2022 import METHODS, REWIND_EPOCH, SEEDS, WRN_DENSITIES, Rates, retrainings
from sweeps.options import Options
from sweeps.plan.chains import iterative, one_shot, prepared, scaled, seeds, sweep_name
from sweeps.run.launch import Sweep, command, run_sweep

NAME = "iterative_wrn"


def iterative_wrn(
    dense: Stage,
    retrained: tuple[Retrain, ...],
    fractions: tuple[float, ...],
    target_compression: float,
) -> Iterator[Stage]:
    """Both rewindings, one-shot and in each of the step sizes."""
    for retrain in retrained:
        yield from one_shot(dense, retrain, WRN_DENSITIES, Prune(fraction=0.5))
        for fraction in fractions:
            prune = Prune(fraction=fraction)
            yield iterative(dense, retrain, steps_to(target_compression, fraction), prune)


def steps_to(compression_ratio: float, fraction: float) -> int:
    """Smallest number of steps that compress at least this far."""
    if not compression_ratio > 1:
        raise UserError(f"--target-compression is {compression_ratio:g}; allowed: above 1")
    return math.ceil(round(math.log(compression_ratio) / -math.log1p(-fraction), 9))


def main(
    fractions: tuple[float, ...] = (0.2, 0.3),
    target_compression: float = 100.0,
    rewind_epoch: int = REWIND_EPOCH,
    rates: Rates = "as_run",
    *,
    options: Annotated[Options, tyro.conf.arg(name="")],
) -> int:
    """Run the sweep.

    Args:
        fractions: step sizes: share of the remaining weights that each pruning removes
        target_compression: where the iterative chains end
        rewind_epoch: epoch of 40 that weight rewinding goes back to
        rates: of weight rewinding: from the schedule's start (the published code) or from the
            epoch that it goes back to (the text)
    """
    full = mikler_wrn()
    protocol = prepared(full, options)
    rewind_epoch = scaled(rewind_epoch, full.epochs, protocol)
    retrained = retrainings(protocol, rewind_epoch, rates, METHODS[:2])
    stages = [
        stage
        for seed in seeds(options, SEEDS)
        for stage in iterative_wrn(
            dense_stage(protocol, seed), retrained, fractions, target_compression
        )
    ]
    name = sweep_name(NAME, options)
    return run_sweep(Sweep(name=name, stages=stages, data=options.data_folder), options)


if __name__ == "__main__":
    command(main)
