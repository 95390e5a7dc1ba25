"""The experiments of Mikler, ReScience 2022: figures 1 to 6 and table 5.

A reproduction of Renda et al. 2020 that goes on to CIFAR-100 and Wide ResNets, and shows where
learning-rate rewinding fails. Compression ratios are those of the figures' points.

  fig1    ResNet-20, CIFAR-10, unstructured, one-shot and iterative
  fig2    ResNet-56, CIFAR-10, unstructured, one-shot and iterative
  fig3    ResNet-20, CIFAR-10, filters, one-shot
  fig4    ResNet-56, CIFAR-100, unstructured, one-shot
  fig5    WRN-16-8, CIFAR-10, unstructured, one-shot and iterative in steps of 30%
  fig6    WRN-16-8, CIFAR-10, learning-rate rewinding in steps of 20% and 30%
  table5  ResNet-110, CIFAR-10, unstructured, one-shot to 9.35×

Weight rewinding goes back to epoch 4 (update 8,000) and retrains to the end. The text (§5.2) has
its learning rate go on with the original schedule: of the ResNets' 64,000 updates of retraining the
drops would come after 28,000 and 46,000. The published code makes a new optimizer, which counts its
updates from 0: they come after 36,000 and 54,000. As the published numbers come from that code,
that is the default, and ``--rates as_written`` the text's reading. Every setting with its source is
in docs/protocols/mikler2022.md.

Examples:
  rewind-ray mikler2022 fig1 --dry-run
  rewind-ray mikler2022 fig3 --smoke
  rewind-ray mikler2022 fig5 --seeds 3 --data /data/cifar10
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import tyro

from rewind_ray.protocols import mikler_resnet, mikler_wrn
from rewind_ray.spec import Protocol, Prune, Retrain, Stage, dense_stage
from sweeps.options import Options
from sweeps.plan.chains import iterative, one_shot, prepared, scaled, seeds
from sweeps.run.launch import command, run_recipe

SEEDS = 2
"""The paper's points are medians of 2 to 12 trials; 2 where the figures show their number."""
REWIND_EPOCH = 4
"""Of 36 or 40 epochs: weights rewind to update 8,000, in all published experiment files
(experiments/*.yaml: ``initial_epoch: 4``, 2,000 updates an epoch). Learning-rate rewinding always
retrains for the whole original time (§5.3)."""
Rates = Literal["as_run", "as_written"]
"""Of weight rewinding: from the schedule's start, as the published code ran, or from the epoch that
the weights rewind to, as §5.2 has it."""
REWINDINGS = ("weight_rewind", "lr_rewind")
ALL_METHODS = (*REWINDINGS, "finetune")

# Densities of the figures' points: 0.8^k to three digits for the ResNets.
RESNET_DENSITIES = (0.8, 0.64, 0.512, 0.41, 0.328, 0.262, 0.21, 0.168, 0.134, 0.107)
WRN_DENSITIES = (0.75, 0.5, 0.2, 0.1, 0.05, 0.025)

UNSTRUCTURED = Prune(fraction=0.2)
FILTERS = Prune(fraction=0.2, structure="filters", filters_only=True)
"""His code masks kernels and nothing else: pruned channels still output BatchNorm's shift."""


def fig1(dense: Stage, retrainings: tuple[Retrain, ...]) -> Iterator[Stage]:
    """ResNet-20 (92.46% dense). Published at 9.35×, iterative: learning-rate rewinding 92.07%,
    weight rewinding 91.89%, fine-tuning 89.42%."""
    for retrain in retrainings:
        yield from one_shot(dense, retrain, RESNET_DENSITIES, UNSTRUCTURED)
        yield iterative(dense, retrain, 10, UNSTRUCTURED)


def fig2(dense: Stage, retrainings: tuple[Retrain, ...]) -> Iterator[Stage]:
    """ResNet-56 (93.71% dense). Published at 22.7×, iterative: learning-rate rewinding 93.13%,
    weight rewinding 92.93%, fine-tuning 90.80%."""
    for retrain in retrainings:
        yield from one_shot(dense, retrain, RESNET_DENSITIES, UNSTRUCTURED)
        yield iterative(dense, retrain, 14, UNSTRUCTURED)


def fig3(dense: Stage, retrainings: tuple[Retrain, ...]) -> Iterator[Stage]:
    """ResNet-20, whole filters by global mean |w| (§2.1). Published at 9.35×: learning-rate
    rewinding 87.74%, weight rewinding 87.68%, fine-tuning 85.57%."""
    for retrain in retrainings:
        yield from one_shot(dense, retrain, RESNET_DENSITIES, FILTERS)


def fig4(dense: Stage, retrainings: tuple[Retrain, ...]) -> Iterator[Stage]:
    """ResNet-56 on CIFAR-100 (71.90% dense). Published at 9.35×: learning-rate rewinding 69.09%,
    weight rewinding 68.86%, fine-tuning 67.42%."""
    for retrain in retrainings:
        yield from one_shot(dense, retrain, RESNET_DENSITIES, UNSTRUCTURED)


def fig5(dense: Stage, retrainings: tuple[Retrain, ...]) -> Iterator[Stage]:
    """WRN-16-8 (95.72% dense): learning-rate rewinding loses accuracy step by step. Published at
    100×, iterative: weight rewinding 93.86%, learning-rate rewinding 87.52%."""
    for retrain in retrainings:
        yield from one_shot(dense, retrain, WRN_DENSITIES, UNSTRUCTURED)
        yield iterative(dense, retrain, 13, Prune(fraction=0.3))


def fig6(dense: Stage, retrainings: tuple[Retrain, ...]) -> Iterator[Stage]:
    """WRN-16-8: it does so in steps of 20% as of 30%. Published: 90.96% at 9.35× by steps of 20%,
    91.11% at 17.2× by steps of 30%."""
    (retrain,) = retrainings
    yield iterative(dense, retrain, 8, Prune(fraction=0.3))
    yield iterative(dense, retrain, 10, Prune(fraction=0.2))


def table5(dense: Stage, retrainings: tuple[Retrain, ...]) -> Iterator[Stage]:
    """ResNet-110 (94.29% dense) at 89.3% sparsity. Published: learning-rate rewinding 93.74%,
    weight rewinding 93.73%, fine-tuning 93.32%."""
    for retrain in retrainings:
        yield from one_shot(dense, retrain, (0.107,), UNSTRUCTURED)


Chains = Callable[[Stage, tuple[Retrain, ...]], Iterator[Stage]]
Experiment = tuple[Callable[[], Protocol], Chains, tuple[str, ...]]
"""Function of the protocol, chains of a dense network, retraining methods."""
FIGURES: dict[str, Experiment] = {
    "fig1": (lambda: mikler_resnet("resnet20"), fig1, ALL_METHODS),
    "fig2": (lambda: mikler_resnet("resnet56"), fig2, ALL_METHODS),
    "fig3": (lambda: mikler_resnet("resnet20"), fig3, ALL_METHODS),
    "fig4": (lambda: mikler_resnet("resnet56", "cifar100"), fig4, ALL_METHODS),
    "fig5": (mikler_wrn, fig5, REWINDINGS),
    "fig6": (mikler_wrn, fig6, ("lr_rewind",)),
    "table5": (lambda: mikler_resnet("resnet110"), table5, ALL_METHODS),
}


def retrainings(
    protocol: Protocol, rewind_epoch: int, rates: Rates, methods: tuple[str, ...]
) -> tuple[Retrain, ...]:
    """Weights rewind to ``rewind_epoch``; the other methods retrain for the whole time T.

    Momentum starts from zero, as in the paper's code.
    """
    rewound = Retrain(
        method="weight_rewind",
        epochs=protocol.epochs - rewind_epoch,
        rates_from=0 if rates == "as_run" else None,
    )
    return tuple(
        rewound if method == "weight_rewind" else Retrain(method=method, epochs=protocol.epochs)
        for method in methods
    )


def stages_of(figure: str, seed: int, rates: Rates = "as_run") -> Iterator[Stage]:
    """The full figure, weights rewound as published."""
    make_protocol, recipe, methods = FIGURES[figure]
    dense = dense_stage(make_protocol(), seed)
    return recipe(dense, retrainings(dense.protocol, REWIND_EPOCH, rates, methods))


def main(
    figure: Annotated[
        Literal["fig1", "fig2", "fig3", "fig4", "fig5", "fig6", "table5"], tyro.conf.Positional
    ],
    rewind_epoch: int = REWIND_EPOCH,
    rates: Rates = "as_run",
    *,
    options: Annotated[Options, tyro.conf.arg(name="")],
) -> int:
    """Run a figure's sweep.

    Args:
        figure: figure or table of the paper
        rewind_epoch: epoch that weight rewinding goes back to
        rates: learning rates of weight rewinding: as in the published code, or in the text
    """
    return run_figure(f"mikler2022-{figure}", FIGURES[figure], rewind_epoch, rates, options)


def run_figure(
    name: str, experiment: Experiment, rewind_epoch: int, rates: Rates, options: Options
) -> int:
    """Train an experiment with every seed; the exit code. rewind_epoch: of the full protocol."""
    make_protocol, recipe, methods = experiment
    full = make_protocol()
    protocol = prepared(full, options)
    rewind_epoch = scaled(rewind_epoch, full.epochs, protocol)
    retrained = retrainings(protocol, rewind_epoch, rates, methods)
    stages = (
        stage
        for seed in seeds(options, SEEDS)
        for stage in recipe(dense_stage(protocol, seed), retrained)
    )
    return run_recipe(name, stages, options)


if __name__ == "__main__":
    command(main)
