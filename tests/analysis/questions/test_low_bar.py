from pathlib import Path

import pytest

from analysis.questions.low_bar import OF_PAPERS, far_above_dense, low_bar_texts
from analysis.reference import PUBLISHED, published
from analysis.report.blocks import Words
from analysis.report.material import gather
from analysis.report.summary import summary
from analysis.table.points import points_of
from analysis.table.rows import read_rows

OURS = str(Path(__file__).parents[3] / "docs/found/rows.csv")
"""A ResNet-8 that was trained for 8 epochs."""


def test_published_dense_networks_are_no_low_bar() -> None:
    gains = []
    for paper in PUBLISHED:
        points = points_of(published(paper))
        assert low_bar_texts(points) == []
        gains.append(points["accuracy_change"].max())
    assert max(gains) == pytest.approx(OF_PAPERS)


def test_our_briefly_trained_ones_are() -> None:
    points = points_of(read_rows(OURS))
    far = far_above_dense(points)
    assert far["accuracy_change"].tolist() == [points["accuracy_change"].max()]
    assert ": llr at 3.68× is 4.25 points above its dense networks" in low_bar_texts(points)[0]


def test_of_many_panels_the_worst_are_named() -> None:
    points = points_of(read_rows(OURS))
    many = [points.assign(network=f"net{i}") for i in range(5)]
    many[3] = many[3].assign(accuracy_change=many[3]["accuracy_change"] + 0.01)
    rows = [row for part in many for row in part.to_dict("records")]
    texts = low_bar_texts(type(points)(rows))
    assert len(texts) == 4
    assert texts[0].startswith("net3") and "5.25 points" in texts[0]
    assert texts[-1] == "The same goes for 2 more."


def test_the_report_warns_below_its_lead() -> None:
    blocks = [block for block in summary(gather(OURS)).blocks if isinstance(block, Words)]
    lead, warning = blocks[:2]
    assert (lead.kind, warning.kind) == ("lead", "warning")
    assert warning.text.startswith("resnet8 · c10: LLR at 3.68× is 4.25 points above")
