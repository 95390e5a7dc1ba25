"""What weights are compared by, each criterion against another implementation of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional as F

from rewind_ray.models import build_network, initialise_
from rewind_ray.pruning import (
    CRITERIA,
    Mask,
    Probe,
    Scoring,
    check_prune,
    dense_mask,
    prunable_parameters,
    pruned_mask,
    unpruned,
)
from rewind_ray.pruning.criteria import TAYLOR_BATCHES, Scores
from rewind_ray.pruning.units import UNITS
from rewind_ray.spec import Prune
from rewind_ray.structures import STRUCTURES
from tests.rewind_ray.examples import one_image

Batch = tuple[Tensor, Tensor]


def resnet8() -> nn.Module:
    network = build_network("resnet8", 10, 3, {})
    initialise_(network, 0)
    return network


def batches(count: int, size: int = 8) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, 3, 8, 8, generator=generator),
            torch.randint(10, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def cross_entropy(network: nn.Module, batch: Batch) -> Tensor:
    images, labels = batch
    return F.cross_entropy(network(images), labels)


def probe_of(network: nn.Module, count: int = TAYLOR_BATCHES) -> Probe:
    return Probe(
        network=network,
        example=one_image((3, 8, 8)),
        loss=cross_entropy,
        batches=lambda: batches(count),
    )


def scores_of(
    criterion: str,
    network: nn.Module,
    mask: Mask | None = None,
    structure: str = "unstructured",
    probe: Probe | None = None,
) -> Scores:
    parameters = prunable_parameters(network, "kernels")
    mask = dense_mask(parameters) if mask is None else mask
    scoring = Scoring(
        weights={name: p.detach() * mask[name] for name, p in parameters.items()},
        mask=mask,
        names=list(mask),
        split=UNITS[STRUCTURES[structure].unit].split,
        probe=probe or probe_of(network),
    )
    with torch.no_grad():
        return CRITERIA[criterion].score(scoring)


def same(one: Mask, other: Mask) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


# Laws of all of them


KINDS = ("unstructured", "filters", "2:4")


def prunings(criterion: str) -> list[Prune]:
    """With every kind of structure that it is for."""
    found = []
    for name in KINDS:
        structure = STRUCTURES[name]
        for scope in structure.scopes:
            prune = Prune(
                fraction=0.4 if structure.density is None else None,
                structure=name,
                scope=scope,
                layers="stages.*" if structure.group else "",
                criterion=criterion,
                keep_layers=True,
            )
            try:
                check_prune(prune)
            except ValueError:
                continue
            found.append(prune)
    return found


CASES = [(criterion, prune) for criterion in CRITERIA for prune in prunings(criterion)]


def test_every_criterion_is_for_something_and_every_structure_has_several() -> None:
    assert {criterion for criterion, _ in CASES} == CRITERIA.keys()
    for structure in KINDS:
        assert len({c for c, prune in CASES if prune.structure == structure}) >= 6


@pytest.mark.parametrize(
    ("criterion", "prune"), CASES, ids=[f"{c}-{p.structure}-{p.scope}" for c, p in CASES]
)
def test_masks_are_nested_and_the_same_again(criterion: str, prune: Prune) -> None:
    """Two levels down; whatever PyTorch's own random numbers are, and they are left alone."""
    network = resnet8()
    parameters = prunable_parameters(network, "kernels")
    mask = dense_mask(parameters)
    for level in (1, 2):
        deeper = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            state = torch.random.get_rng_state()
            probe = probe_of(network)
            deeper.append(pruned_mask(parameters, mask, prune, level=level, probe=probe))
            assert torch.equal(torch.random.get_rng_state(), state)
        assert same(*deeper)
        assert all(not (kept & ~mask[name]).any() for name, kept in deeper[0].items())
        if prune.structure == "unstructured" and prune.scope == "global":
            assert unpruned(deeper[0]) == unpruned(mask) - round(0.4 * unpruned(mask))
        mask = deeper[0]


@pytest.mark.parametrize("criterion", [c for c in CRITERIA if CRITERIA[c].units != "whole"])
def test_ties_go_by_position(criterion: str) -> None:
    """All weights, inputs and gradients alike: the first ones go."""
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 1, bias=False)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.5)
    probe = Probe(
        network=network,
        example=(torch.zeros(1, 4),),
        loss=lambda net, batch: net(batch).square().mean(),
        batches=lambda: [torch.ones(2, 4, dtype=torch.float64)],
    )
    parameters = {"0.weight": network.get_parameter("0.weight")}
    if criterion == "random":
        return  # nothing is tied
    prune = Prune(fraction=0.3125, criterion=criterion)
    pruned = pruned_mask(parameters, dense_mask(parameters), prune, probe=probe)
    assert pruned["0.weight"].flatten().tolist() == [False] * 5 + [True] * 11


@pytest.mark.parametrize("criterion", [c for c in CRITERIA if CRITERIA[c].needs])
def test_scoring_leaves_the_network_as_it_was(criterion: str) -> None:
    network = resnet8().eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    scores_of(criterion, network)
    assert all(torch.equal(before[n], tensor) for n, tensor in network.state_dict().items())
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(("structure", "scope"), [("unstructured", "global"), ("filters", "layer")])
def test_no_two_criteria_are_one(structure: str, scope: str) -> None:
    """But the mean |w| within a layer, where all filters are of one size, is the L1 norm."""
    network = trained_like(resnet8())
    parameters = prunable_parameters(network, "kernels")
    masks = {
        criterion: pruned_mask(parameters, dense_mask(parameters), prune, probe=probe_of(network))
        for criterion, prune in CASES
        if (prune.structure, prune.scope) == (structure, scope)
    }
    alike = {(a, b) for a, b in combinations(masks, 2) if same(masks[a], masks[b])}
    assert alike <= {("magnitude", "l1_filter")}


# Refusals


@pytest.mark.parametrize("criterion", [c for c in CRITERIA if CRITERIA[c].needs])
def test_what_needs_more_than_it_is_given_is_refused_by_name(criterion: str) -> None:
    network = resnet8()
    parameters = prunable_parameters(network, "kernels")
    mask, prune = dense_mask(parameters), Prune(fraction=0.5, criterion=criterion)
    with pytest.raises(ValueError, match=rf"'{criterion}' needs .*without: magnitude, random"):
        pruned_mask(parameters, mask, prune)
    bare = Probe(network=network, example=one_image((3, 8, 8)))
    if "batches" in CRITERIA[criterion].needs:
        with pytest.raises(ValueError, match=rf"'{criterion}' needs gradients.*synflow"):
            pruned_mask(parameters, mask, prune, probe=bare)
        with pytest.raises(ValueError, match="no training batch"):
            pruned_mask(parameters, mask, prune, probe=probe_of(network, 0))
    else:
        pruned_mask(parameters, mask, prune, probe=bare)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"criterion": "beauty"}, "unknown pruning criterion 'beauty'; known: magnitude, random"),
        ({"criterion": "l1_filter"}, "'unstructured'.*several weights; .*there are: magnitude"),
        ({"criterion": "fpgm", "structure": "filters"}, "scope 'global'.*needs scope layer"),
        ({"criterion": "lamp", "structure": "filters"}, "'filters'.*single weights.*l1_filter"),
        ({"criterion": "lamp", "scope": "layer"}, "scope 'layer'.*needs scope global"),
        (
            {"criterion": "lamp", "structure": "2:4", "fraction": None},
            "'lamp' with scope 'layer'.*for structure '2:4'",
        ),
        ({"rounds": 2}, "rounds is 2 with criterion 'magnitude'.*snip, taylor, synflow, grasp"),
    ],
)
def test_criteria_for_other_prunings_are_refused(changes: dict[str, object], message: str) -> None:
    prune = Prune(**{"fraction": 0.5} | changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        check_prune(prune)


def test_scores_that_are_not_finite_are_refused() -> None:
    """Of a network that has diverged; not finite would be neither large nor small."""
    network = resnet8()
    with torch.no_grad():
        network.get_parameter("conv.weight")[0, 0, 0, 0] = float("nan")
    parameters = prunable_parameters(network, "kernels")
    with pytest.raises(ValueError, match="'magnitude' gives conv scores that are not finite"):
        pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.5))


# Random


def prune_of(structure: str, criterion: str) -> Prune:
    if STRUCTURES[structure].density is not None:
        return Prune(fraction=None, structure=structure, criterion=criterion, layers="stages.*")
    return Prune(fraction=0.3, structure=structure, criterion=criterion)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_random_depends_on_seed_and_level_and_not_on_weights(structure: str) -> None:
    parameters = prunable_parameters(resnet8(), "kernels")
    mask = dense_mask(parameters)
    prune = prune_of(structure, "random")
    pruned = pruned_mask(parameters, mask, prune, seed=3, level=2)
    assert same(pruned, pruned_mask(parameters, mask, prune, seed=3, level=2))
    assert not same(pruned, pruned_mask(parameters, mask, prune, seed=4, level=2))
    assert not same(pruned, pruned_mask(parameters, mask, prune, seed=3, level=1))
    others = {name: nn.Parameter(torch.randn_like(p)) for name, p in parameters.items()}
    assert same(pruned, pruned_mask(others, mask, prune, seed=3, level=2))


def test_random_takes_the_same_share_everywhere() -> None:
    """Of weights, and of filters whatever their size, within four standard deviations."""
    parameters = {
        "small.weight": nn.Parameter(torch.ones(2000, 1, 1, 1)),
        "large.weight": nn.Parameter(torch.ones(2000, 8, 3, 3)),
    }
    mask = dense_mask(parameters)
    filters = pruned_mask(parameters, mask, prune_of("filters", "random"))
    weights = pruned_mask(parameters, mask, prune_of("unstructured", "random"))
    for kept in (*(layer[:, 0, 0, 0] for layer in filters.values()), weights["large.weight"]):
        deviation = (0.3 * 0.7 / kept.numel()) ** 0.5
        assert float(kept.float().mean()) == pytest.approx(0.7, abs=4 * deviation + 0.01)
    assert unpruned(weights) == unpruned(mask) - round(0.3 * unpruned(mask))


# Gradients of single weights


def gradients_by_backward(network: nn.Module, batch: Batch) -> dict[str, np.ndarray]:
    """Of another copy, in training, by backward()."""
    other = resnet8()
    other.load_state_dict(network.state_dict())
    cross_entropy(other.train(), batch).backward()
    return {
        name: parameter.grad.numpy()
        for name, parameter in prunable_parameters(other, "kernels").items()
        if parameter.grad is not None
    }


def test_snip_removes_the_least_gradient_times_weight() -> None:
    """Over all layers together, of one batch however many there are."""
    network = resnet8()
    parameters = prunable_parameters(network, "kernels")
    gradients = gradients_by_backward(network, batches(1)[0])
    products = {n: abs(g * parameters[n].detach().numpy()) for n, g in gradients.items()}
    flat = np.concatenate([product.ravel() for product in products.values()])
    expected = np.ones(len(flat), dtype=bool)
    expected[np.argsort(flat, kind="stable")[: round(0.6 * len(flat))]] = False

    pruned = pruned_mask(
        parameters,
        dense_mask(parameters),
        Prune(fraction=0.6, criterion="snip"),
        probe=probe_of(network, 3),
    )

    found = np.concatenate([kept.numpy().ravel() for kept in pruned.values()])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("structure", ["unstructured", "filters"])
def test_taylor_sums_squares_of_gradient_times_weight(structure: str) -> None:
    """Over ten batches and, of filters, over their weights; in loops over filters in numpy."""
    network = resnet8()
    parameters = prunable_parameters(network, "convolutions")
    of_weights = {name: np.zeros(p.shape) for name, p in parameters.items()}
    for batch in batches(TAYLOR_BATCHES):
        for name, gradient in gradients_by_backward(network, batch).items():
            if name in of_weights:
                of_weights[name] += (gradient * parameters[name].detach().numpy()) ** 2
    prune = Prune(fraction=0.3, criterion="taylor", structure=structure, scope="layer")
    pruned = pruned_mask(
        parameters, dense_mask(parameters), prune, probe=probe_of(network, TAYLOR_BATCHES + 2)
    )
    for name, kept in pruned.items():
        expected = np.ones(kept.shape, dtype=bool)
        if structure == "filters":
            sums = [one.sum() for one in of_weights[name]]
            expected[np.argsort(sums, kind="stable")[: -(-3 * len(sums) // 10)]] = False
        else:
            order = np.argsort(of_weights[name].ravel(), kind="stable")
            expected.ravel()[order[: round(0.3 * expected.size)]] = False
        np.testing.assert_array_equal(kept.numpy(), expected, err_msg=name)


# Filters

IMPORTANCES: dict[str, tp.importance.Importance] = {
    "l1_filter": tp.importance.MagnitudeImportance(p=1, group_reduction="first", normalizer=None),
    "l2_filter": tp.importance.MagnitudeImportance(p=2, group_reduction="first", normalizer=None),
    "fpgm": tp.importance.FPGMImportance(p=1, group_reduction="first", normalizer=None),
}
"""Those of torch-pruning; of FPGM the p-th power of |w| is compared there, so weights are
positive in the test. Its L2 norms aren't rooted, which changes no order."""


@pytest.mark.parametrize("criterion", IMPORTANCES)
def test_filters_go_in_the_order_of_torch_pruning(criterion: str) -> None:
    network = resnet8()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    graph = tp.DependencyGraph().build_dependency(network, one_image((3, 8, 8))[0], verbose=False)
    parameters = prunable_parameters(network, "convolutions")
    prune = Prune(fraction=0.5, criterion=criterion, structure="filters", scope="layer")
    pruned = pruned_mask(parameters, dense_mask(parameters), prune)
    for name, kept in pruned.items():
        module = network.get_submodule(name.removesuffix(".weight"))
        group = graph.get_pruning_group(module, tp.prune_conv_out_channels, list(range(len(kept))))
        importance = IMPORTANCES[criterion](group)
        expected = torch.ones(len(kept), dtype=torch.bool)
        expected[importance.argsort(stable=True)[: len(kept) // 2]] = False
        assert torch.equal(kept.flatten(1).all(dim=1), expected), name
        assert torch.equal(kept.flatten(1).any(dim=1), expected), name


@pytest.mark.parametrize(("criterion", "power"), [("l1_filter", 1), ("l2_filter", 2)])
def test_norms_over_all_layers(criterion: str, power: int) -> None:
    """Large filters are safe by their size, unlike with their mean; dense inputs are units too."""
    network = resnet8()
    parameters = prunable_parameters(network, "kernels")
    prune = Prune(fraction=0.3, criterion=criterion, structure="filters")
    pruned = pruned_mask(parameters, dense_mask(parameters), prune)
    units = []
    for place, (name, parameter) in enumerate(parameters.items()):
        weight = parameter.detach().numpy()
        for number in range(weight.shape[0 if weight.ndim == 4 else 1]):
            unit = weight[number] if weight.ndim == 4 else weight[:, number]
            norm = float((abs(unit.astype(float)) ** power).sum() ** (1 / power))
            units.append((norm, place, number, name, unit.size))
    left = round(0.3 * sum(p.numel() for p in parameters.values()))
    expected = {name: np.ones(p.shape, dtype=bool) for name, p in parameters.items()}
    for _, _, number, name, size in sorted(units):
        left -= size
        if left < 0:
            break
        kept = expected[name]
        kept[number if kept.ndim == 4 else (slice(None), number)] = False
    for name, kept in pruned.items():
        np.testing.assert_array_equal(kept.numpy(), expected[name], err_msg=name)


def test_fpgm_sums_distances_to_the_filters_that_are_left() -> None:
    """In loops; a filter that is gone is no neighbour."""
    network = resnet8()
    mask = dense_mask(prunable_parameters(network, "kernels"))
    name = "stages.0.0.conv1.weight"
    mask[name][[0, 5]] = False
    found = scores_of("fpgm", network, mask, "filters")[name]
    weight = network.get_parameter(name).detach().numpy().astype(float)
    left = [number for number in range(len(weight)) if number not in (0, 5)]
    for one in left:
        expected = sum(float(np.sqrt(((weight[one] - weight[o]) ** 2).sum())) for o in left)
        np.testing.assert_allclose(found[one].numpy(), expected, rtol=1e-12)


def test_fpgm_keeps_one_of_two_twins_over_an_outlier_of_small_norm() -> None:
    """What the geometric median is for: smallness is no reason, replaceability is."""
    filters = torch.tensor([[4.0, 4], [4, 4.1], [4.1, 4], [0.1, 0.1]]).view(4, 2, 1, 1)
    parameters = {"conv.weight": nn.Parameter(filters)}
    settings = {"fraction": 0.25, "structure": "filters", "scope": "layer"}
    kept = {
        criterion: pruned_mask(
            parameters, dense_mask(parameters), Prune(criterion=criterion, **settings)
        )["conv.weight"][:, 0, 0, 0].tolist()
        for criterion in ("fpgm", "l2_filter")
    }
    assert kept["fpgm"] == [False, True, True, True]
    assert kept["l2_filter"] == [True, True, True, False]


# LAMP


def lamp_in_loops(weight: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Of each weight that is left, by comparing it with each other one."""
    flat = weight.astype(float).ravel()
    places = [i for i in range(len(flat)) if kept.ravel()[i]]
    scores = np.zeros(len(flat))
    for i in places:
        larger = [j for j in places if (abs(flat[j]), j) >= (abs(flat[i]), i)]
        scores[i] = flat[i] ** 2 / sum(flat[j] ** 2 for j in larger)
    return scores.reshape(weight.shape)


def test_lamp_divides_by_all_that_is_no_smaller() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():  # ties, and one weight gone
        network[0].weight[0] = network[0].weight[1]
    mask = dense_mask(prunable_parameters(network, "kernels"))
    mask["0.weight"][2, 0, 0, 0] = False
    found = scores_of("lamp", network, mask)
    for name, score in found.items():
        weight = network.get_parameter(name).detach().numpy()
        expected = lamp_in_loops(weight, mask[name].numpy())
        kept = mask[name].numpy()
        np.testing.assert_allclose(score.numpy()[kept], expected[kept], rtol=1e-9)
        assert float(score.max()) == 1
    lamp = tp.importance.LAMPImportance(group_reduction="first")
    squares = network[2].weight.detach().square()
    torch.testing.assert_close(lamp._lamp(squares.clone()), found["2.weight"].float())


def test_lamp_takes_no_layer_away_before_the_last_weights() -> None:
    """However small the layer's weights; magnitude takes it at once."""
    generator = torch.Generator().manual_seed(0)
    parameters = {
        f"{n}.weight": nn.Parameter(torch.randn(20, generator=generator) * scale)
        for n, scale in enumerate((1e-6, 1.0, 1e6))
    }
    for fraction in (0.3, 0.6, 0.9, 0.95):
        prune = Prune(fraction=fraction, criterion="lamp")
        pruned = pruned_mask(parameters, dense_mask(parameters), prune)
        assert all(kept.any() for kept in pruned.values())
        by_magnitude = pruned_mask(parameters, dense_mask(parameters), Prune(fraction=fraction))
        assert fraction < 1 / 3 or not by_magnitude["0.weight"].any()


# SynFlow


def paths_through(weights: list[np.ndarray]) -> list[np.ndarray]:
    """Sum, over all paths from any input to any output that use a weight, of the products of all
    |w| along them; path by path."""
    sizes = [weights[0].shape[1], *(w.shape[0] for w in weights)]
    flows = [np.zeros(w.shape) for w in weights]
    for path in np.ndindex(*sizes):
        steps = [(path[i + 1], path[i]) for i in range(len(weights))]
        product = np.prod([abs(float(w[step])) for w, step in zip(weights, steps, strict=True)])
        for flow, step in zip(flows, steps, strict=True):
            flow[step] += product
    return flows


def test_synflow_counts_paths() -> None:
    """Biases and signs don't matter, and ReLU passes everything on."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 3))
    probe = Probe(network=network, example=(torch.randn(1, 3),))
    found = scores_of("synflow", network, probe=probe)
    expected = paths_through([network[i].weight.detach().numpy() for i in (0, 2, 4)])
    for score, flow in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(score.numpy(), flow, rtol=1e-6)


def trained_like(network: nn.Module) -> nn.Module:
    """With BatchNorm as it is after training: other scales, shifts, means and variances."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.weight.normal_()
                module.bias.normal_()
                module.running_mean.normal_()
                module.running_var.uniform_(0.1, 2)
    return network


def test_what_flows_in_flows_out() -> None:
    """Tanaka et al. 2020, theorems 1 and 2: the scores of each layer that all paths cross have one
    sum, and those into a channel the sum of those out of it."""
    network = trained_like(build_network("vgg8", 10, 3, {}))
    probe = Probe(network=network, example=one_image((3, 32, 32)))
    found = scores_of("synflow", network, probe=probe)
    sums = [float(score.sum()) for score in found.values()]
    assert len(sums) == 8
    np.testing.assert_allclose(sums, sums[0], rtol=1e-9)
    kernels = list(found.values())
    for one, following in pairwise(kernels):
        into, out_of = one.flatten(1).sum(1), following.transpose(0, 1).flatten(1).sum(1)
        torch.testing.assert_close(into, out_of)


def test_synflow_needs_no_data_and_keeps_its_range() -> None:
    """ResNet-110's products leave float32."""
    network = build_network("resnet110", 10, 3, {})
    initialise_(network, 0)
    probe = Probe(network=network, example=one_image((3, 8, 8)))
    scores = scores_of("synflow", network, probe=probe)
    assert all(score.isfinite().all() and (score > 0).any() for score in scores.values())
    assert max(float(score.max()) for score in scores.values()) > torch.finfo(torch.float32).max


def test_rounds_go_down_exponentially_and_spare_layers() -> None:
    """Algorithm 1 of Tanaka et al. 2020 in numpy, by its paths; one round collapses a layer that
    100 rounds don't (their figure 1)."""
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Linear(20, 20, bias=False), nn.Linear(20, 20, bias=False), nn.Linear(20, 2, bias=False)
    )
    parameters = prunable_parameters(network, "kernels")
    probe = Probe(network=network, example=(torch.zeros(1, 20),))
    total = sum(p.numel() for p in parameters.values())
    for rounds in (1, 3, 20):
        prune = Prune(fraction=0.9, criterion="synflow", rounds=rounds)
        pruned = pruned_mask(parameters, dense_mask(parameters), prune, probe=probe)

        weights = [abs(p.detach().numpy().astype(float)) for p in parameters.values()]
        kept = np.ones(total, dtype=bool)
        for number in range(1, rounds + 1):
            first, second, third = weights
            into, out_of = first.sum(1), third.sum(0)
            flows = [
                first * (out_of @ second)[:, None],
                second * np.outer(out_of, into),
                third * (second @ into)[None, :],
            ]
            flat = np.concatenate([flow.ravel() for flow in flows])
            flat[~kept] = np.inf
            leave = total - round((1 - 0.1 ** (number / rounds)) * total)
            kept[np.argsort(flat, kind="stable")[: kept.sum() - leave]] = False
            cuts = np.cumsum([w.size for w in weights])[:-1]
            weights = [
                w * part.reshape(w.shape)
                for w, part in zip(weights, np.split(kept, cuts), strict=True)
            ]
        found = np.concatenate([mask.numpy().ravel() for mask in pruned.values()])
        assert found.sum() == total - round(0.9 * total)
        np.testing.assert_array_equal(found, kept)


# GraSP


def tiny_float64() -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    return network, (torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 0, 2]))


def gradient_norm(network: nn.Module, batch: Batch) -> float:
    """Squared, over the kernels."""
    gradients = torch.autograd.grad(
        cross_entropy(network, batch), list(prunable_parameters(network, "kernels").values())
    )
    return float(sum(g.square().sum() for g in gradients))


def test_grasp_is_the_slope_of_the_gradients_norm() -> None:
    """By finite differences: H g is half the gradient of g * g, weight by weight."""
    network, batch = tiny_float64()
    probe = Probe(
        network=network, example=(torch.zeros(1, 3),), loss=cross_entropy, batches=lambda: [batch]
    )
    found = scores_of("grasp", network, probe=probe)
    step = 1e-6
    for name, parameter in prunable_parameters(network, "kernels").items():
        weight = parameter.data
        for place in np.ndindex(*weight.shape):
            before = float(weight[place])
            norms = []
            for change in (step, -step):
                weight[place] = before + change
                norms.append(gradient_norm(network, batch))
            weight[place] = before
            slope = (norms[0] - norms[1]) / (2 * step)
            assert float(found[name][place]) == pytest.approx(before * slope / 2, abs=1e-8)


def test_grasp_removes_first_what_adds_to_the_gradients_norm() -> None:
    """The sign: scaling down a little what it keeps least of leaves a larger gradient than scaling
    down what it keeps most of (Wang et al. 2020, §4.1)."""
    network, batch = tiny_float64()
    probe = Probe(
        network=network, example=(torch.zeros(1, 3),), loss=cross_entropy, batches=lambda: [batch]
    )
    parameters = prunable_parameters(network, "kernels")
    prune = Prune(fraction=0.5, criterion="grasp")
    kept = pruned_mask(parameters, dense_mask(parameters), prune, probe=probe)
    norms = {}
    for what in (True, False):
        other = copy.deepcopy(network)
        with torch.no_grad():
            for name, parameter in prunable_parameters(other, "kernels").items():
                parameter[kept[name] == what] *= 0.999
        norms[what] = gradient_norm(other, batch)
    assert norms[False] > gradient_norm(network, batch) > norms[True]


def test_gradients_of_several_batches_are_those_of_their_mean() -> None:
    """Of equal batches as one: g, and H g where BatchNorm doesn't mix examples."""
    network, (inputs, labels) = tiny_float64()
    halves = [(inputs[:2], labels[:2]), (inputs[2:4], labels[2:4])]
    one, two = (
        Probe(
            network=network,
            example=(inputs[:1],),
            loss=cross_entropy,
            batches=partial(list, given),
        )
        for given in ([(inputs[:4], labels[:4])], halves)
    )
    names = ["0.weight", "2.weight"]
    calls: list[Callable[[Probe], Scores]] = [
        lambda probe: probe.mean_gradients(names, 2),
        lambda probe: probe.hessian_gradients(names, 2),
    ]
    for call in calls:
        for a, b in zip(call(one).values(), call(two).values(), strict=True):
            torch.testing.assert_close(a, b)


def test_parameters_the_loss_doesnt_use_have_no_importance() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Linear(3, 3)
            self.idle = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.used(x))

    network = Idle()
    network.used.weight.requires_grad_(False)  # frozen, and scored all the same
    batch = (torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    probe = Probe(
        network=network, example=(batch[0][:1],), loss=cross_entropy, batches=lambda: [batch]
    )
    for criterion in ("snip", "taylor", "grasp", "synflow"):
        scores = scores_of(criterion, network, probe=probe)
        assert scores["used.weight"].any() and not scores["idle.weight"].any()
    assert not network.used.weight.requires_grad


def test_a_probes_mask_is_of_a_copy() -> None:
    network = resnet8()
    before = network.get_parameter("conv.weight").detach().clone()
    kept = torch.zeros_like(before, dtype=torch.bool)
    masked = probe_of(network).masked({"conv.weight": kept})
    assert not masked.network.get_parameter("conv.weight").any()
    assert torch.equal(network.get_parameter("conv.weight"), before)
