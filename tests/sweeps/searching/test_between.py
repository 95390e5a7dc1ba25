"""The verdict on what is between the rewindings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.graph_scale import ROW
from rewind_ray.spec import dense_stage
from rewind_ray.store.ledger import Ledger
from sweeps.between_rewindings import Between, between_rewindings, rows_by_condition
from sweeps.plan.graph import build_graph
from sweeps.searching.between import Condition, draw_between, judge, verdict_lines, words_of
from tests.sweeps.running import run, tiny_protocol

PLACE = Condition(schedule_kind="one-shot", size=0.1, retrain_epochs=8)


def rows(**accuracies):
    """a00=[...]: of alpha 0.0, validation and test accuracy of seeds 0, 1, ..."""
    return {
        int(name[1:]) / 10: {
            seed: replace(ROW, seed=seed, val_accuracy=value, test_accuracy=value)
            for seed, value in enumerate(values)
        }
        for name, values in accuracies.items()
    }


def test_better_than_both_has_to_be_shown_against_each():
    low = [0.80, 0.81, 0.79, 0.82, 0.80, 0.81, 0.80]
    mixed = [0.85, 0.90, 0.84, 0.91, 0.86, 0.85, 0.91]
    best = [0.88, 0.89, 0.88, 0.90, 0.88, 0.89, 0.88]
    found = judge([rows(a00=low, a05=best, a10=mixed)])
    expected = [stats.ttest_rel(best, end).pvalue for end in (low, mixed)]
    assert [end.p for end in found.against] == pytest.approx(expected)
    assert found.p == pytest.approx(max(expected)) and found.p > 0.05
    assert "no difference shown" in words_of(found, found.p, 1)
    clear = judge([rows(a00=low, a05=best, a10=low)])
    assert clear.p == pytest.approx(expected[0])
    assert "better than both ends" in words_of(clear, clear.p, 1)
    assert judge([rows(a00=best, a05=low, a10=low)]).p == 1.0


def test_inside_the_margin_of_both_is_equivalent():
    ends = [0.80, 0.81, 0.79, 0.82, 0.80]
    between = [0.801, 0.811, 0.789, 0.8195, 0.8]
    place = rows(a00=ends, a05=between, a10=ends)
    assert "equivalent to both ends within 0.5 points" in verdict_lines({PLACE: place})[-1]
    assert "no difference shown" in verdict_lines({PLACE: place}, 0.0001)[-1]


def test_validation_chooses_alpha_and_the_test_set_judges():
    place = rows(a00=[0.8] * 6, a02=[0.9] * 6, a07=[0.7] * 6, a10=[0.8] * 6)
    place[0.7] = {s: replace(row, val_accuracy=0.99) for s, row in place[0.7].items()}
    found = judge([place])
    assert found.chosen == (0.7,)
    assert [end.difference for end in found.against] == pytest.approx([-0.1, -0.1])
    assert "worse than weight rewinding and learning-rate rewinding" in words_of(found, 1.0, 1)


def test_what_few_seeds_could_not_show_is_named():
    place = rows(a00=[0.80, 0.82, 0.81], a05=[0.83, 0.82, 0.80], a10=[0.80, 0.82, 0.81])
    lines = verdict_lines({PLACE: place})
    needed = judge([place]).against[0].seeds_needed
    assert needed > 3 and f"0.5 points would take about {needed:.0f} seeds" in lines[-1]
    alone = rows(a00=[0.8], a05=[0.9], a10=[0.8])
    assert "one seed can show none" in verdict_lines({PLACE: alone})[-1]


def test_places_are_averaged_seed_by_seed():
    one = rows(a00=[0.8, 0.8], a05=[0.9, 0.7], a10=[0.8, 0.8])
    two = rows(a00=[0.5, 0.5], a05=[0.5, 0.7], a10=[0.4, 0.4])
    found = judge([one, two])
    assert found.against[0].difference == pytest.approx(np.mean([0.1, -0.1, 0.0, 0.2]))
    assert found.against[1].difference == pytest.approx(np.mean([0.1, -0.1, 0.1, 0.3]))
    assert found.n_seeds == 2 and found.chosen == (0.5, 0.5)


def test_without_an_end_or_anything_between_there_is_no_verdict():
    assert judge([rows(a00=[0.8], a10=[0.8])]) is None
    assert judge([rows(a00=[0.8], a05=[0.8])]) is None
    assert judge([rows(a00=[0.8], a05=[], a10=[0.8])]) is None
    assert "no verdict" in verdict_lines({PLACE: rows(a00=[0.8], a10=[0.8])})[0]


def test_the_ends_are_the_rewindings_and_all_share_a_baseline(tmp_path):
    protocol = tiny_protocol()
    between = Between(alphas=(0.5,), shares=(0.5,), densities=(0.2,), fractions=(0.5,))
    ends = list(between_rewindings(protocol, between, seed=0))
    methods = {alpha: stage.method for _, alpha, stage in ends}
    assert methods == {0.0: "weight_rewind", 0.5: "blend", 1.0: "lr_rewind"}
    assert len(ends) == 6 and {stage.baseline.stage_id for *_, stage in ends} == {
        dense_stage(protocol, 0).stage_id
    }
    steps = {stage.level for place, _, stage in ends if place.schedule_kind == "iterative"}
    assert steps == {4} and len(build_graph(stage for *_, stage in ends)) == 1 + 3 * (1 + 4)
    empty = rows_by_condition(ends, Ledger(str(tmp_path)))
    assert all(not found for place in empty.values() for found in place.values())


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"alphas": (0.0, 0.5)}, "--alphas is 0"),
        ({"alphas": ()}, "--alphas is empty"),
        ({"shares": (1.5,)}, "--shares"),
        ({"densities": (), "fractions": ()}, "nothing is pruned"),
        ({"margin": "5"}, "0.5pt"),
    ],
)
def test_wrong_settings_are_refused(settings, wrong):
    with pytest.raises(ValueError, match=wrong):
        Between(**settings)


def test_the_figure_is_drawn(tmp_path):
    other = replace(PLACE, schedule_kind="iterative", size=0.5)
    place = rows(a00=[0.8, 0.82], a05=[0.9, 0.91], a10=[0.8, 0.84])
    draw_between({PLACE: place, other: place}, tmp_path / "alpha.png")
    assert (tmp_path / "alpha.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_command_ends_with_figure_and_verdict(storage):
    result = run(
        *("sweeps.between_rewindings", "--smoke", "--seeds", "1", "--alphas", "0.5"),
        *("--dataset", "digits", "--network", "digits_resnet", "--protocol", "digits"),
        *("--densities", "0.2", "--fractions", "0.5", "--shares", "0.5"),
        *("--target-compression", "4", "--storage", str(storage)),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert (storage / "figures/between_rewindings-smoke-alpha.png").stat().st_size > 10_000
    assert "2 comparisons together: no difference shown" in result.stdout
    assert "one seed can show none" in result.stdout
