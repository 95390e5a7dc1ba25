"""The pieces of recipes: chains, seeds, and the tiny protocols of ``--smoke``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from rewind_ray.errors import UserError
from rewind_ray.importing import is_import_path
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol, Prune, Retrain, Stage, retrain_stage
from rewind_ray.store.layout import Layout
from rewind_ray.tasks import task_class
from sweeps.options import Options

SMOKE_EPOCHS = 10
MOST_LEVELS = 1000
"""Of a chain, more than any has a use for: 1% at a time comes to 20,000×."""


def one_shot(
    baseline: Stage, retrain: Retrain, densities: Iterable[float], prune: Prune
) -> Iterator[Stage]:
    """Each density in one step from the baseline; the fraction of ``prune`` is replaced."""
    for density in densities:
        if not 0 < density < 1:
            raise UserError(f"density is {density:g}; allowed: above 0 and below 1")
        yield retrain_stage(baseline, replace(prune, fraction=1 - density), retrain)


def iterative(baseline: Stage, retrain: Retrain, steps: int, prune: Prune) -> Stage:
    """The last stage of a chain of equal steps."""
    if steps > MOST_LEVELS:
        raise UserError(f"{steps:,} levels; allowed: up to {MOST_LEVELS:,}")
    stage = baseline
    for _ in range(steps):
        stage = retrain_stage(stage, prune, retrain)
    return stage


def steps_to(compression_ratio: float, fraction: float) -> int:
    """Smallest number of steps that compress at least this far."""
    if not 1 < compression_ratio < math.inf:
        raise UserError(f"--target-compression is {compression_ratio:g}; allowed: numbers above 1")
    steps = math.log(compression_ratio) / -math.log1p(-fraction)
    if steps > MOST_LEVELS:
        raise UserError(
            f"{compression_ratio:g}× takes {steps:,.0f} levels with a fraction of {fraction:g}; "
            f"allowed: up to {MOST_LEVELS:,}; give a larger fraction"
        )
    return math.ceil(round(steps, 9))


def seeds(options: Options, default: int) -> range:
    return range(options.seeds or default)


def prepared(protocol: Protocol, options: Options) -> Protocol:
    """The protocol with the options' precision, or the tiny one of ``--smoke``."""
    if options.precision:
        protocol = replace(protocol, precision=options.precision)
    return smoke(protocol) if options.smoke else protocol


def smoke(protocol: Protocol) -> Protocol:
    """The same protocol for a tiny network, a few built-in examples, and 10 epochs at most.

    What is the user's own stays, and only the training is shortened.
    """
    epochs = min(protocol.epochs, SMOKE_EPOCHS)
    schedule = protocol.schedule
    drops = {share_of(epochs, drop / protocol.epochs) for drop in schedule.drops}
    schedule = moved(schedule, protocol.epochs, epochs, sorted(d for d in drops if d < epochs))
    if any(map(is_import_path, (protocol.network, protocol.dataset, protocol.task))):
        init = "" if ":" in protocol.init else protocol.init  # a history is of the whole training
        return replace(protocol, epochs=epochs, steps_per_epoch=2, schedule=schedule, init=init)
    return replace(
        protocol,
        **task_class(protocol.task).tiny(protocol),
        epochs=epochs,
        steps_per_epoch=2,
        schedule=schedule,
        init="",
    )


def moved(schedule: Schedule, of: int, epochs: int, drops: Iterable[float]) -> Schedule:
    """The schedule of a training of ``of`` epochs for one of ``epochs``, with these drops."""
    drops = tuple(drops)
    return replace(
        schedule,
        shape="steps" if drops else schedule.shape,
        drops=drops,
        warmup_epochs=schedule.warmup_epochs * epochs / of,
    )


def share_of(epochs: int, share: float) -> int:
    """A share of a training of so many epochs, in whole epochs; at least one."""
    return max(1, round(share * epochs))


def scaled(epochs: int, of: int, protocol: Protocol) -> int:
    """An epoch, or length, of a training of ``of`` epochs, scaled to the protocol's; 0 stays 0."""
    return max(min(1, epochs), round(epochs * protocol.epochs / of))


def sweep_name(name: str, options: Options) -> str:
    """Raises UserError for a name that its files or the command line couldn't have."""
    try:
        Layout("").sweep(name)
    except ValueError as error:
        raise UserError(f"--name: {error}") from None
    if name.startswith("-"):
        raise UserError(f"--name is {name!r}; allowed: a name that doesn't begin with -")
    return f"{name}-smoke" if options.smoke else name
