"""How important each weight is: the less, the sooner it is pruned."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rewind_ray.errors import UserError
from rewind_ray.pruning.masks import Mask, any_left
from rewind_ray.pruning.probe import Probe
from rewind_ray.pruning.removal import Reduction, Split, mean, root_of_total, total
from rewind_ray.pruning.whole_units import spread

Scores = dict[str, Tensor]
"""Parameter name -> importance of each of its weights, shaped like it."""

SNIP_BATCHES = 1
"""Lee et al. 2019, §5: a single mini-batch of the training set."""
TAYLOR_BATCHES = 10
"""Ours: Molchanov et al. 2019 sum over the mini-batches between two prunings of theirs, each of a
few filters."""
GRASP_BATCHES = 1
"""Wang et al. 2020, §5: ten examples of each class, 100 of CIFAR-10."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """What a criterion may look at."""

    weights: dict[str, Tensor]
    """The prunable parameters, in the order of the modules; pruned ones are zero."""
    mask: Mask
    names: list[str]
    """Layers that are pruned; the others need no scores."""
    split: Split
    """See ``rewind_ray.pruning.units``."""
    seed: int = 0
    """Of the stage."""
    level: int = 1
    """Pruning steps from the baseline to here."""
    probe: Probe | None = None

    @property
    def probed(self) -> Probe:
        """The probe, where the criterion's ``needs`` say that there is one."""
        assert self.probe is not None
        return self.probe


def magnitude(scoring: Scoring) -> Scores:
    """|w|, whatever the layer (Han et al. 2015; globally: Renda et al. 2020, §2.2).

    Of larger units the mean (Mikler 2022, figure 3). Magnitude at initialisation is this too, on a
    parent at epoch 0.
    """
    return {name: weight.abs() for name, weight in scoring.weights.items()}


def random(scoring: Scoring) -> Scores:
    """Uniform in [0, 1), a function of seed, level and shapes alone; drawn on the CPU.

    One number for each unit: the mean of many would spare the large ones.
    """
    digest = hashlib.sha256(f"pruning {scoring.seed} {scoring.level}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
    scores = {}
    for name, weight in scoring.weights.items():
        units = len(scoring.split(torch.empty(weight.shape, device="meta")))
        drawn = torch.rand(units, generator=generator)
        scores[name] = spread(drawn, weight.shape, scoring.split).to(weight.device)
    return scores


def snip(scoring: Scoring) -> Scores:
    """|g * w|, g the gradient on one batch (Lee et al. 2019, eq. 4 and 5; their normalisation
    changes no order)."""
    gradients = scoring.probed.mean_gradients(scoring.names, SNIP_BATCHES)
    return {name: (g * scoring.weights[name]).abs() for name, g in gradients.items()}


def absolute(scoring: Scoring) -> Scores:
    """|w|, whose sum over a filter is its L1 norm (Li et al. 2017, §3.1)."""
    return magnitude(scoring)


def squared(scoring: Scoring) -> Scores:
    """w^2; the root of its sum over a filter is its L2 norm."""
    return {name: weight.square() for name, weight in scoring.weights.items()}


def lamp(scoring: Scoring) -> Scores:
    """w^2 / the sum of u^2 over all weights u of the layer that aren't smaller (Lee et al. 2021,
    §3: the LAMP score; of equal weights the one that comes first counts as smaller).

    A layer's largest weight has the score 1, so no layer is pruned away before all others are
    down to one weight. Sums in float64: differences of a large layer's smallest scores vanish in
    float32.
    """
    scores = {}
    for name in scoring.names:
        squares, order = scoring.weights[name].double().square().flatten().sort(stable=True)
        not_smaller = squares.flip(0).cumsum(0).flip(0)
        ratios = torch.zeros_like(squares)
        ratios[order] = squares / not_smaller.clamp(min=torch.finfo(torch.float64).tiny)
        scores[name] = ratios.view(scoring.weights[name].shape)
    return scores


def taylor(scoring: Scoring) -> Scores:
    """(g * w)^2, the mean over ten batches: the squared first-order change of the loss without the
    weight; summed over a filter's weights (Molchanov et al. 2019, §3.1, and ``Taylor_weight`` of
    their code).

    On one batch, single weights would come in the order of ``snip``.
    """
    sums: Scores = {}
    for gradients in scoring.probed.gradients(scoring.names, TAYLOR_BATCHES):
        for name, gradient in gradients.items():
            squares = (gradient * scoring.weights[name]).square()
            sums[name] = sums[name] + squares if name in sums else squares
    return sums


def fpgm(scoring: Scoring) -> Scores:
    """Sum of a filter's Euclidean distances to the other filters of its layer that are left (He et
    al. 2019, §3.3): the nearer the geometric median, the more replaceable."""
    scores = {}
    for name in scoring.names:
        units = scoring.split(scoring.weights[name].contiguous()).flatten(1).double()
        alive = any_left(scoring.split(scoring.mask[name]))
        left = units[alive]
        distances = torch.cdist(left, left, compute_mode="donot_use_mm_for_euclid_dist")
        sums = torch.zeros(len(units), dtype=units.dtype, device=units.device)
        sums[alive] = distances.sum(dim=1)
        scores[name] = spread(sums, scoring.weights[name].shape, scoring.split)
    return scores


def synflow(scoring: Scoring) -> Scores:
    """|dR/dw * w| of the network with |w| on an input of ones, R the sum of its outputs (Tanaka et
    al. 2020, eq. 1 and 2).

    In one step it prunes away layers; theirs is 100 rounds on the way to a density
    (``Prune.rounds``, their Algorithm 1).
    """
    return scoring.probed.synaptic_flow(scoring.names)


def grasp(scoring: Scoring) -> Scores:
    """w * (H g): what removing the weight takes from the squared gradient's norm, to first order;
    pruned first is what adds most to it (Wang et al. 2020, eq. 8, where the scores have the other
    sign and the highest go).

    Without their temperature, which divides a classifier's logits by 200.
    """
    products = scoring.probed.hessian_gradients(scoring.names, GRASP_BATCHES)
    return {name: product * scoring.weights[name] for name, product in products.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Criterion:
    """How weights are scored, and for which structures."""

    score: Callable[[Scoring], Scores]
    says: str
    """What goes first, in a line of help."""
    source: str
    needs: tuple[str, ...] = ()
    """What of a probe it looks at; keys of ``NEEDS``."""
    units: str = "any"
    """single: for structures that remove single weights; whole: filters and the like; any."""
    scopes: tuple[str, ...] = ("global", "layer")
    """Among what its scores may be compared."""
    reduce: Reduction = mean
    """How the scores of a unit's weights become the unit's."""


NEEDS = {
    "network": "the network itself",
    "batches": "gradients of the training loss",
}
"""What a probe holds, as messages name it."""
GRADIENTS = ("network", "batches")

CRITERIA: dict[str, Criterion] = {
    "magnitude": Criterion(
        score=magnitude,
        says="the smallest weights; of units the smallest mean |w|",
        source="Han et al. 2015; Renda et al. 2020",
    ),
    "random": Criterion(score=random, says="any, by the seed", source="a control"),
    "snip": Criterion(
        score=snip,
        says="the smallest |gradient * w|",
        source="Lee et al. 2019",
        needs=GRADIENTS,
    ),
    "l1_filter": Criterion(
        score=absolute,
        says="filters of the smallest L1 norm",
        source="Li et al. 2017",
        units="whole",
        reduce=total,
    ),
    "l2_filter": Criterion(
        score=squared,
        says="filters of the smallest L2 norm",
        source="He et al. 2018",
        units="whole",
        reduce=root_of_total,
    ),
    "lamp": Criterion(
        score=lamp,
        says="the smallest w^2, relative to those of the layer that aren't smaller",
        source="Lee et al. 2021",
        units="single",
        scopes=("global",),
    ),
    "taylor": Criterion(
        score=taylor,
        says="the smallest (gradient * w)^2; of units the smallest sum",
        source="Molchanov et al. 2019",
        needs=GRADIENTS,
        reduce=total,
    ),
    "fpgm": Criterion(
        score=fpgm,
        says="filters nearest to all others of their layer",
        source="He et al. 2019",
        units="whole",
        scopes=("layer",),
    ),
    "synflow": Criterion(
        score=synflow,
        says="what passes on least of an input of ones; best in many rounds",
        source="Tanaka et al. 2020",
        needs=("network",),
        reduce=total,
    ),
    "grasp": Criterion(
        score=grasp,
        says="what reduces the gradient's norm least, or adds to it",
        source="Wang et al. 2020",
        needs=GRADIENTS,
        reduce=total,
    ),
}
DEFAULT_CRITERION = "magnitude"


def criterion_named(name: str) -> Criterion:
    """Raises UserError, listing what is known, for another name."""
    if name not in CRITERIA:
        raise UserError(f"unknown pruning criterion {name!r}; known: {', '.join(CRITERIA)}")
    return CRITERIA[name]


def criteria_help() -> str:
    """A line of help that lists them: ``magnitude (the smallest weights; ...), ...``."""
    return ", ".join(f"{name} ({criterion.says})" for name, criterion in CRITERIA.items())
