"""What a search chooses from: knobs and their values, and the recipe that a choice makes."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from optuna.trial import BaseTrial

from rewind_ray.errors import UserError
from rewind_ray.retraining import METHODS, Method, method_named
from rewind_ray.spec import Protocol, Prune, Retrain, Stage, dense_stage, retrain_stage
from rewind_ray.structures import DEFAULT_STRUCTURE, STRUCTURES, is_structure, structure_named
from sweeps.iterative_wrn import steps_to

DIGITS = 9
"""0.30000000000000004, which steps of 0.1 come to, is 0.3."""
RATE_DIGITS = 2
"""Suggested rates are rounded to as many digits: finer differences aren't worth a training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Numbers from ``low`` to ``high``, both allowed; whole ones if both bounds and step are."""

    low: float
    high: float
    step: float | None = None
    """None: every number between them, which a grid can't have."""
    log: bool = False
    """As likely between 0.001 and 0.01 as between 0.01 and 0.1; without a step."""

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf:
            raise UserError(f"a range from {self.low} to {self.high}; low is at most high")
        if self.step is not None and (self.log or not self.step > 0):
            raise UserError(f"a step of {self.step}; allowed: above 0, and not with log")
        if self.log and not self.low > 0:
            raise UserError(f"a logarithmic range from {self.low}; allowed: above 0")

    @property
    def whole(self) -> bool:
        return all(isinstance(number, int) for number in (self.low, self.high, self.step))


Knob = tuple[Any, ...] | Range


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """The knobs. Each has the values it may take: some of any kind, or a range of numbers."""

    methods: Knob = tuple(METHODS)
    """Retraining methods."""
    structures: Knob = (DEFAULT_STRUCTURE,)
    """What is removed."""
    fractions: Knob = (0.2, 0.3, 0.5, 0.7, 0.8, 0.9)
    """Share of the remaining weights that each level prunes; N:M structures have their own."""
    levels: Knob = Range(low=1, high=10, step=1)
    """Times that is pruned and retrained. Not asked for where a target compression and the
    fraction say it."""
    shares: Knob = Range(low=0.1, high=1.0, step=0.1)
    """Retraining time of a level, as a share of the original training's; ten of them, as in Renda
    et al. 2020, §2.4."""
    lrs: Knob = Range(low=0.001, high=0.1, log=True)
    """Top learning rate of the methods that take one."""
    decays: Knob = (0, 1, 2)
    """Of step: how often its rate drops, by the original schedule's factor; first at half of the
    retraining, then each time halfway to its end, as in Renda et al. 2020, Table 1."""
    alphas: Knob = Range(low=0.1, high=0.9, step=0.1)
    """Of blend: 0 is weight rewinding, 1 learning-rate rewinding."""
    speedups: Knob = (2.0,)
    """Of scratch_b: what pruning makes an epoch cheaper by."""
    momentum: Knob = (False, True)
    """Is the momentum restored with the weights?"""
    layers: str = ""
    """Pattern of the only layers that N:M structures prune: those whose inputs they divide."""
    max_compression: float = 100.0
    """No chain prunes further."""

    def __post_init__(self) -> None:
        for name in KNOBS:
            knob = getattr(self, name)
            if isinstance(knob, Range):
                check_range(name, knob)
            else:
                check_values(name, knob)
        most = self.max_compression
        if not isinstance(most, (int, float)) or not 1 < most < math.inf:
            raise UserError(f"max_compression is {most!r}; allowed: numbers above 1")
        if not isinstance(self.layers, str):
            raise UserError(f"layers is {self.layers!r}; allowed: a pattern such as 'stages.*'")


def number_between(low: float, high: float, *, whole: bool = False) -> Callable[[Any], bool]:
    def allowed(value: Any) -> bool:
        kind = int if whole else (int, float)
        return isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high

    return allowed


TINY = 1e-9  # bounds that are themselves left out
KNOBS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "methods": (lambda value: value in METHODS, ", ".join(METHODS)),
    "structures": (is_structure, f"{', '.join(STRUCTURES)} and other N:M"),
    "fractions": (number_between(TINY, 1 - TINY), "above 0 and below 1"),
    "levels": (number_between(1, 1000, whole=True), "whole numbers from 1 up"),
    "shares": (number_between(TINY, 1), "above 0, up to 1"),
    "lrs": (number_between(TINY, 1e9), "above 0"),
    "decays": (number_between(0, 20, whole=True), "whole numbers from 0 to 20"),
    "alphas": (number_between(0, 1), "from 0 to 1"),
    "speedups": (number_between(1, 1e9), "1 and up"),
    "momentum": (lambda value: isinstance(value, bool), "true, false"),
}
"""Name of a knob -> whether a value is allowed, and the allowed ones in words."""
WHOLE = ("levels", "decays")


def check_values(name: str, values: tuple[Any, ...]) -> None:
    allowed, words = KNOBS[name]
    if not values:
        raise UserError(f"the space has no {name}; give at least one of: {words}")
    wrong = [value for value in values if not allowed(value)]
    if wrong:
        raise UserError(f"{name} has {wrong[0]!r}; allowed: {words}")
    if len(set(values)) < len(values):
        raise UserError(f"{name} has a value twice: {', '.join(map(str, values))}")


def check_range(name: str, knob: Range) -> None:
    allowed, words = KNOBS[name]
    for value in (knob.low, knob.high):
        if not allowed(value):
            raise UserError(f"{name} goes to {value}; allowed: {words}")
    if name in WHOLE and not knob.whole:
        raise UserError(f"{name} has a range of fractions; allowed: {words}, with a whole step")


def default_space(protocol: Protocol) -> Space:
    """Rates from a hundredth of the original training's largest up to that."""
    top = protocol.schedule.lr
    return Space(lrs=Range(low=top / 100, high=top, log=True))


# Files and flags that narrow it


def read_space(path: str, default: Space) -> Space:
    """``default``, with the knobs that a TOML file sets. Raises UserError, naming the file.

    A knob is a list of values, or a table with low, high, and step or log.
    """
    try:
        table = tomllib.loads(Path(path).expanduser().read_text())
        return narrowed(default, {name: knob_of(name, value) for name, value in table.items()})
    except FileNotFoundError:
        raise UserError(f"there is no space file {path}") from None
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"space file {path}: {error}") from error


def knob_of(name: str, value: Any) -> Any:
    """What a file says of a knob, as a space has it."""
    if isinstance(value, dict):
        unknown = set(value) - {item.name for item in fields(Range)}
        if unknown or not {"low", "high"} <= set(value):
            raise UserError(
                f"{name} = {value}; a range has low, high, and step or log; for values give a list"
            )
        return Range(**value)
    return tuple(value) if isinstance(value, list) else value


def narrowed(space: Space, knobs: dict[str, Any]) -> Space:
    """``space`` with these knobs, as far as they aren't None."""
    known = [item.name for item in fields(Space)]
    for name, value in knobs.items():
        if name not in known:
            raise UserError(f"unknown knob {name!r}; known: {', '.join(known)}")
        if name in KNOBS and not isinstance(value, (tuple, Range, type(None))):
            raise UserError(f"{name} is {value!r}; give a list, or a range with low and high")
    return replace(space, **{name: value for name, value in knobs.items() if value is not None})


# A recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a network is pruned and retrained, whatever its seed."""

    method: str
    structure: str
    fraction: float | None
    """None: the structure says how much."""
    levels: int
    epochs: int
    """t, of each level."""
    layers: str = ""
    """Pattern of the only ones that are pruned."""
    lr: float | None = None
    drops: tuple[float, ...] = ()
    factor: float | None = None
    alpha: float | None = None
    speedup: float | None = None
    restore_momentum: bool = False

    def chain(self, protocol: Protocol, seed: int) -> list[Stage]:
        """Its stages, the dense baseline first."""
        retrain = Retrain(
            method=self.method,
            epochs=self.epochs,
            lr=self.lr,
            drops=self.drops,
            factor=self.factor,
            alpha=self.alpha,
            speedup=self.speedup,
            restore_momentum=self.restore_momentum,
        )
        prune = Prune(fraction=self.fraction, structure=self.structure, layers=self.layers)
        stages = [dense_stage(protocol, seed)]
        for _ in range(self.levels):
            stages.append(retrain_stage(stages[-1], prune, retrain))
        return stages

    def up_to(self, levels: int) -> Recipe:
        return replace(self, levels=levels)

    def compression(self) -> float:
        """As told. Filters come in lumps, and come to a little more or less; N:M of some layers
        come to less."""
        if self.fraction is None:
            of_layer = structure_named(self.structure).density
            assert of_layer is not None
            return (1 / of_layer) ** self.levels
        return float((1 - self.fraction) ** -self.levels)

    def cost_epochs(self, protocol: Protocol) -> int:
        """Search cost: of all its retraining."""
        length = METHODS[self.method].length
        return self.levels * length(protocol.epochs, self.epochs, self.speedup)

    def describe(self) -> str:
        """One line: ``step 0.05 with 2 drops by 0.1, 8 epochs, 3 times 20%``."""
        rate = "" if self.lr is None else f" {self.lr:g}"
        drops = f" with {len(self.drops)} drops by {self.factor:g}" if self.factor else ""
        knobs = [f"alpha {self.alpha:g}"] if self.alpha is not None else []
        knobs += [f"speedup {self.speedup:g}"] if self.speedup is not None else []
        knobs += ["momentum"] if self.restore_momentum else []
        size = self.structure if self.fraction is None else f"{100 * self.fraction:.4g}%"
        of = "" if reaches_any(self.structure) or self.fraction is None else f" of {self.structure}"
        of += f" of {self.layers}" if self.layers else ""
        amount = f"{size}{of}" if self.levels == 1 else f"{self.levels} times {size}{of}"
        epochs = f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        return ", ".join([f"{self.method}{rate}{drops}", *knobs, epochs, amount])


def takes_fraction(structure: str) -> bool:
    """Whether a fraction says how much it removes, and not the structure itself."""
    return structure_named(structure).density is None


def reaches_any(structure: str) -> bool:
    """Whether every compression can be reached to the weight, so that a fraction and a target say
    the levels; larger units come in lumps."""
    return takes_fraction(structure) and structure_named(structure).single


def asked_knobs(method: Method, structure: str, levels_known: bool) -> list[str]:
    """Knobs that a recipe of this method and structure has, in the order they are asked for."""
    names = []
    if takes_fraction(structure):
        known = levels_known and reaches_any(structure)
        names += ["fractions"] if known else ["fractions", "levels"]
    names += [] if method is METHODS["scratch_e"] else ["shares"]
    names += ["lrs"] if "lr" in (*method.needs, *method.takes) else []
    names += ["decays"] if "drops" in method.takes else []
    names += ["alphas"] if "alpha" in method.needs else []
    names += ["speedups"] if "speedup" in method.needs else []
    names += [] if method.weights == "fresh" else ["momentum"]
    return names


def recipe_of(
    trial: BaseTrial, space: Space, protocol: Protocol, target: float | None = None
) -> Recipe:
    """The recipe that a trial of Optuna suggests, or has suggested.

    target: a compression that the chain is to reach and no more; its fraction says the levels.
    """
    name = chosen(trial, "method", space.methods)
    structure = chosen(trial, "structure", space.structures)
    asked = asked_knobs(method_named(name), structure, target is not None)
    got = {knob: chosen(trial, PARAMETERS[knob], getattr(space, knob)) for knob in asked}
    got |= {knob: round(value, DIGITS) for knob, value in got.items() if isinstance(value, float)}
    epochs = max(1, round(got.get("shares", 1.0) * protocol.epochs))
    levels = got.get("levels", 1)
    if "fractions" in got and "levels" not in got:
        assert target is not None
        levels = steps_to(target, got["fractions"])
    decays = got.get("decays", 0)
    return Recipe(
        method=name,
        structure=structure,
        fraction=got.get("fractions"),
        levels=levels,
        epochs=epochs,
        layers="" if takes_fraction(structure) else space.layers,
        lr=float(f"{got['lrs']:.{RATE_DIGITS}g}") if "lrs" in got else None,
        drops=tuple(epochs * (1 - 0.5 ** (number + 1)) for number in range(decays)),
        factor=protocol.schedule.factor if decays else None,
        alpha=got.get("alphas"),
        speedup=got.get("speedups"),
        restore_momentum=got.get("momentum", False),
    )


PARAMETERS = {
    "fractions": "fraction",
    "levels": "levels",
    "shares": "share",
    "lrs": "lr",
    "decays": "decays",
    "alphas": "alpha",
    "speedups": "speedup",
    "momentum": "momentum",
}
"""Knob -> name of the parameter in the study."""


def chosen(trial: BaseTrial, name: str, knob: Knob) -> Any:
    if not isinstance(knob, Range):
        return trial.suggest_categorical(name, knob)
    if knob.whole:
        return trial.suggest_int(name, int(knob.low), int(knob.high), step=int(knob.step or 1))
    return trial.suggest_float(name, knob.low, knob.high, step=knob.step, log=knob.log)


# Its size


def num_recipes(space: Space, levels_known: bool) -> float:
    """Choices there are; infinite where a range has no step."""
    total = 0.0
    for name in values_of(space.methods):
        for structure in values_of(space.structures):
            asked = asked_knobs(METHODS[name], structure, levels_known)
            total += math.prod(num_values(getattr(space, knob)) for knob in asked)
    return total


def num_values(knob: Knob) -> float:
    if not isinstance(knob, Range):
        return len(knob)
    if knob.low == knob.high:
        return 1
    if knob.step is None:
        return math.inf
    return math.floor((knob.high - knob.low) / knob.step + 1e-9) + 1


def values_of(knob: Knob) -> tuple[Any, ...]:
    """Of methods and structures, which are no numbers."""
    assert not isinstance(knob, Range)
    return knob


def lowest(knob: Knob) -> Any:
    return knob.low if isinstance(knob, Range) else min(knob)


def highest(knob: Knob) -> Any:
    return knob.high if isinstance(knob, Range) else max(knob)


# What it holds, checked against what is wanted


def epochs_between(space: Space, protocol: Protocol, target: float | None) -> tuple[int, int]:
    """Search cost of the cheapest and the dearest recipe that reaches the target compression, if
    there is one."""
    least, most = (max(1, round(end(space.shares) * protocol.epochs)) for end in (lowest, highest))
    costs = []
    for name in values_of(space.methods):
        length = METHODS[name].length
        for structure in values_of(space.structures):
            fewest, highest_level = levels_between(space, structure, target)
            costs.append(fewest * length(protocol.epochs, least, lowest(space.speedups)))
            costs.append(highest_level * length(protocol.epochs, most, highest(space.speedups)))
    return min(costs), max(costs)


def levels_between(space: Space, structure: str, target: float | None) -> tuple[int, int]:
    """The fewest and the most."""
    if not takes_fraction(structure):
        return 1, 1
    if target is None:
        return int(lowest(space.levels)), int(highest(space.levels))
    fewest, most = (steps_to(target, end(space.fractions)) for end in (highest, lowest))
    if reaches_any(structure):
        return fewest, most
    return max(fewest, int(lowest(space.levels))), int(highest(space.levels))


def reach(space: Space) -> dict[str, float]:
    """Structure -> the highest compression that its recipes could be told to prune to."""
    found = {}
    for structure in values_of(space.structures):
        of_layer = structure_named(structure).density
        if of_layer is not None:
            found[structure] = 1 / of_layer
        else:
            found[structure] = (1 - highest(space.fractions)) ** -highest(space.levels)
    return found


def rewind_epochs(space: Space, protocol: Protocol) -> set[int]:
    """Epochs of the original training that some recipe may rewind to."""
    if not any(METHODS[name].rewinds for name in values_of(space.methods)):
        return set()
    shares, total = space.shares, protocol.epochs
    if not isinstance(shares, Range):
        return {total - max(1, round(share * total)) for share in shares}
    if shares.step is None:
        return set(range(total))
    count = int(num_values(shares))
    each = (shares.low + number * shares.step for number in range(count))
    return {total - max(1, round(round(share, DIGITS) * total)) for share in each}


def endless_knobs(space: Space) -> list[str]:
    """Ranges without a step, which a grid can't have."""
    return [name for name in KNOBS if num_values(getattr(space, name)) == math.inf]


def knob_text(knob: Knob) -> str:
    """``0.1 to 1 in steps of 0.1``, or its values."""
    if not isinstance(knob, Range):
        return ", ".join(str(value) for value in knob)
    how = ", logarithmic" if knob.log else ""
    step = f" in steps of {knob.step:g}" if knob.step is not None else ""
    return f"{knob.low:g} to {knob.high:g}{step}{how}"
