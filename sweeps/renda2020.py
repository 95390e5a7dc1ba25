"""Renda, Frankle & Carbin, ICLR 2020: figures 1 to 12 and table 1.

Three seeds, ten retraining times t spread over the original training, and for each compression the
t with the best validation accuracy (§3). Networks: resnet20, resnet56, resnet110 on CIFAR-10;
resnet34, resnet50 on ImageNet, whose images are looked for in DATA/imagenet; gnmt on WMT16, English
to German, whose files are looked for in DATA/wmt16_en_de, or below DATA. Its epochs are half
passes.

  fig1    one-shot, best t: unstructured and filters, fine-tuning and both rewindings
  fig2    iterative in steps of 20%, best t
  fig3    one-shot, unstructured: accuracy against t
  fig4    one-shot, filters: accuracy against t
  fig5    Algorithm 1: iterative learning-rate rewinding for the whole time
  fig6    Algorithm 2: weight rewinding for the longest t up to 90%, the others for all of it
  fig7    as fig1, with low-LR weight rewinding and reinitialisation, and more networks
  fig8    as fig2, with low-LR weight rewinding, and more networks
  fig9    unstructured, one-shot and iterative: accuracy against t, all methods
  fig10   filters (Li et al. 2017, A and B): accuracy against t, all methods
  fig11   theoretical speedup over the dense network, iterative (the rows of fig2)
  fig12   theoretical speedup over fine-tuning, iterative (the rows of fig2)
  table1  the dense networks

Examples:
  rewind-ray renda2020 fig3 --networks resnet56 --dry-run
  rewind-ray renda2020 fig10 --smoke
  rewind-ray renda2020 fig5 --networks resnet56 --data /data --precision bf16
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from rewind_ray.errors import UserError
from rewind_ray.protocols import renda_cifar, renda_gnmt, renda_imagenet
from rewind_ray.spec import Protocol, Prune, Retrain, Stage, dense_stage, retrain_stage
from sweeps.options import Options
from sweeps.plan.chains import iterative, one_shot, prepared, scaled, seeds
from sweeps.run.launch import command, run_recipe

SEEDS = 3  # §2.5
MAIN = ("finetune", "weight_rewind", "lr_rewind")
WITHOUT_REINIT = (*MAIN, "low_lr_weight_rewind")
ALL = (*WITHOUT_REINIT, "reinit")

# The published trials' retraining times and densities.
CIFAR_TIMES = (10, 30, 50, 70, 90, 110, 130, 150, 170, 182)
IMAGENET_TIMES = (9, 18, 27, 36, 45, 54, 63, 72, 81, 90)
GNMT_TIMES = tuple(range(1, 11))  # half passes
TIMES = {times[-1]: times for times in (CIFAR_TIMES, IMAGENET_TIMES, GNMT_TIMES)}
"""T -> the times t."""
LEVELS, GNMT_LEVELS = 10, 25
"""One-shot densities are 0.8, 0.8^2, ..."""
ITERATIVE_LEVELS = {"resnet20": 10, "resnet56": 17, "resnet110": 10, "resnet50": 10, "gnmt": 25}
POWERS = (1, 2, 3, 4, 5)  # of the rates of Li et al. 2017; §2.2, footnote 6
STEP = Prune(fraction=0.2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """Networks, and which prunings of each are shown."""

    one_shot: tuple[str, ...] = ()
    """Unstructured, once: networks."""
    filters: tuple[str, ...] = ()
    """Filters by the rates of Li et al.: names of RATES."""
    iterative: tuple[str, ...] = ()
    """Unstructured, step by step: networks."""
    methods: tuple[str, ...] = MAIN
    all_times: bool = True
    """Every t; else one for each method: the longest that is no more than its share of T."""
    shares: tuple[tuple[str, float], ...] = ()
    """Method -> share of T."""


THREE = ("resnet56", "resnet50", "gnmt")
FIVE = ("resnet20", "resnet56", "resnet110", "resnet50", "gnmt")

FIGURES: dict[str, Figure] = {
    "fig1": Figure(one_shot=THREE, filters=("resnet56-B", "resnet34-A")),
    "fig2": Figure(iterative=THREE),
    "fig3": Figure(one_shot=THREE),
    "fig4": Figure(filters=("resnet56-B", "resnet34-A")),
    "fig5": Figure(iterative=THREE, all_times=False, shares=(("lr_rewind", 1.0),)),
    "fig6": Figure(
        iterative=THREE,
        all_times=False,
        shares=(("weight_rewind", 0.9), ("lr_rewind", 1.0), ("finetune", 1.0)),
    ),
    "fig7": Figure(
        one_shot=FIVE,
        filters=(
            *("resnet56-A", "resnet56-B", "resnet110-A", "resnet110-B"),
            *("resnet34-A", "resnet34-B"),
        ),
        methods=ALL,
    ),
    "fig8": Figure(iterative=FIVE, methods=WITHOUT_REINIT),
    "fig9": Figure(one_shot=FIVE, iterative=FIVE, methods=ALL),
    "fig10": Figure(
        filters=(
            *("resnet56-A", "resnet56-B", "resnet110-A", "resnet110-B"),
            *("resnet34-A", "resnet34-B"),
        ),
        methods=ALL,
    ),
    "fig11": Figure(iterative=("resnet56", "resnet50")),
    "fig12": Figure(iterative=("resnet56", "resnet50")),
    "table1": Figure(),
}
TABLE1 = ("resnet20", "resnet56", "resnet110", "resnet34", "resnet50", "gnmt")


def renda2020(
    figure: Figure, networks: tuple[str, ...], options: Options, seed_range: range
) -> Iterator[Stage]:
    """The last stage of each chain of a figure, for the given networks."""
    for network in networks:
        full = protocol_of(network)
        protocol = prepared(full, options)
        for seed in seed_range:
            dense = dense_stage(protocol, seed)
            yield dense
            for retrain in retrainings(figure, full, protocol):
                if network in figure.one_shot:
                    yield from one_shot(dense, retrain, one_shot_densities(network), STEP)
                if network in figure.iterative and retrain.method in iterative_methods(network):
                    yield iterative(dense, retrain, ITERATIVE_LEVELS[network], STEP)
                for rates in figure.filters:
                    if rates.startswith(f"{network}-"):
                        yield from filter_levels(dense, retrain, rates, options.smoke)


def one_shot_densities(network: str) -> tuple[float, ...]:
    levels = GNMT_LEVELS if network == "gnmt" else LEVELS
    return tuple(0.8**level for level in range(1, levels + 1))


def iterative_methods(network: str) -> tuple[str, ...]:
    """As the published trials have them: low-LR weight rewinding not on ImageNet."""
    return MAIN if network == "resnet50" else WITHOUT_REINIT


def filter_levels(dense: Stage, retrain: Retrain, rates: str, smoke: bool) -> Iterator[Stage]:
    """Levels i = 1 ... 5 of the rates; a smoke run's network is too small for them.

    Their code (``lottery/prune_functions.py``) masks filters and nothing else: BatchNorm's shift
    of a pruned filter, and the weights that read it, are trained on.
    """
    for power in POWERS:
        amount: dict[str, Any] = {"fraction": None, "rates": rates, "power": power}
        if smoke:
            amount = {"fraction": 1 - 0.9**power, "layers": "stages.*.conv1"}
        prune = Prune(structure="filters", filters_only=True, **amount)
        yield retrain_stage(dense, prune, retrain)


def retrainings(figure: Figure, full: Protocol, protocol: Protocol) -> Iterator[Retrain]:
    """Momentum is restored with the weights, as in the authors' code."""
    times = TIMES[full.epochs]
    if not figure.all_times:
        for method, share in figure.shares:
            longest = max(t for t in times if t <= share * full.epochs)
            yield retraining(method, scaled(longest, full.epochs, protocol))
        return
    for method in figure.methods:
        for t in dict.fromkeys(scaled(t, full.epochs, protocol) for t in times):
            yield retraining(method, t)


def retraining(method: str, epochs: int) -> Retrain:
    return Retrain(method=method, epochs=epochs, restore_momentum=method != "reinit")


def protocol_of(network: str) -> Protocol:
    if network in ("resnet34", "resnet50"):
        return renda_imagenet(network)
    return renda_gnmt(network) if network == "gnmt" else renda_cifar(network)


def networks_of(name: str, figure: Figure) -> tuple[str, ...]:
    if name == "table1":
        return TABLE1
    of_filters = [rates.partition("-")[0] for rates in figure.filters]
    return tuple(dict.fromkeys([*figure.one_shot, *figure.iterative, *of_filters]))


def main(
    figure: Annotated[
        Literal[
            "fig1",
            "fig2",
            "fig3",
            "fig4",
            "fig5",
            "fig6",
            "fig7",
            "fig8",
            "fig9",
            "fig10",
            "fig11",
            "fig12",
            "table1",
        ],
        tyro.conf.Positional,
    ],
    networks: tuple[str, ...] = (),
    *,
    options: Annotated[Options, tyro.conf.arg(name="")],
) -> int:
    """Run a figure's sweep.

    Args:
        figure: figure or table of the paper
        networks: only these of its networks; all if left out
    """
    there = networks_of(figure, FIGURES[figure])
    for network in networks:
        if network not in there:
            raise UserError(f"{figure} has no network {network!r}; it has {', '.join(there)}")
    chosen = networks or there
    stages = renda2020(FIGURES[figure], chosen, options, seeds(options, SEEDS))
    return run_recipe(f"renda2020-{figure}", stages, options)


if __name__ == "__main__":
    command(main)
