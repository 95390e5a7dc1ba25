"""The recipes of Renda et al. 2020 against the trials that they published, point by point."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis.reference import published
from rewind_ray.network_options import options_of
from rewind_ray.protocols import renda_cifar, renda_gnmt, renda_imagenet
from rewind_ray.task_options import TASK_OPTIONS
from sweeps import renda2020
from sweeps.algorithm1 import Algorithm, algorithm1
from sweeps.options import Options

PAGE = Path(__file__).parents[2] / "docs" / "protocols" / "renda2020.md"
Points = set[tuple[str, str, int, int]]
"""(schedule kind, method, retraining time, level)"""
CIFAR = ("resnet20", "resnet56", "resnet110")


def stages_of(figure, network):
    recipe = renda2020.FIGURES[figure]
    return list(renda2020.renda2020(recipe, (network,), Options(), range(1)))


def level_of(density: float) -> int:
    """k of 0.8^k."""
    level = round(math.log(density) / math.log(0.8))
    assert 0.8**level == pytest.approx(density, rel=1e-3, abs=5e-5)  # published to 4 digits
    return level


def recipe_points(figure: str, network: str, structure: str) -> Points:
    found = set()
    for end in stages_of(figure, network):
        for stage in end.chain[1:] if end.level > 1 else [end]:
            if stage.prune is None or stage.prune.structure != structure:
                continue
            kind = "iterative" if end.level > 1 else "one-shot"
            size = stage.level
            if structure == "filters":
                size = stage.prune.power
            elif kind == "one-shot":
                size = round(
                    -sum(0.8**k > 1.001 * (1 - stage.prune.fraction) for k in range(1, 40))
                )
                size = 1 - size
            found.add((kind, stage.method, stage.retrain.epochs, size))
    return found


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    rows = published("renda2020")
    return rows[rows["level"] > 0]


def published_points(trials: pd.DataFrame, network: str, kind: str) -> Points:
    """Unstructured ones; sizes k of density 0.8^k."""
    rows = trials[(trials["network"] == network) & (trials["structure"] == "unstructured")]
    rows = rows[rows["schedule_kind"] == kind]
    found = set()
    for row in rows.itertuples():
        found.add((kind, row.method, int(row.retrain_epochs), level_of(row.density)))
    return found


@pytest.mark.parametrize("network", [*CIFAR, "resnet50", "gnmt"])
def test_unstructured_points_of_figure_9_are_the_published(
    network: str, trials: pd.DataFrame
) -> None:
    """Every published (method, t, density), one-shot and iterative, and no other."""
    ours = recipe_points("fig9", network, "unstructured")
    for kind in ("one-shot", "iterative"):
        theirs = published_points(trials, network, kind)
        assert theirs
        assert {point for point in ours if point[0] == kind} == theirs


@pytest.mark.parametrize("figure", ["fig1", "fig2", "fig3", "fig5", "fig6", "fig7", "fig8"])
@pytest.mark.parametrize("network", ["resnet56", "resnet50", "gnmt"])
def test_points_of_the_other_figures_are_among_them(
    figure: str, network: str, trials: pd.DataFrame
) -> None:
    ours = recipe_points(figure, network, "unstructured")
    theirs = published_points(trials, network, "one-shot")
    theirs |= published_points(trials, network, "iterative")
    assert ours
    assert ours <= theirs


@pytest.mark.parametrize("network", ["resnet56", "resnet110", "resnet34"])
def test_filters_of_figure_10_are_the_published_in_number(
    network: str, trials: pd.DataFrame
) -> None:
    """Two tables of rates, five levels, ten times, all methods."""
    rows = trials[(trials["network"] == network) & (trials["structure"] == "filters")]
    points = rows[["method", "retrain_epochs", "density"]].drop_duplicates()
    ends = [end for end in stages_of("fig10", network) if end.level]
    assert len(ends) == len(points)
    of_method = points.groupby(["method", "retrain_epochs"]).size()
    for (method, epochs), count in of_method.items():
        alike = [e for e in ends if (e.method, e.retrain.epochs) == (method, epochs)]
        assert len(alike) == count == 2 * 5
    assert all(end.prune.filters_only and not end.prune.shrink for end in ends)


@pytest.mark.parametrize(
    ("network", "total", "longest"),
    [("resnet56", 182, 150), ("resnet50", 90, 81), ("gnmt", 10, 9)],
)
def test_figure_6_rewinds_weights_for_the_longest_tried_time_up_to_90_percent(
    network: str, total: int, longest: int
) -> None:
    times = {
        stage.method: stage.retrain.epochs
        for end in stages_of("fig6", network)
        for stage in end.chain[1:]
    }
    assert times == {"weight_rewind": longest, "lr_rewind": total, "finetune": total}
    assert longest <= 0.9 * total


@pytest.mark.parametrize("network", ["resnet56", "resnet50", "gnmt"])
def test_algorithm_1_shares_its_stages_with_figures_5_and_6(network: str) -> None:
    protocol = renda2020.protocol_of(network)
    chain = algorithm1(protocol, protocol, Algorithm(target_compression=9.0), 0).chain
    assert len(chain) > 5
    ids = [stage.stage_id for stage in chain]
    (fifth,) = (end for end in stages_of("fig5", network) if end.level)
    assert [stage.stage_id for stage in fifth.chain][: len(ids)] == ids
    sixth = {stage.stage_id for end in stages_of("fig6", network) for stage in end.chain}
    assert set(ids) <= sixth


def test_algorithm_1_of_fresh_weights_restores_no_momentum() -> None:
    protocol = renda_cifar("resnet20")
    end = algorithm1(protocol, protocol, Algorithm(method="reinit", target_compression=2.0), 0)
    assert not end.retrain.restore_momentum


def values_on_the_page(protocol: str) -> dict[str, object]:
    """What the table of a protocol has as `name=value`."""
    section = PAGE.read_text().split(f"## `{protocol}`")[1].split("\n## ")[0]
    column = "\n".join(line.rsplit("|", 2)[1] for line in section.splitlines() if "|" in line)
    found = re.findall(r"`(\w+)=([^`]+)`", column)
    return {name: ast.literal_eval(value) for name, value in found if name != "padding"}


@pytest.mark.parametrize(
    ("make", "network"),
    [
        *((renda_cifar, network) for network in CIFAR),
        (renda_imagenet, "resnet34"),
        (renda_imagenet, "resnet50"),
        (renda_gnmt, "gnmt"),
    ],
)
def test_protocols_are_what_their_page_says(make, network: str) -> None:
    protocol = make(network)
    options = protocol.optimizer_settings | dict(protocol.network_options)
    options |= dict(protocol.task_options)
    page = values_on_the_page(make.__name__)
    if network == "resnet50":
        page.pop("first_projection")
    assert len(page) > 12
    defaults = options_of(network) | TASK_OPTIONS[protocol.task]
    for name, value in page.items():
        known = defaults | options
        trained = known[name] if name in known else getattr(protocol, name)
        assert trained == value, name
    assert options.keys() <= page.keys()


def test_every_recipe_is_on_the_page() -> None:
    table = PAGE.read_text().split("\n## The recipes")[1].split("\n## ")[0]
    first_column = " ".join(line.split("|")[1] for line in table.splitlines() if "|" in line)
    named = set(re.findall(r"fig\d+|table1|algorithm1", first_column))
    assert named == {*renda2020.FIGURES, "algorithm1"}
