"""A cut: what is physically removed from a network's tensors, as plain data with its json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What is left of the tensors of a network. Tensors it doesn't name stay whole."""

    sizes: dict[str, tuple[int, ...]]
    """Name of a parameter or buffer -> its shape before the cut."""
    kept: dict[str, tuple[tuple[int, ...] | None, ...]]
    """Its name -> for every dimension the positions that stay, rising; None: all of them."""

    def __post_init__(self) -> None:
        if self.sizes.keys() != self.kept.keys():
            raise ValueError(
                f"a cut with sizes of {sorted(self.sizes)} and positions of {sorted(self.kept)}; "
                "both must name the same tensors"
            )
        for name, shape in self.sizes.items():
            if len(self.kept[name]) != len(shape):
                raise ValueError(f"{name} has shape {shape}, but {len(self.kept[name])} dimensions")
            for size, kept in zip(shape, self.kept[name], strict=True):
                if kept is not None and not (
                    kept and kept[0] >= 0 and kept[-1] < size and _rising(kept)
                ):
                    raise ValueError(
                        f"{name} keeps {kept} of {size}; positions must rise from 0 to {size - 1}, "
                        "and one must stay"
                    )

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a named tensor after the cut."""
        return tuple(
            size if kept is None else len(kept)
            for size, kept in zip(self.sizes[name], self.kept[name], strict=True)
        )


def compose(first: Cut, second: Cut) -> Cut:
    """Both as one; the second is of the network that the first left.

    Raises ValueError if it isn't.
    """
    sizes, kept = dict(first.sizes), dict(first.kept)
    for name, then in second.kept.items():
        if name not in kept:
            sizes[name], kept[name] = second.sizes[name], then
            continue
        if second.sizes[name] != first.shape(name):
            raise ValueError(
                f"these cuts don't follow one another: the first leaves {name} with shape "
                f"{first.shape(name)}, the second is of one with {second.sizes[name]}"
            )
        kept[name] = tuple(
            b if a is None else a if b is None else tuple(a[at] for at in b)
            for a, b in zip(kept[name], then, strict=True)
        )
    return Cut(sizes=sizes, kept=kept)


def cut_to_json(cut: Cut) -> str:
    return json.dumps({name: [cut.sizes[name], cut.kept[name]] for name in sorted(cut.kept)})


def cut_from_json(text: str) -> Cut:
    """Raises ValueError if the text is no cut."""
    try:
        read = {
            str(name): (
                tuple(int(size) for size in sizes),
                tuple(None if at is None else tuple(int(a) for a in at) for at in kept),
            )
            for name, (sizes, kept) in json.loads(text).items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"this is no cut: {error}") from error
    return Cut(
        sizes={name: sizes for name, (sizes, _) in read.items()},
        kept={name: kept for name, (_, kept) in read.items()},
    )


def _rising(positions: tuple[int, ...]) -> bool:
    return all(a < b for a, b in pairwise(positions))
