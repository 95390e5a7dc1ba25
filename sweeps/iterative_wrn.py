"""Where learning-rate rewinding fails: WRN-16-8, one-shot and iterative.

Mikler 2022, figures 5 and 6, and the combinations that they leave out: weight rewinding and
learning-rate rewinding, one-shot to 1.33–40×, iterative in steps of 20% and of 30% up to 100×.
Weights rewind to epoch 4 of 40, and the learning rates of both methods start from 0.1 again, as in
Mikler's published code (``--rates as_written`` for his text, see sweeps/mikler2022.py). Published:
95.72% dense; iterative at 100× weight rewinding keeps 93.86%, while learning-rate rewinding loses
accuracy step by step, down to 87.52%.

Not yet measured by us. At the 17.4 updates/s published for an RTX 3080 one seed takes about 98
GPU-hours; --dry-run shows the total.

Examples:
  rewind-ray iterative-wrn --dry-run
  rewind-ray iterative-wrn --smoke
  rewind-ray iterative-wrn --data /data/cifar10 --precision bf16 --gpus-per-trial 1/2
  rewind-ray iterative-wrn --fractions 0.3 --target-compression 20
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import tyro

from rewind_ray.protocols import mikler_wrn
from rewind_ray.spec import Prune, Retrain, Stage
from sweeps.mikler2022 import REWIND_EPOCH, REWINDINGS, WRN_DENSITIES, Rates, run_figure
from sweeps.options import Options
from sweeps.plan.chains import iterative, one_shot, steps_to
from sweeps.run.launch import command

NAME = "iterative_wrn"


def iterative_wrn(
    dense: Stage,
    retrained: tuple[Retrain, ...],
    fractions: tuple[float, ...],
    target_compression: float,
) -> Iterator[Stage]:
    """Both rewindings, one-shot and iterative in each of the step sizes."""
    for retrain in retrained:
        yield from one_shot(dense, retrain, WRN_DENSITIES, Prune(fraction=0.5))
        for fraction in fractions:
            prune = Prune(fraction=fraction)
            yield iterative(dense, retrain, steps_to(target_compression, fraction), prune)


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
        fractions: step sizes: share of the remaining weights that each step removes
        target_compression: compression ratio at which the iterative chains end
        rewind_epoch: epoch, of 40, that weight rewinding goes back to
        rates: learning rates of weight rewinding: as in the published code, or in the text
    """

    def recipe(dense: Stage, retrained: tuple[Retrain, ...]) -> Iterator[Stage]:
        return iterative_wrn(dense, retrained, fractions, target_compression)

    figure = (mikler_wrn, recipe, REWINDINGS)
    return run_figure(NAME, figure, rewind_epoch, rates, options)


if __name__ == "__main__":
    command(main)
