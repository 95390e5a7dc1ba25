"""One pruning step: from a network and its mask to the next mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from rewind_ray.errors import UserError
from rewind_ray.pruning.criteria import CRITERIA, NEEDS, Scores, Scoring, criterion_named
from rewind_ray.pruning.layers import layer_name, matching, some_layers
from rewind_ray.pruning.masks import Mask, unchanged, unpruned
from rewind_ray.pruning.probe import Probe
from rewind_ray.pruning.rates import RATES, check_rates_fit, remove_by_rates
from rewind_ray.pruning.removal import Removal
from rewind_ray.pruning.units import UNITS
from rewind_ray.spec import Prune
from rewind_ray.structures import Structure, structure_named


def nothing_along(mask: Mask) -> Mask:
    return {}


@torch.no_grad()
def pruned_mask(
    parameters: dict[str, nn.Parameter],
    mask: Mask,
    prune: Prune,
    seed: int = 0,
    level: int = 1,
    probe: Probe | None = None,
    close: Callable[[Mask], Mask] = unchanged,
    companions: Callable[[Mask], Mask] = nothing_along,
) -> Mask:
    """The mask after a pruning step, the least important weights removed. Never revives any.

    Globally, ``round(fraction * unpruned)`` weights go: single weights exactly that many, larger
    units at most that many. With scope ``layer``, or a pattern of ``layers``, that share of every
    (matching) layer, of units of several weights rounded up; rates and N:M say themselves how
    much. ``seed`` and ``level`` are for the criterion ``random``, ``probe`` for those that look
    beyond the weights. Of structures whose units are channels, ``close`` takes from a mask the
    weights that read what is pruned (see ``channels.Channels.closed``), which count as removed,
    and ``companions`` gives what else goes with a mask, as another.

    Raises UserError if nothing would be left, for what doesn't fit the network, or for a
    criterion that needs more than it is given.
    """
    check_prune(prune)
    check_fits(prune, parameters)
    structure, criterion = structure_named(prune.structure), CRITERIA[prune.criterion]
    check_needs(prune, probe)
    units = UNITS[structure.unit]
    names = pruned_layers(prune, {name: parameters[name].dim() for name in mask})
    start = mask
    for fraction in shares_after_rounds(prune):
        scoring = Scoring(
            weights={name: parameters[name].detach() * kept for name, kept in mask.items()},
            mask=mask,
            names=names,
            split=units.split,
            seed=seed,
            level=level,
            probe=probe,
        )
        removal = Removal(
            scores=finite(criterion.score(scoring), prune),
            mask=mask,
            names=names,
            structure=structure,
            split=units.split,
            fraction=fraction,
            start=start,
            keep_layers=prune.keep_layers,
            reduce=criterion.reduce,
            close=close,
        )
        if prune.rates:
            mask = remove_by_rates(removal, prune.rates, prune.power, prune.filters_only)
        else:
            mask = units.remove[prune.scope](removal)
        if probe is not None and fraction != prune.fraction:  # another round comes
            probe = probe.masked({**mask, **companions(mask)})
    left = unpruned(start)
    all_asked_for = prune.fraction is not None and round(prune.fraction * left) >= left
    if all_asked_for or unpruned(mask) == 0:  # every layer may round up to all of its weights
        raise UserError(
            f"pruning {_amount(prune)} of the {left} weights that are left leaves none; "
            "prune less, or stop the chain earlier"
        )
    return mask


def shares_after_rounds(prune: Prune) -> Iterator[float | None]:
    """Share of the weights that is gone after each round; of one round, ``fraction``.

    Of n rounds, each leaves the same share of what is left: (1 - fraction)^(k/n) of the weights
    after k of them (Tanaka et al. 2020, Algorithm 1).
    """
    if prune.fraction is not None:
        for number in range(1, prune.rounds):
            yield 1 - (1 - prune.fraction) ** (number / prune.rounds)
    yield prune.fraction


def pruned_layers(prune: Prune, dims: Mapping[str, int]) -> list[str]:
    """Names of the kernels that a step prunes. dims: of all prunable ones."""
    structure = structure_named(prune.structure)
    allowed = structure.dims
    if allowed is not None and prune.scope == "global":
        allowed += structure.dims_beside
    return [n for n in matching(dims, prune.layers) if allowed is None or dims[n] in allowed]


def finite(scores: Scores, prune: Prune) -> Scores:
    """Raises UserError if any isn't."""
    for name, score in scores.items():
        if not score.isfinite().all():
            raise UserError(
                f"criterion {prune.criterion!r} gives {layer_name(name)} scores that are not "
                "finite; choose another criterion, or an earlier epoch of its parent"
            )
    return scores


def _amount(prune: Prune) -> str:
    if prune.fraction is not None:
        return f"{prune.fraction:g}"
    return f"{prune.rates}, power {prune.power}," if prune.rates else prune.structure


def check_prune(prune: Prune) -> None:
    """Raises UserError for a criterion or table of rates that isn't known, listing those that
    are, and for a criterion that isn't for the structure, scope or rounds."""
    criterion, structure = criterion_named(prune.criterion), structure_named(prune.structure)
    if prune.rates and prune.rates not in RATES:
        raise UserError(f"unknown rates {prune.rates!r}; known: {', '.join(RATES)}")
    if criterion.units == "single" and not structure.single:
        _refuse(prune, "structure", "scores single weights", structure)
    if criterion.units == "whole" and structure.single:
        _refuse(prune, "structure", "scores units of several weights", structure)
    if prune.scope not in criterion.scopes:
        _refuse(prune, "scope", f"needs scope {' or '.join(criterion.scopes)}", structure)
    if prune.rounds > 1 and not criterion.needs:
        raise UserError(
            f"rounds is {prune.rounds} with criterion {prune.criterion!r}, whose scores don't "
            "change from round to round; leave it out, or choose one of: "
            f"{', '.join(name for name, one in CRITERIA.items() if one.needs)}"
        )


def _refuse(prune: Prune, field: str, why: str, structure: Structure) -> None:
    units = "any", "single" if structure.single else "whole"
    fitting = [
        name for name, one in CRITERIA.items() if one.units in units and prune.scope in one.scopes
    ]
    raise UserError(
        f"criterion {prune.criterion!r} with {field} {getattr(prune, field)!r}, but it {why}; "
        f"for structure {prune.structure!r} and scope {prune.scope!r} there are: "
        f"{', '.join(fitting)}"
    )


def check_needs(prune: Prune, probe: Probe | None) -> None:
    """Raises UserError if the criterion needs what the probe hasn't."""
    for need in CRITERIA[prune.criterion].needs:
        if probe is None or getattr(probe, need) is None:
            without = [name for name, one in CRITERIA.items() if need not in one.needs]
            raise UserError(
                f"criterion {prune.criterion!r} needs {NEEDS[need]}, and has none; give "
                f"pruned_mask a probe with {need}, or choose a criterion without: "
                f"{', '.join(without)}"
            )


def check_fits(prune: Prune, parameters: Mapping[str, Tensor]) -> None:
    """Raises UserError if layers, rates or N:M don't fit the network's prunable parameters.

    Looks at names and shapes only, so the network may be on the meta device.
    """
    structure = structure_named(prune.structure)
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    if prune.rates:
        check_rates_fit(prune.rates, shapes)
        return
    fitting = [n for n, s in shapes.items() if structure.dims is None or len(s) in structure.dims]
    if not fitting:
        raise UserError(
            f"structure {prune.structure!r} prunes {structure.layers}s, and the network has none "
            f"among what may be pruned ({some_layers(list(shapes))}); choose another structure"
        )
    names = matching(fitting, prune.layers)
    if not names:
        raise UserError(
            f"layers {prune.layers!r} matches no {structure.layers}; there are, for example, "
            f"{some_layers(fitting)}"
        )
    UNITS[structure.unit].check(structure, {name: shapes[name] for name in names})
