"""Fine-tuning, weight rewinding and learning-rate rewinding on handwritten digits.

A complete comparison on real data in two to five minutes on two cores: for each seed one dense
baseline, pruned in one shot to four densities, each retrained in three ways. 78 stages and 1,104
epochs with 6 seeds.

Examples:
  rewind-ray quickstart
  rewind-ray quickstart --seeds 2
  rewind-ray quickstart --dry-run
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import tyro

from rewind_ray.protocols import digits
from rewind_ray.spec import Protocol, Prune, Retrain, Stage, dense_stage
from sweeps.options import Options
from sweeps.plan.chains import one_shot, prepared, scaled, seeds
from sweeps.run.launch import command, run_recipe

NAME = "quickstart"
SEEDS = 6  # enough for differences of about a point; one of the 360 test images is 0.28
DENSITIES = (0.2, 0.1, 0.05, 0.02)
REWIND_EPOCH = 2  # of 16; rewinding weights to the very start is worse (Renda et al. 2020, §4)


def quickstart(protocol: Protocol, seeds: range) -> Iterator[Stage]:
    """Every method at every density; all retrain from epoch 2 of 16 on, at equal search cost."""
    epochs = protocol.epochs - scaled(REWIND_EPOCH, of=16, protocol=protocol)
    for seed in seeds:
        baseline = dense_stage(protocol, seed)
        for method in ("finetune", "weight_rewind", "lr_rewind"):
            retrain = Retrain(method=method, epochs=epochs)
            yield from one_shot(baseline, retrain, DENSITIES, Prune(fraction=0.5))


def main(*, options: Annotated[Options, tyro.conf.arg(name="")]) -> int:
    return run_recipe(NAME, quickstart(prepared(digits(), options), seeds(options, SEEDS)), options)


if __name__ == "__main__":
    command(main)
