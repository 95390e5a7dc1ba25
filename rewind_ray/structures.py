"""What pruning removes: the table of structures, as plain data that needs no torch.

How a structure's kernels are divided, and what goes first, is in ``rewind_ray.pruning.units``,
under the name of its ``unit``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rewind_ray.errors import UserError

GROUP_LIMIT = 32
"""Largest M of an N:M structure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """What is removed as one, among what it is compared, and what goes with it."""

    name: str
    says: str
    """What it removes, in a line of help."""
    unit: str
    """What is kept or removed as one; key of ``rewind_ray.pruning.units.UNITS``."""
    single: bool = False
    """Whether a unit is one weight."""
    group: tuple[int, int] | None = None
    """(N, M): of every M units in a row N stay, so the structure itself says how much. None: a
    fraction does."""
    scopes: tuple[str, ...] = ("global", "layer")
    """Among what its units may be compared."""
    layers: str = "prunable layer"
    """What a layer that has such units is called."""
    dims: tuple[int, ...] | None = None
    """Dimensions of the kernels that have such units; None: all have."""
    dims_beside: tuple[int, ...] = ()
    """Dimensions of kernels that have units too where those of all layers are compared."""
    keeps_one: bool = False
    """Whether something of each layer stays where each is pruned by itself, ``keep_layers`` or
    not."""
    channels: bool = False
    """Whether a unit is an output channel, and takes BatchNorm's scale and shift and the weights
    that read it along, unless ``filters_only``; such channels can be cut out of the network."""
    options: tuple[str, ...] = ()
    """Fields of ``Prune`` that only some structures have, this one among them."""

    @property
    def density(self) -> float | None:
        """Share of a layer's weights that stays, where the structure itself says so."""
        return None if self.group is None else self.group[0] / self.group[1]

    @property
    def slug(self) -> str:
        """The name as a part of a file's."""
        return self.name.replace(":", "of")


def n_of_m(n: int, m: int) -> Structure:
    """N:M sparsity, which sparse tensor cores multiply (Mishra et al. 2021)."""
    return Structure(
        name=f"{n}:{m}",
        says=f"all but {n} of every {m} weights in a row, along the input",
        unit="weight of a group",
        single=True,
        group=(n, m),
        scopes=("layer",),
        keeps_one=True,
    )


DEFAULT_STRUCTURE = "unstructured"
STRUCTURES: dict[str, Structure] = {
    structure.name: structure
    for structure in (
        Structure(name=DEFAULT_STRUCTURE, says="single weights", unit="weight", single=True),
        Structure(
            name="filters",
            says="whole filters of convolutions; where all layers are compared, also all weights "
            "of a dense layer on one of its inputs",
            unit="filter",
            layers="convolution",
            dims=(4,),
            dims_beside=(2,),
            keeps_one=True,
            channels=True,
            options=("rates", "shrink", "filters_only"),
        ),
        n_of_m(2, 4),  # Wang et al. 2023, slides
        n_of_m(1, 4),
        n_of_m(4, 8),
    )
}


def structure_named(name: str) -> Structure:
    """Of the table, or any other N:M. Raises UserError, listing what is known."""
    found = STRUCTURES.get(name) or _any_n_of_m(name)
    if found is None:
        raise UserError(
            f"unknown structure {name!r}; known: {', '.join(STRUCTURES)}, or another N:M with "
            f"0 < N < M <= {GROUP_LIMIT}"
        )
    return found


def is_structure(name: Any) -> bool:
    return isinstance(name, str) and (name in STRUCTURES or _any_n_of_m(name) is not None)


def with_option(option: str) -> list[str]:
    """Names of the structures that have this option of ``Prune``."""
    return [name for name, structure in STRUCTURES.items() if option in structure.options]


def structures_help() -> str:
    """A line of help that lists them: ``unstructured (single weights), ...``."""
    named = [f"{one.name} ({one.says})" for one in STRUCTURES.values() if one.group is None]
    groups = [one.name for one in STRUCTURES.values() if one.group is not None]
    return f"{', '.join(named)}, or N:M such as {', '.join(groups)} (N weights of every M stay)"


def _any_n_of_m(name: str) -> Structure | None:
    written = re.fullmatch(r"([1-9]\d?):([1-9]\d?)", name, flags=re.ASCII)
    if written is None:
        return None
    n, m = (int(number) for number in written.groups())
    return n_of_m(n, m) if n < m <= GROUP_LIMIT else None
