"""Flags for the knobs of pruning and retraining, made from their declarations.

A knob that holds one number takes several on the command line, and one recipe is made for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, make_dataclass
from itertools import product
from typing import Annotated, Any, Literal

import tyro

from rewind_ray.errors import UserError
from rewind_ray.knobs import kind_of, knobs_of, unset_of
from rewind_ray.limits import OneOf
from rewind_ray.retraining import METHODS, method_named
from rewind_ray.spec import Prune, Retrain


def flags_of(spec: type, name: str) -> Any:
    """A dataclass for ``tyro`` with a field for each knob that has a flag."""
    return make_dataclass(
        name,
        [
            (declared.flag, *_hint_and_default(spec, knob))
            for knob, declared in knobs_of(spec).items()
            if declared.flag
        ],
        frozen=True,
        kw_only=True,
    )


def _hint_and_default(spec: type, name: str) -> tuple[Any, Any]:
    kind: Any
    kind, unset, knob = kind_of(spec, name), unset_of(spec)[name], knobs_of(spec)[name]
    hint: Any = tuple[float, ...] if kind is tuple else kind
    default, several = unset, kind is tuple
    if isinstance(knob.allowed, OneOf):
        hint = Literal[knob.allowed.values]
    elif kind in (int, float):
        hint, default, several = tuple[kind, ...], () if unset is None else (unset,), True
    usual = "" if knob.usual is None else f"; {knob.usual:g} where one is needed and none is given"
    settings: dict[str, Any] = {"help": f"{knob.help}{usual}."}
    if knob.metavar:
        settings["metavar"] = f"{knob.metavar} [...]" if several else knob.metavar
    return Annotated[hint, tyro.conf.arg(**settings)], field(default=default)


RetrainFlags = flags_of(Retrain, "RetrainFlags")
PruneFlags = flags_of(Prune, "PruneFlags")


def retrainings(method: str, epochs: int, flags: Any) -> Iterator[Retrain]:
    """The method with the knobs it uses, once for each combination of their values.

    A knob that is needed and not given has its usual value.
    """
    known = method_named(method)
    choices: dict[str, tuple[Any, ...]] = {}
    for name, knob in knobs_of(Retrain).items():
        if name in known.knobs and knob.flag:
            usual = knob.usual if name in known.needs else unset_of(Retrain)[name]
            choices[name] = values_of(Retrain, name, flags) or (usual,)
    for settings in combinations(choices):
        yield Retrain(method=method, epochs=epochs, **settings)


def check_used(methods: Iterable[str], flags: Any) -> None:
    """Raises UserError for a knob that is given and that none of the methods takes."""
    chosen, unset = list(methods), unset_of(Retrain)
    for name, knob in knobs_of(Retrain).items():
        if not knob.flag or getattr(flags, knob.flag) in ((), None, unset[name]):
            continue
        takers = [method for method, known in METHODS.items() if name in known.knobs]
        if not set(takers).intersection(chosen):
            raise UserError(
                f"--{knob.flag.replace('_', '-')} is given, which none of --methods "
                f"{' '.join(chosen)} takes; it is for {', '.join(takers)}"
            )


def prunings(settings: Mapping[str, Any], flags: Any) -> Iterator[Prune]:
    """One for each combination of values. settings: the fields without a flag."""
    choices = {
        name: values_of(Prune, name, flags) for name, knob in knobs_of(Prune).items() if knob.flag
    }
    for chosen in combinations(choices):
        yield Prune(**settings, **chosen)


def values_of(spec: type, name: str, flags: Any) -> tuple[Any, ...]:
    """Values from the command line; several may be given if the knob holds one number."""
    value = getattr(flags, knobs_of(spec)[name].flag)
    return value if kind_of(spec, name) in (int, float) else (value,)


def combinations(choices: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    for chosen in product(*choices.values()):
        yield dict(zip(choices, chosen, strict=True))


def flags_for(spec: Any) -> dict[str, Any]:
    """Flag -> value of each knob that was given."""
    unset = unset_of(type(spec))
    return {
        knob.flag: getattr(spec, name)
        for name, knob in knobs_of(type(spec)).items()
        if knob.flag and getattr(spec, name) != unset[name]
    }
