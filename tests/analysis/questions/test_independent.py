"""What the commands print about Renda et al.'s trials, against the same computed once more."""

from math import isnan, log

import pytest

from analysis.questions.claims import judge
from analysis.questions.compare import compare
from analysis.questions.headline import NO_DROP, SMALL_DROP, headlines
from analysis.reference import published
from tests.analysis.questions import independent_verdicts as independent


@pytest.fixture(scope="module")
def rows():
    return published("renda2020")


@pytest.fixture(scope="module")
def cells():
    return independent.load()


def key_of(line, variant):
    """(network, technique, iterative), as independent_verdicts names them."""
    technique = f"Structured-{variant[-1]}" if line.structure == "filters" else "Unstructured"
    return line.network, technique, line.schedule_kind == "iterative"


def test_every_verdict(rows, cells):
    expected = independent.claims(cells, independent.dense())
    verdicts, _ = judge(rows)
    found = {
        (line.claim, *key_of(line, line.variant), line.method, line.method_other): line
        for line in verdicts.itertuples()
    }
    assert len(found) == len(verdicts) == 116 and set(found) == set(expected)
    assert {key: line.verdict for key, line in found.items()} == {
        key: verdict for key, (verdict, _) in expected.items()
    }
    for key, line in found.items():
        assert line.difference == pytest.approx(expected[key][1], abs=1e-12)


def test_every_verdict_on_miklers_points():
    expected = independent.mikler_claims(independent.mikler_points())
    verdicts, _ = judge(published("mikler2022"))
    figures = verdicts[verdicts["network"] != "resnet110"]  # which is in a table only
    names = {"resnet20": "ResNet-20", "resnet56": "ResNet-56", "wrn_16_8": "WRN-16-8"}
    found = {}
    for line in figures.itertuples():
        structure = "structured" if line.structure == "filters" else line.structure
        step = "" if isnan(line.step) else f"{line.step:g}"
        data = line.dataset.upper().replace("CIFAR", "CIFAR-")
        place = (names[line.network], data, structure, line.schedule_kind, step)
        found[(line.claim, *place, line.method, line.method_other)] = line
    assert len(found) == len(figures) == 34 and set(found) == set(expected)
    for key, line in found.items():
        assert (line.verdict, line.difference) == (
            expected[key][0],
            pytest.approx(expected[key][1], abs=1e-6),
        )
    alone = verdicts[verdicts["network"] == "resnet110"]
    assert len(alone) == 5 and set(alone["verdict"]) == {"not decided"}


def test_every_headline(rows, cells):
    expected = independent.headlines(cells, independent.dense())
    lines = headlines(rows, (NO_DROP, SMALL_DROP))
    found = {
        (*key_of(line, line.variant), line.method, line.max_drop): line.compression_ratio
        for line in lines.itertuples()
    }
    assert len(found) == len(lines) == 148 and set(found) == set(expected)
    for key, ratio in found.items():
        # levels differ in the fifth digit; a curve that never stays within the drop has none
        assert isnan(ratio) if isnan(expected[key]) else ratio == pytest.approx(expected[key], 1e-3)


def test_every_comparison(rows, cells):
    single, together = independent.comparisons(cells)
    compared = compare(rows)
    levels = {key[:4] for key in single}
    found = {}
    for line in compared.scenarios.itertuples():
        key = key_of(line, line.setting)
        level = round(log(line.density) / log(0.8))
        if not key[2]:
            among = [each[3] for each in levels if each[:3] == key]
            level = min(among, key=lambda each: abs(each + line.density))
        found[(*key, level, line.a, line.b)] = line
    assert len(found) == len(compared.scenarios) == 1352 and set(found) == set(single)
    for key, line in found.items():
        assert (line.difference, line.p) == pytest.approx(single[key], rel=1e-6, abs=1e-12)
    shown = independent.holm([single[key][1] for key in found])
    assert [line.better != "" for line in found.values()] == shown
    overall = {
        (line.a, line.b, line.metric, line.design == "paired"): line
        for line in compared.overall.itertuples()
    }
    assert len(overall) == len(compared.overall) == 26 and set(overall) == set(together)
    for key, line in overall.items():
        assert (line.difference, line.p, line.n_a) == pytest.approx(together[key], rel=1e-6)
