"""What the commands, figures and the report call the accuracies and spreads that they show."""

import pytest

from analysis.commands.headline import headline_command
from analysis.commands.pareto import pareto_command
from analysis.commands.search_cost import search_cost_command
from analysis.draw import figures
from analysis.questions.pareto import pareto
from analysis.reference import published
from analysis.report.material import material_of
from analysis.report.sections import sections_of
from analysis.report.summary import points_facts
from analysis.table.points import dense_baselines, points_of
from analysis.table.rows import write_rows
from analysis.table.spreads import marks_text

PAPERS = {  # what is true of them, and what would not be
    "mikler2022": ("percentile", ("lowest to", "deviation", "means")),
    "wang2023": ("standard deviation", ("lowest to", "percentile", "medians")),
    "renda2020": ("lowest to", ("percentile", "deviation", "means")),
}
COMMANDS = {
    "pareto": pareto_command,
    "headline": headline_command,
    "search-cost": search_cost_command,
}


def of_paper(paper):
    rows = published(paper)
    return rows[rows["network"] == "resnet56"] if paper == "renda2020" else rows


@pytest.mark.parametrize("paper", PAPERS)
def test_a_spread_is_called_what_the_paper_published(paper):
    true, false = PAPERS[paper]
    told = marks_text(points_of(of_paper(paper)), "bars").lower()
    assert true in told and not any(words in told for words in false)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("paper", ["mikler2022", "wang2023"])
def test_no_command_calls_a_published_interval_min_max(paper, command, tmp_path, capsys):
    source = str(tmp_path / "rows.parquet")
    rows = of_paper(paper)
    write_rows(rows, source)
    COMMANDS[command](source)
    printed = " ".join(capsys.readouterr().out.split())
    assert "min-max" not in printed and PAPERS[paper][0] in printed


@pytest.mark.parametrize("paper", PAPERS)
def test_the_report_and_the_pictures_say_it_too(paper, monkeypatch, tmp_path):
    true, false = PAPERS[paper]
    rows = of_paper(paper)
    sections = {section.id: section for section in sections_of(material_of(rows, "rows.csv"))}
    for name in ("frontier", "points"):
        told = sections[name].blocks[0].text.lower()
        assert true in told and not any(words in told for words in false)
    notes = []
    monkeypatch.setattr(figures, "draw", lambda sheets, note: notes.append(note.lower()))
    monkeypatch.setattr(figures, "write_figures", lambda *_: None)
    figures.accuracy_against_compression(rows, "x.png")
    figures.accuracy_against_search_cost(rows, "x.png")
    points = pareto(rows, "method", ("compression_ratio", "test_accuracy"), False)
    figures.frontier(points, dense_baselines(rows), "method", "compression_ratio", "x.png")
    assert len(notes) == 3
    for note in notes:
        assert true in note and not any(words in note for words in false)


def test_published_means_are_no_medians():
    (fact, *_) = points_facts(material_of(published("wang2023"), "rows.csv").points)
    assert "mean of 3 trials" in fact and "median" not in fact


def test_bleu_has_its_name_above_its_column(tmp_path, capsys):
    rows = published("renda2020")
    source = str(tmp_path / "rows.parquet")
    write_rows(rows[rows["network"] == "gnmt"], source)
    for command in (pareto_command, headline_command):
        command(source)
        head = next(line for line in capsys.readouterr().out.splitlines() if "compression" in line)
        assert "BLEU" in head.split() and "accuracy" not in head.split()


def test_a_published_number_without_a_spread_has_none_in_the_table(tmp_path, capsys):
    rows = published("mikler2022")
    source = str(tmp_path / "rows.parquet")
    write_rows(rows[rows["network"] == "resnet110"], source)
    headline_command(source)
    printed = capsys.readouterr().out
    assert "93.74" in printed and "93.74-93.74" not in printed
