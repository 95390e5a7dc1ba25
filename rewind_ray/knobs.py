"""How a knob of pruning or retraining is declared: once, with its field.

``Prune`` (in ``spec``) and ``Retrain`` (in ``retraining``) are dataclasses, and a field that is a
knob carries a ``Knob``. Everything else reads it: validation and id, the flags of commands, the
columns of rows, labels in tables and figures, and what a search varies. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, get_args, get_type_hints

from rewind_ray.errors import UserError
from rewind_ray.limits import Allowed, Range, Rising, check
from rewind_ray.schedule import Schedule, rounded

Values = tuple[Any, ...] | Range
"""What a search may choose from: some values of any kind, or a range of numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """How a search varies a knob."""

    name: str
    """In the space, its files and the search's flags; a plural."""
    values: Values
    """If nothing else is asked for."""
    of_schedule: Callable[[Schedule], Values] | None = None
    """The same where they depend on the original training's learning rates."""
    help: str
    parameter: str = ""
    """In the study; the knob's own name if empty."""
    allowed: Allowed | None = None
    """Of a value; what the knob allows if None."""
    settings: Callable[[Any, int, Schedule], Mapping[str, Any]] | None = None
    """Fields of the spec, made of a value, the epochs of the retraining and the original schedule;
    the value itself as the knob's if None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Knob:
    help: str
    """What it is, in a sentence: of its flag and its column."""
    allowed: Allowed | None = None
    """None: any text; what isn't known is refused by whoever looks it up."""
    default: Any = None
    """Value that it has where it is left out, other than the field's own."""
    only_with: str = ""
    """Another knob of the same spec, without which this one has no meaning."""
    column: str = ""
    """Of the row; empty: the field's name after that of the spec."""
    label: str = ""
    """In tables and figures, ``{}`` being the value: ``alpha {}``. Of a knob that is on or off the
    text that says it is on. Empty: it is not shown, because another column tells."""
    flag: str = ""
    """Of the commands; empty: it has none."""
    metavar: str = ""
    of_rates: bool = False
    """The learning rates depend on it."""
    usual: Any = None
    """Value that commands choose where a method needs the knob and none is given."""
    search: Search | None = None


def knob(unset: Any = None, **declared: Any) -> Any:
    """A dataclass's field that is a knob. unset: its value where it is left out."""
    return field(default=unset, metadata={"knob": Knob(**declared)})


def knobs_of(spec: type) -> dict[str, Knob]:
    """Field -> its knob, in the order of the fields. spec: ``Prune`` or ``Retrain``."""
    return _declared(spec)[0]


def unset_of(spec: type) -> dict[str, Any]:
    """Field of each knob -> its value where it is left out."""
    return _declared(spec)[1]


def kind_of(spec: type, name: str) -> type:
    """float, int, bool or str, or tuple for several numbers."""
    return _declared(spec)[2][name]


@cache
def _declared(spec: type) -> tuple[dict[str, Knob], dict[str, Any], dict[str, type]]:
    hints = get_type_hints(spec)
    of_knobs = [item for item in fields(spec) if "knob" in item.metadata]
    return (
        {item.name: item.metadata["knob"] for item in of_knobs},
        {item.name: item.default for item in of_knobs},
        {item.name: _kind(hints[item.name]) for item in of_knobs},
    )


def _kind(hint: Any) -> type:
    kinds = [kind for kind in get_args(hint) or [hint] if kind is not type(None)]
    return kinds[0] if kinds[0] in (float, int, bool, str) and Ellipsis not in kinds else tuple


def is_given(spec: Any, name: str) -> bool:
    return bool(getattr(spec, name) != unset_of(type(spec))[name])


def value_of(spec: Any, name: str) -> Any:
    """What is in force: the given value, or the default of one that was left out."""
    value = getattr(spec, name)
    return knobs_of(type(spec))[name].default if value is None else value


def settle_(spec: Any) -> None:
    """Check each knob by itself, and write values that mean the same in one way.

    Numbers are rounded to the digits that count, and a value that a knob has in any case is left
    out. Raises UserError.
    """
    kind, unset = type(spec), unset_of(type(spec))
    for name, declared in knobs_of(kind).items():
        value = getattr(spec, name)
        if value is None or value == ():
            value = unset[name]
        elif kind_of(kind, name) is tuple:
            value = tuple(float(part) for part in value)
        elif kind_of(kind, name) is float and not isinstance(value, (bool, str)):
            value = rounded(value)
        if declared.default is not None and value == declared.default:
            value = unset[name]
        if value not in (None, ()) and declared.allowed is not None:
            check(name, value, declared.allowed)
        object.__setattr__(spec, name, value)
    for name, declared in knobs_of(kind).items():
        other = declared.only_with
        if other and is_given(spec, name) and not is_given(spec, other):
            raise UserError(f"{name} is {getattr(spec, name)} without {other}; leave it out")


# Columns and labels


def columns_of(spec: type) -> dict[str, str]:
    """Column of the row -> field."""
    prefix = spec.__name__.lower()
    return {
        declared.column or f"{prefix}_{name}": name for name, declared in knobs_of(spec).items()
    }


def cells_of(spec: Any, kind: type) -> dict[str, Any]:
    """Column -> value in the row of a stage; None without a spec of this kind.

    Several numbers are a text, as a table has them; what names nothing is None.
    """
    return {
        column: None if spec is None else _cell(spec, name)
        for column, name in columns_of(kind).items()
    }


def _cell(spec: Any, name: str) -> Any:
    value, other = getattr(spec, name), knobs_of(type(spec))[name].only_with
    if value in ("", ()) or (other and not is_given(spec, other)):
        return None
    return numbers_text(value) if isinstance(value, tuple) else value


def numbers_text(numbers: tuple[float, ...]) -> str:
    """(30.0, 60.5) is "30 60.5"."""
    return " ".join(f"{float(number):.15g}" for number in numbers)


def numbers_of(text: str | None) -> tuple[float, ...]:
    """Inverse of ``numbers_text``. Raises ValueError for anything else."""
    return tuple(float(part) for part in text.split(" ")) if text else ()


def check_numbers(column: str, text: str | None) -> None:
    """Raises ValueError unless the text is as ``numbers_text`` writes it, above 0 and rising."""
    try:
        numbers = numbers_of(text)
        fine = numbers_text(numbers) == (text or "") and Rising().allows(numbers)
    except ValueError:
        fine = False
    if not fine:
        raise ValueError(
            f"{column} is {text!r}; allowed: {Rising()}, joined by single spaces, such as '30 60'"
        )


def label_of(declared: Knob, value: Any) -> str:
    """In tables and figures: ``alpha 0.5``; value: as in a row's cell."""
    if isinstance(value, bool):
        return declared.label if value else ""
    text = f"{value:g}" if isinstance(value, (int, float)) else str(value)
    return declared.label.format(text)


def labels_of(spec: Any) -> dict[str, str]:
    """Field -> label, of the knobs that were given and have one."""
    return {
        name: label_of(declared, _cell(spec, name))
        for name, declared in knobs_of(type(spec)).items()
        if declared.label and is_given(spec, name)
    }
