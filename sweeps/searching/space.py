"""The space of a search: its knobs and their values, and the recipes made of them."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any

from optuna.trial import BaseTrial

from rewind_ray.errors import UserError
from rewind_ray.knobs import Search, Values, kind_of, knobs_of, labels_of
from rewind_ray.limits import Allowed, Numbers, OneOf, Range
from rewind_ray.retraining import METHODS, Method, method_named
from rewind_ray.spec import (
    Protocol,
    Prune,
    Retrain,
    Stage,
    dense_stage,
    missing_origin,
    retrain_stage,
)
from rewind_ray.structures import (
    DEFAULT_STRUCTURE,
    STRUCTURES,
    is_structure,
    structure_named,
    structures_help,
)
from sweeps.plan.chains import share_of, steps_to

DIGITS = 9
"""Suggested numbers are rounded: 0.1 + 0.1 + 0.1 is 0.3."""


@dataclass(frozen=True, slots=True)
class Structures:
    """Names of structures, as allowed values."""

    def allows(self, value: Any) -> bool:
        return is_structure(value)

    def __str__(self) -> str:
        return f"{', '.join(STRUCTURES)} and other N:M"


@dataclass(frozen=True, kw_only=True, slots=True)
class SpaceKnob:
    """A knob of the space."""

    values: Values
    """Default values."""
    allowed: Allowed | Structures
    help: str
    kind: type
    """Of one value."""
    parameter: str = ""
    """Its name in the Optuna study."""


OF_RETRAIN: dict[str, str] = {
    knob.search.name: name for name, knob in knobs_of(Retrain).items() if knob.search is not None
}
"""Knob of the space -> the field of ``Retrain`` that declares it."""


def search_of(name: str) -> Search:
    """The declaration of a knob of the space that is one of ``Retrain``."""
    found = knobs_of(Retrain)[OF_RETRAIN[name]].search
    assert found is not None
    return found


def _from_retrain(name: str) -> SpaceKnob:
    field_name, search = OF_RETRAIN[name], search_of(name)
    allowed = search.allowed or knobs_of(Retrain)[field_name].allowed
    assert allowed is not None
    whole = isinstance(allowed, Numbers) and allowed.whole
    kind = kind_of(Retrain, field_name)
    return SpaceKnob(
        values=search.values,
        allowed=allowed,
        help=search.help,
        kind=int if whole else kind,
        parameter=search.parameter or field_name,
    )


KNOBS: dict[str, SpaceKnob] = {
    "methods": SpaceKnob(
        values=tuple(METHODS),
        allowed=OneOf(tuple(METHODS)),
        help="Retraining methods",
        kind=str,
        parameter="method",
    ),
    "structures": SpaceKnob(
        values=(DEFAULT_STRUCTURE,),
        allowed=Structures(),
        help=f"What is removed: {structures_help()}",
        kind=str,
        parameter="structure",
    ),
    "fractions": SpaceKnob(
        values=(0.2, 0.3, 0.5, 0.7, 0.8, 0.9),
        allowed=Numbers(above=0, below=1),
        help="Share of the remaining weights that each level prunes; N:M structures have their own",
        kind=float,
        parameter="fraction",
    ),
    "levels": SpaceKnob(
        # not asked for where a target compression and the fraction say it
        values=Range(low=1, high=10, step=1),
        allowed=Numbers(least=1, most=1000, whole=True),
        help="Number of times to prune and retrain",
        kind=int,
        parameter="levels",
    ),
    "shares": SpaceKnob(
        values=Range(low=0.1, high=1.0, step=0.1),  # ten of them: Renda et al. 2020, §2.4
        allowed=Numbers(above=0, most=1),
        help="Retraining time of a level, as a share of the original training's",
        kind=float,
        parameter="share",
    ),
    **{name: _from_retrain(name) for name in OF_RETRAIN},
}
"""All knobs that a search may vary."""


@dataclass(frozen=True, kw_only=True)
class _Space:
    layers: str = ""
    """Pattern of the only layers that N:M structures prune: those whose inputs they divide."""
    max_compression: float = 100.0
    """Highest compression ratio of a chain."""

    def __post_init__(self) -> None:
        for name in KNOBS:
            values = getattr(self, name)
            if isinstance(values, Range):
                check_range(name, values)
            else:
                check_values(name, values)
        most = self.max_compression
        if not isinstance(most, (int, float)) or not 1 < most < math.inf:
            raise UserError(f"max_compression is {most!r}; allowed: numbers above 1")
        if not isinstance(self.layers, str):
            raise UserError(f"layers is {self.layers!r}; allowed: a pattern such as 'stages.*'")


Space: Any = make_dataclass(
    "Space",
    [(name, Values, field(default=declared.values)) for name, declared in KNOBS.items()],
    bases=(_Space,),
    frozen=True,
    kw_only=True,
)
"""The values that each knob may take: some of any kind, or a range of numbers."""


def check_values(name: str, values: tuple[Any, ...]) -> None:
    allowed = KNOBS[name].allowed
    if not values:
        raise UserError(f"the space has no {name}; give at least one of: {allowed}")
    wrong = [value for value in values if not allowed.allows(value)]
    if wrong:
        raise UserError(f"{name} has {wrong[0]!r}; allowed: {allowed}")
    if len(set(values)) < len(values):
        raise UserError(f"{name} has a value twice: {', '.join(map(str, values))}")


def check_range(name: str, values: Range) -> None:
    declared = KNOBS[name]
    whole = declared.kind is int and values.whole
    for value in (values.low, values.high):
        if not declared.allowed.allows(value):
            raise UserError(f"{name} goes to {value}; allowed: {declared.allowed}")
    if declared.kind is int and not whole:
        raise UserError(
            f"{name} has a range of fractions; allowed: {declared.allowed}, with a whole step"
        )


def default_space(protocol: Protocol) -> Space:
    """The default values, some of which depend on the original training's learning rates."""
    by_schedule = {
        name: search_of(name).of_schedule for name in OF_RETRAIN if search_of(name).of_schedule
    }
    return Space(**{name: made(protocol.schedule) for name, made in by_schedule.items() if made})


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
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise UserError(f"space file {path}: {error}") from error


def knob_of(name: str, value: Any) -> Any:
    """A knob's values from a file, as in a ``Space``."""
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
    known = [*KNOBS, *(item.name for item in fields(_Space))]
    for name, value in knobs.items():
        if name not in known:
            raise UserError(f"unknown knob {name!r}; known: {', '.join(known)}")
        if name in KNOBS and not isinstance(value, (tuple, Range, type(None))):
            raise UserError(f"{name} is {value!r}; give a list, or a range with low and high")
    return replace(space, **{name: value for name, value in knobs.items() if value is not None})


# A recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How to prune and retrain a network, whatever its seed."""

    prune: Prune
    retrain: Retrain
    """``prune`` and ``retrain`` are those of every level."""
    levels: int

    def chain(self, protocol: Protocol, seed: int) -> list[Stage]:
        """Its stages, the dense baseline first."""
        stages = [dense_stage(protocol, seed)]
        for _ in range(self.levels):
            stages.append(retrain_stage(stages[-1], self.prune, self.retrain))
        return stages

    def up_to(self, levels: int) -> Recipe:
        return replace(self, levels=levels)

    def compression(self) -> float:
        """Target compression. Whole filters reach it approximately; N:M of some layers less."""
        if self.prune.fraction is None:
            of_layer = structure_named(self.prune.structure).density
            assert of_layer is not None
            return (1 / of_layer) ** self.levels
        return float((1 - self.prune.fraction) ** -self.levels)

    def cost_epochs(self, protocol: Protocol) -> int:
        """Retraining epochs of all levels, the search cost."""
        length = METHODS[self.retrain.method].length
        return self.levels * length(protocol.epochs, self.retrain)

    def describe(self) -> str:
        """One line: ``step, lr 0.05, drops 4 6, 8 epochs, 3 times 20%``."""
        fraction, structure, epochs = self.prune.fraction, self.prune.structure, self.retrain.epochs
        size = structure if fraction is None else f"{100 * fraction:.4g}%"
        of = "" if reaches_any(structure) or fraction is None else f" of {structure}"
        of += f" of {self.prune.layers}" if self.prune.layers else ""
        amount = f"{size}{of}" if self.levels == 1 else f"{self.levels} times {size}{of}"
        time = f"{epochs} epoch{'s' if epochs > 1 else ''}"
        return ", ".join([self.retrain.method, *labels_of(self.retrain).values(), time, amount])


def takes_fraction(structure: str) -> bool:
    """Whether the structure takes a fraction, unlike N:M."""
    return structure_named(structure).density is None


def reaches_any(structure: str) -> bool:
    """Whether any compression can be reached exactly, so that fraction and target determine the
    levels; structures of larger units can't."""
    return takes_fraction(structure) and structure_named(structure).single


def asked_knobs(method: Method, structure: str, levels_known: bool) -> list[str]:
    """Knobs of recipes with this method and structure, in the order of suggestion."""
    names = []
    if takes_fraction(structure):
        known = levels_known and reaches_any(structure)
        names += ["fractions"] if known else ["fractions", "levels"]
    names += [] if method is METHODS["scratch_e"] else ["shares"]
    names += [name for name, of in OF_RETRAIN.items() if of in method.knobs]
    return names


def recipe_of(
    trial: BaseTrial, space: Space, protocol: Protocol, target: float | None = None
) -> Recipe:
    """The recipe of an Optuna trial.

    target: compression at which the chain ends, which with the fraction determines the levels.
    """
    name = chosen(trial, "method", space.methods)
    structure = chosen(trial, "structure", space.structures)
    asked = asked_knobs(method_named(name), structure, target is not None)
    got = {knob: chosen(trial, KNOBS[knob].parameter, getattr(space, knob)) for knob in asked}
    got |= {knob: round(value, DIGITS) for knob, value in got.items() if isinstance(value, float)}
    epochs = share_of(protocol.epochs, got.get("shares", 1.0))
    levels = got.get("levels", 1)
    if "fractions" in got and "levels" not in got:
        assert target is not None
        levels = steps_to(target, got["fractions"])
    knobs: dict[str, Any] = {}
    for knob in (knob for knob in asked if knob in OF_RETRAIN):
        settings = search_of(knob).settings
        value = got[knob]
        knobs |= (
            settings(value, epochs, protocol.schedule) if settings else {OF_RETRAIN[knob]: value}
        )
    return Recipe(
        prune=Prune(
            fraction=got.get("fractions"),
            structure=structure,
            layers="" if takes_fraction(structure) else space.layers,
        ),
        retrain=Retrain(method=name, epochs=epochs, **knobs),
        levels=levels,
    )


def chosen(trial: BaseTrial, name: str, knob: Values) -> Any:
    if not isinstance(knob, Range):
        return trial.suggest_categorical(name, knob)
    if knob.whole:
        return trial.suggest_int(name, int(knob.low), int(knob.high), step=int(knob.step or 1))
    return trial.suggest_float(name, knob.low, knob.high, step=knob.step, log=knob.log)


# Its size


def num_recipes(space: Space, levels_known: bool) -> float:
    """Number of recipes; infinite if a range has no step."""
    total = 0.0
    for name in values_of(space.methods):
        for structure in values_of(space.structures):
            asked = asked_knobs(METHODS[name], structure, levels_known)
            total += math.prod(num_values(getattr(space, knob)) for knob in asked)
    return total


def num_values(knob: Values) -> float:
    if not isinstance(knob, Range):
        return len(knob)
    if knob.low == knob.high:
        return 1
    if knob.step is None:
        return math.inf
    return math.floor((knob.high - knob.low) / knob.step + 1e-9) + 1


def values_of(knob: Values) -> tuple[Any, ...]:
    """The values of methods or structures, which are never a range."""
    assert not isinstance(knob, Range)
    return knob


def lowest(knob: Values) -> Any:
    return knob.low if isinstance(knob, Range) else min(knob)


def highest(knob: Values) -> Any:
    return knob.high if isinstance(knob, Range) else max(knob)


# Its limits


def epochs_between(space: Space, protocol: Protocol, target: float | None) -> tuple[int, int]:
    """Search cost of the cheapest and the most expensive recipe that reaches the target
    compression, if there is a target."""
    least, most = (share_of(protocol.epochs, end(space.shares)) for end in (lowest, highest))
    costs = []
    for name in values_of(space.methods):
        length = METHODS[name].length
        short, long = retraining(name, least, space, lowest), retraining(name, most, space, highest)
        for structure in values_of(space.structures):
            fewest, highest_level = levels_between(space, structure, target)
            costs.append(fewest * length(protocol.epochs, short))
            costs.append(highest_level * length(protocol.epochs, long))
    return min(costs), max(costs)


def retraining(name: str, epochs: int, space: Space, end: Callable[[Values], Any]) -> Retrain:
    """The method with the knobs that it needs, at one end of their values."""
    needed = {
        of: end(getattr(space, knob))
        for knob, of in OF_RETRAIN.items()
        if of in METHODS[name].needs
    }
    return Retrain(method=name, epochs=epochs, **needed)


def levels_between(space: Space, structure: str, target: float | None) -> tuple[int, int]:
    """Smallest and largest number of levels."""
    if not takes_fraction(structure):
        return 1, 1
    if target is None:
        return int(lowest(space.levels)), int(highest(space.levels))
    fewest, most = (steps_to(target, end(space.fractions)) for end in (highest, lowest))
    if reaches_any(structure):
        return fewest, most
    return max(fewest, int(lowest(space.levels))), int(highest(space.levels))


def reach(space: Space) -> dict[str, float]:
    """Structure -> highest compression of its recipes."""
    found = {}
    for structure in values_of(space.structures):
        of_layer = structure_named(structure).density
        if of_layer is not None:
            found[structure] = 1 / of_layer
        else:
            found[structure] = (1 - highest(space.fractions)) ** -highest(space.levels)
    return found


def retrain_epochs(space: Space, protocol: Protocol) -> set[int]:
    """Lengths of a level's retraining, of methods that have one."""
    shares, total = space.shares, protocol.epochs
    if not isinstance(shares, Range):
        return {share_of(total, share) for share in shares}
    if shares.step is None:
        return set(range(1, total + 1))
    count = int(num_values(shares))
    each = (shares.low + number * shares.step for number in range(count))
    return {share_of(total, round(share, DIGITS)) for share in each}


def rewind_epochs(space: Space, protocol: Protocol) -> set[int]:
    """Epochs of the original training that recipes take weights of."""
    if not any(METHODS[name].weights in ("baseline", "blend") for name in values_of(space.methods)):
        return set()
    return {protocol.epochs - epochs for epochs in retrain_epochs(space, protocol)}


def without_weights(space: Space, protocol: Protocol) -> dict[str, str]:
    """Methods of the space that have no weights to start from, of a network that was given
    trained -> the reason."""
    reasons = {
        name: [missing_origin(protocol, name, n) for n in sorted(retrain_epochs(space, protocol))]
        for name in values_of(space.methods)
    }
    return {name: next(filter(None, found)) for name, found in reasons.items() if any(found)}


def endless_knobs(space: Space) -> list[str]:
    """Knobs with a range without a step, which a grid can't have."""
    return [name for name in KNOBS if num_values(getattr(space, name)) == math.inf]


def knob_text(knob: Values) -> str:
    """``0.1 to 1 in steps of 0.1``, or its values."""
    if not isinstance(knob, Range):
        return ", ".join(str(value) for value in knob)
    how = ", logarithmic" if knob.log else ""
    step = f" in steps of {knob.step:g}" if knob.step is not None else ""
    return f"{knob.low:g} to {knob.high:g}{step}{how}"
