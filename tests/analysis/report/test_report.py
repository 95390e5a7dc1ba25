"""The report: its numbers against plain counting, its page against what a browser's rules say."""

import base64
import hashlib
import json
import re
from collections import defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from statistics import median

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.commands.report import report_command
from analysis.draw import looks
from analysis.draw.learning_curves import EPOCHS_A_STAGE, chain_ends, learning_curves, sampled
from analysis.questions.claims import judge
from analysis.questions.compare import compare
from analysis.questions.fairness import fairness
from analysis.reference import published
from analysis.report import gather, payload, report_html
from analysis.report.blocks import Section, Table, Words
from analysis.report.material import material_of, with_storage
from analysis.report.payload import payload_of, worth_showing
from analysis.report.progress import progress_of
from analysis.report.render import script_json, section_html
from analysis.report.sections import sections_of
from analysis.table.columns import BadRows
from analysis.table.rows import read_rows, write_rows
from rewind_ray.protocols import digits
from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from rewind_ray.store.ledger import Ledger

HOSTILE = "</script><script>window.ran = true</script><img src=x onerror='window.ran = true'>"


# A small sweep as it lies in a storage root, half done


def sweep_stages():
    """2 seeds: fine-tuning and learning-rate rewinding one-shot at 2 densities, and learning-rate
    rewinding iteratively to level 3."""
    stages = []
    for seed in range(2):
        dense = dense_stage(digits(), seed)
        stages.append(dense)
        for method in ("finetune", "lr_rewind"):
            for fraction in (0.8, 0.9):
                stages.append(
                    retrain_stage(dense, Prune(fraction=fraction), Retrain(method=method, epochs=5))
                )
        parent = dense
        for _ in range(3):
            parent = retrain_stage(
                parent, Prune(fraction=0.5), Retrain(method="lr_rewind", epochs=4)
            )
            stages.append(parent)
    return stages


def accuracy_at(stage, epoch):
    """Made up, and different everywhere."""
    return 0.5 + 0.4 * epoch / stage.train_epochs - 0.02 * stage.level + 0.001 * stage.seed


def store(ledger, stage, epochs, make_row=None, **values):
    """Its description, metrics up to ``epochs``, and with ``make_row`` its row."""
    ledger.write_spec(stage)
    for epoch in range(epochs + 1):
        accuracy = accuracy_at(stage, epoch)
        metrics = {"test_accuracy": accuracy, "val_accuracy": accuracy - 0.01, "lr": 0.1}
        ledger.write_point(stage.stage_id, epoch, b"", metrics | {"train_loss": 1 - accuracy})
    if make_row is None:
        return
    density = float(np.prod([1 - step.prune.fraction for step in stage.chain[1:]]))
    pruned = {} if stage.level == 0 else {"parent_id": stage.parent.stage_id}
    ledger.write_row(
        make_row(
            stage_id=stage.stage_id,
            baseline_id=stage.baseline.stage_id,
            seed=stage.seed,
            level=stage.level,
            method=stage.method,
            density=density,
            prune_fraction=stage.prune.fraction if stage.prune else None,
            retrain_epochs=stage.retrain.epochs if stage.retrain else None,
            train_epochs=stage.train_epochs,
            search_cost_epochs=sum(step.train_epochs for step in stage.chain[1:]),
            test_accuracy=accuracy_at(stage, stage.train_epochs),
            val_accuracy=accuracy_at(stage, stage.train_epochs) - 0.01,
            baseline_test_accuracy=accuracy_at(stage.baseline, stage.baseline.train_epochs),
            **pruned,
            **values,
        )
    )


@pytest.fixture
def storage(tmp_path, make_row):
    """All done but the last stage, which is at epoch 2 of 4, and the one before, untouched."""
    ledger = Ledger(str(tmp_path / "storage"))
    *done, last = sweep_stages()
    for stage in done:
        store(ledger, stage, stage.train_epochs, make_row)
    store(ledger, last, 2)
    untouched = retrain_stage(
        last.parent, Prune(fraction=0.1), Retrain(method="finetune", epochs=6)
    )
    asked = {stage.stage_id: [stage.train_epochs] for stage in [*done, last, untouched]}
    command = ["compare", "--name", "a sweep's"]
    ledger.write_sweep("quick", {"command": command, "stages": asked})
    return ledger


@pytest.fixture
def material(grid, make_table):
    return material_of(make_table(grid), "rows.csv")


def texts_of(section):
    return [block.text for block in section.blocks if isinstance(block, Words)] + [
        text for block in section.blocks for text in getattr(block, "texts", ())
    ]


def table_of(section, caption):
    (table,) = (
        block
        for block in section.blocks
        if isinstance(block, Table) and block.caption.startswith(caption)
    )
    return table


def section_of(material, name):
    (section,) = (section for section in sections_of(material) if section.id == name)
    return section


# What a page is


class Elements(HTMLParser):
    """Start tags, the content of scripts and styles, and the text between tags."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.raw, self.text = [], defaultdict(list), []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.cdata_elem:
            self.raw[self.cdata_elem].append(data)
        else:
            self.text.append(data)


def digest(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def data_of(html):
    return json.loads(Elements(html).raw["script"][0])


def test_the_policy_lets_only_the_pages_own_script_and_style_run(material):
    elements = Elements(report_html(material))
    (policy,) = (
        attributes["content"]
        for tag, attributes in elements.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    _, script = elements.raw["script"]
    (style,) = elements.raw["style"]
    assert directives["script-src"] == digest(script)
    assert directives["style-src"] == digest(style)


def test_nothing_is_fetched_and_nothing_handles_events_inline(material):
    html = report_html(material)
    elements = Elements(html)
    for _, attributes in elements.tags:
        assert not any(name.startswith("on") or name in ("src", "style") for name in attributes)
        assert attributes.get("href", "#").startswith("#")
    assert set(html.split("http")[1:]) == {
        part for part in html.split("http")[1:] if part[0] in "-:"
    }
    assert html.count("://") == html.count("http://www.w3.org/2000/svg") == 1


def test_hostile_names_stay_text(grid, make_row, make_table):
    rows = make_table(grid)
    names = {"network": f"net{HOSTILE}", "dataset": f"data{HOSTILE}", "variant": f"knob{HOSTILE}"}
    html = report_html(material_of(rows.assign(**names), f"rows{HOSTILE}.csv"))
    elements = Elements(html)
    assert [tag for tag, _ in elements.tags].count("script") == 2
    assert "img" not in {tag for tag, _ in elements.tags}
    assert f"net{HOSTILE}" in "".join(elements.text)
    assert data_of(html)["texts"]["variant"]["values"] == [f"knob{HOSTILE}"]


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text())))
def test_any_text_survives_inside_the_script_element(content):
    elements = Elements(f"<script>{script_json(content)}</script>")
    assert json.loads("".join(elements.raw["script"])) == content


def test_the_same_rows_give_the_same_page(material, grid, make_table):
    again = material_of(make_table(grid).sample(frac=1, random_state=0), "rows.csv")
    assert report_html(again) == report_html(material)


def test_headings_and_landmarks_are_in_order(material):
    elements = Elements(report_html(material))
    tags = [tag for tag, _ in elements.tags]
    assert tags.count("h1") == 1 and tags.count("main") == 1 and "nav" in tags
    targets = {attributes.get("id") for _, attributes in elements.tags}
    links = [attributes["href"][1:] for tag, attributes in elements.tags if tag == "a"]
    assert set(links) <= targets
    assert {attributes.get("lang") for tag, attributes in elements.tags if tag == "html"} == {"en"}


def test_a_section_is_what_its_blocks_say():
    table = Table(
        caption="Costs < gains",
        columns=("method", "cost"),
        lines=(("group",), ("a&b", ("3", "of 4"))),
        numeric=frozenset(["cost"]),
    )
    html = section_html(
        Section(id="x", title="<i>", blocks=(Words(text="a<b", kind="note"), table))
    )
    assert '<h2 id="x-heading">&lt;i&gt;</h2>' in html
    assert '<p class="note">a&lt;b</p>' in html
    assert '<th scope="rowgroup" colspan="2">group</th>' in html
    assert '<th scope="row">a&amp;b</th><td class="number" data-label="cost"><b>3</b>' in html


# The numbers


def best_by_hand(grid, kind, max_drop):
    """method -> highest compression within the drop; medians over seeds, retraining time by
    validation accuracy, an iterative chain's first step among the iterative ones."""
    iterative_first = {row.parent_id for row in grid if row.level == 2}
    by_point = defaultdict(list)
    for row in grid:
        kinds = {row.schedule_kind} | ({"iterative"} if row.stage_id in iterative_first else set())
        if row.level and kind in kinds:
            by_point[row.method, row.compression_ratio, row.retrain_epochs].append(row)
    chosen = {}
    for (method, ratio, _), rows in by_point.items():
        change = median(row.test_accuracy - row.baseline_test_accuracy for row in rows)
        judged = median(row.val_accuracy for row in rows)
        chosen.setdefault((method, ratio), []).append((judged, change))
    kept = defaultdict(float)
    for (method, ratio), found in chosen.items():
        if max(found)[1] >= -max_drop:
            kept[method] = max(kept[method], ratio)
    return kept


@pytest.mark.parametrize("kind", ["one-shot", "iterative"])
@pytest.mark.parametrize("gain", [0, 0.02, 0.04])
def test_headlines_are_those_counted_by_hand(grid, make_table, kind, gain):
    grid = [
        replace(row, test_accuracy=row.test_accuracy + gain) if row.level else row for row in grid
    ]
    summary = section_of(material_of(make_table(grid), "rows.csv"), "summary")
    without, within = (best_by_hand(grid, kind, drop) for drop in (0.0005, 0.01))
    (line,) = (line for line in table_of(summary, "How small").lines if line[0] == kind)
    shown = [0 if main == "none" else number_in(main) for main, _ in line[2:]]
    assert shown == [float(f"{max(each.values(), default=0):.3g}") for each in (without, within)]
    of_methods = defaultdict(dict)
    for cells in table_of(summary, "How far").lines:
        if len(cells) == 1:
            (panel,) = cells
        else:
            of_methods[panel][cells[0]] = cells[1:3]
    for label, cells in of_methods[kind].items():
        method = {"fine-tuning": "finetune", "weight rewinding": "weight_rewind"}[label]
        shown = [0 if cell == "none" else number_in(cell) for cell in cells]
        assert shown == [float(f"{each[method]:.3g}") for each in (without, within)]


def number_in(cell):
    """≥ 9.31× is 9.31."""
    return float(cell.removeprefix("≥ ").removesuffix("×"))


def test_every_row_is_in_its_point_and_in_no_other(grid, make_table, make_row):
    lost = make_row(stage_id="lost", density=0.1, seed=7, status="diverged", test_accuracy=0.1)
    material = material_of(make_table([*grid, lost]), "rows.csv")
    points, members = material.points, material.members
    counted = members[members["status"] != "diverged"].groupby("point")["test_accuracy"]
    np.testing.assert_array_equal(counted.median(), points["test_accuracy"])
    np.testing.assert_array_equal(counted.count(), points["n_seeds"])
    rows = material.rows.set_index(["stage_id", "train_epochs"])
    mine = rows.loc[pd.MultiIndex.from_frame(members[["stage_id", "train_epochs"]])]
    for name in ("method", "retrain_epochs", "density"):
        np.testing.assert_array_equal(mine[name], points.loc[members["point"], name])
    assert set(mine.index) == set(rows.index[rows["level"] > 0])


def test_first_steps_of_chains_alone_make_no_one_shot_panel(make_row, make_table):
    first = make_row(stage_id="a", density=0.5, prune_fraction=0.5)
    second = make_row(stage_id="b", parent_id="a", level=2, density=0.25, prune_fraction=0.5)
    material = material_of(make_table([first, second]), "rows.csv")
    assert list(material.points["schedule_kind"]) == ["iterative", "iterative"]
    assert list(material.members["stage_id"]) == ["b", "a"]


def test_the_page_holds_what_the_points_hold(material):
    data = data_of(report_html(material))
    points = material.points
    for name in ("test_accuracy", "compression_ratio", "search_cost_epochs", "n_seeds"):
        np.testing.assert_allclose(data["points"][name], points[name], rtol=1e-5)
    labels = [data["lines"][line]["label"] for line in data["points"]["line"]]
    assert labels == list(points["line"])
    for name in ("method", "network", "schedule_kind"):
        texts = data["texts"][name]
        assert [texts["values"][at] for at in texts["at"]] == list(points[name])
    by_point = defaultdict(set)
    for place, stage_id in zip(data["members"]["point"], data["members"]["stage_id"], strict=True):
        by_point[place].add(stage_id)
    for place, group in material.members.groupby("point"):
        assert by_point[place] == set(group["stage_id"])


def test_lines_look_as_they_do_in_figures(grid, make_row, make_table):
    extra = [make_row(stage_id=name, method=name) for name in ("my_own", "blend", "allr", "other")]
    data = payload_of(material_of(make_table([*grid, *extra]), "rows.csv"))
    found = {tuple(look.values()) for look in data["lines"]}
    assert len(found) == 2 + len(extra)
    assert {("fine-tuning", 0, 0, 0), ("weight rewinding", 1, 1, 1)} <= found
    css, js = (
        resources.files("analysis.report").joinpath(name).read_text()
        for name in ("page.css", "chart.js")
    )
    colours = re.findall(r"--c\d: (?:light-dark\()?(#\w{6})", css)
    assert tuple(colour.upper() for colour in colours) == looks.COLOURS
    markers, dashes = (
        re.search(rf"const {name} = \[(.*?)\];", js, re.DOTALL)[1].count('"') // 2
        for name in ("MARKERS", "DASHES")
    )
    assert (markers, dashes) == (len(looks.MARKERS), len(looks.LINES))


def test_too_many_points_keep_the_compressions_abreast_and_all_panels(monkeypatch):
    monkeypatch.setattr(payload, "MAX_POINTS", 100)
    n = 1000
    points = pd.DataFrame({"spread": np.arange(n) % 20 == 0, "chosen": np.arange(n) % 10 == 0})
    kept = points.loc[worth_showing(points)]
    assert len(kept) == 100
    assert kept["spread"].sum() == 50 and kept["chosen"].all()
    assert kept.index.is_monotonic_increasing
    assert kept.index[-1] >= 980


def test_without_seeds_accuracies_or_pruned_networks_there_is_still_a_page(
    grid, make_row, make_table
):
    dense = material_of(make_table(row for row in grid if row.level == 0), "rows.csv")
    assert "No pruned network is there yet." in texts_of(section_of(dense, "summary"))
    assert data_of(report_html(dense))["points"]["line"] == []
    unmeasured = make_row(test_accuracy=None, baseline_test_accuracy=None, status="diverged")
    html = report_html(material_of(make_table([unmeasured]), "rows.csv"))
    assert "1 result diverged" in html
    assert data_of(html)["points"]["test_accuracy"] == [None]


def test_what_a_lone_seed_or_a_missing_validation_means_is_said(make_row, make_table):
    rows = make_table(make_row(retrain_epochs=t, stage_id=str(t)) for t in (10, 20))
    facts = texts_of(section_of(material_of(rows, "rows.csv"), "summary"))
    assert "With one seed, it is unknown how far another would differ." in facts
    assert any("chosen by test accuracy" in fact and "1 point " in fact for fact in facts)


# Learning curves


@given(st.integers(0, 2000))
def test_sampled_epochs_reach_from_start_to_end(length):
    epochs = sampled(length)
    assert epochs[0] == 0 and epochs[-1] == length
    assert epochs == sorted(set(epochs))
    assert len(epochs) == min(length + 1, EPOCHS_A_STAGE)


def test_a_chain_is_its_stages_one_after_the_other(storage):
    rows = read_rows(storage.uri)
    curves = learning_curves(storage, chain_ends(rows))
    T = digits().epochs
    for seed in range(2):
        chain = [stage for stage in sweep_stages() if stage.seed == seed][-3 - (seed == 0) + 1 :]
        last = [stage for stage in chain if stage.stage_id in set(rows["stage_id"])][-1]
        curve = curves[curves["chain"] == last.stage_id]
        expected, start = [], -T
        for stage in last.chain:
            for epoch in range(stage.train_epochs + 1):
                expected.append((stage.stage_id, start + epoch, accuracy_at(stage, epoch)))
            start += stage.train_epochs
        assert (
            list(curve[["stage_id", "epoch", "test_accuracy"]].itertuples(index=False, name=None))
            == expected
        )


def test_chains_end_where_nothing_goes_on(storage):
    rows = read_rows(storage.uri)
    ends = chain_ends(rows)
    there = {
        stage.stage_id: stage for stage in sweep_stages() if stage.stage_id in set(rows["stage_id"])
    }
    parents = {stage.parent.stage_id for stage in there.values() if stage.level > 1}
    expected = {
        name
        for name, stage in there.items()
        if stage.level == 1 or (stage.level > 1 and name not in parents)
    }
    assert set(ends["stage_id"]) == expected


def test_a_longer_trajectory_is_cut_where_the_child_starts(tmp_path, make_row):
    ledger = Ledger(str(tmp_path))
    dense = dense_stage(digits(), 0)
    first = retrain_stage(dense, Prune(fraction=0.5), Retrain(method="finetune", epochs=3))
    longer = retrain_stage(dense, Prune(fraction=0.5), Retrain(method="finetune", epochs=8))
    second = retrain_stage(first, Prune(fraction=0.5), Retrain(method="finetune", epochs=3))
    assert first.stage_id == longer.stage_id
    for stage in (dense, longer, second):
        store(ledger, stage, stage.train_epochs, make_row)
    curves = learning_curves(ledger, chain_ends(read_rows(ledger.uri)))
    epochs = curves.groupby(["chain", "level"])["epoch"].agg(["min", "max"]).to_dict("index")
    assert epochs[second.stage_id, 1] == {"min": 0, "max": 3}
    assert epochs[second.stage_id, 2] == {"min": 3, "max": 6}
    assert epochs[longer.stage_id, 1] == {"min": 0, "max": 8}


@pytest.mark.parametrize("unreadable", [0, 1, 2])
def test_the_page_has_each_shared_curve_once(storage, unreadable):
    """And each chain its own, also one whose dense network's curve can't be read."""
    dense = sorted({stage.stage_id for stage in sweep_stages() if stage.level == 0})
    for stage_id in dense[:unreadable]:
        storage.filesystem.delete_dir(f"{storage.root}/stages/{stage_id}/epochs")
    material = gather(storage.uri)
    curves = data_of(report_html(material))["curves"]
    assert sum(stage["level"] == 0 for stage in curves["stages"]) == 2 - unreadable
    by_end = {chain["end"]: chain for chain in curves["chains"]}
    for end, own in material.curves.groupby("chain"):
        parts = [curves["stages"][part] for part in by_end[end]["parts"]]
        accuracies = [value for part in parts for value in part["test_accuracy"]]
        np.testing.assert_allclose(accuracies, own["test_accuracy"], rtol=1e-5)
        assert [part["level"] for part in parts] == sorted(set(own["level"]))
    assert len(by_end) == len(curves["chains"]) == material.curves["chain"].nunique()


def test_one_retraining_time_a_line_and_few_chains(storage, monkeypatch):
    monkeypatch.setattr("analysis.report.material.MAX_CURVE_STAGES", 3)
    rows = read_rows(storage.uri)
    material = with_storage(material_of(rows, storage.uri), storage)
    shown = material.curves["chain"].unique()
    assert 0 < len(shown) < material.chains
    assert material.curves.drop_duplicates(["chain", "level"])["level"].sum() <= 3 * 2
    (text,) = (
        text for text in texts_of(section_of(material, "curves")) if "chains: of each" in text
    )
    assert f"{len(shown)} of {material.chains} chains" in text


def test_unreadable_metrics_are_left_out_and_counted(storage, caplog):
    rows = read_rows(storage.uri)
    ends = chain_ends(rows)
    whole = learning_curves(storage, ends)
    storage.filesystem.delete_file(
        f"{storage.root}/stages/{ends['stage_id'].iloc[0]}/epochs/0002.json"
    )
    less = learning_curves(storage, ends)
    assert len(whole) - len(less) >= 1
    assert "0 chains and 1 epochs can't be read" in caplog.text


def test_a_table_says_where_its_curves_would_be(material):
    (text,) = texts_of(section_of(material, "curves"))
    assert "storage root" in text


# Sweeps under way


def test_what_is_missing_and_what_has_begun_is_told(storage):
    material = gather(storage.uri)
    *_, last = sweep_stages()
    progress = section_of(material, "progress")
    n = len(sweep_stages())
    assert table_of(progress, "Sweeps").lines == (("quick", str(n + 1), str(n - 1), "2", "1"),)
    (begun,) = table_of(progress, "Stages begun").lines
    assert begun == (last.stage_id, "digits_resnet", "digits", "lr_rewind", "3", "1", "2", "4")
    assert (
        f"{n - 1} of {n + 1} rows are there; 1 stage begun"
        in texts_of(section_of(material, "summary"))[0]
    )


def test_a_complete_sweep_has_no_progress(storage, make_row):
    for stage in sweep_stages():
        store(storage, stage, stage.train_epochs, make_row)
    storage.write_sweep("quick", {"stages": {s.stage_id: [s.train_epochs] for s in sweep_stages()}})
    material = gather(storage.uri)
    assert "progress" not in {section.id for section in sections_of(material)}
    assert any("rows are there." in text for text in texts_of(section_of(material, "summary")))


def test_a_sweep_with_nothing_but_a_dense_network_makes_a_page(tmp_path, make_row):
    ledger = Ledger(str(tmp_path))
    dense, first, *_ = sweep_stages()
    store(ledger, dense, dense.train_epochs, make_row)
    ledger.write_sweep("new", {"stages": {dense.stage_id: [16], first.stage_id: [5]}})
    html = report_html(gather(ledger.uri))
    assert "1 of 2 rows are there; 0 stages begun" in html
    assert "No pruned network is there yet." in html


def test_many_missing_stages_are_not_all_looked_at(storage, monkeypatch):
    monkeypatch.setattr("analysis.report.material.MAX_MISSING_STAGES", 1)
    (sweep,) = gather(storage.uri).sweeps
    assert (len(sweep.begun), sweep.not_looked_up) == (1, 1)
    assert "1 stage begun, not finished, 1 not looked at." in progress_of(sweep)


def test_a_damaged_sweep_file_costs_nothing_else(storage, caplog):
    storage.write_sweep("broken", {"stages": [1]})
    assert [sweep.name for sweep in gather(storage.uri).sweeps] == ["quick"]
    assert "sweeps/broken.json" in caplog.text


# How to make it again


def test_command_versions_and_protocol_are_there(storage):
    reproduction = section_of(gather(storage.uri), "reproduction")
    (code,) = (block.text for block in reproduction.blocks if type(block).__name__ == "Code")
    assert code == "rewind-ray compare --name 'a sweep'\"'\"'s'"
    versions = table_of(reproduction, "Code and hardware")
    n_rows = str(len(sweep_stages()) - 1)
    assert versions.lines == (("0123abc", "2.13.0", "", "cpu, one thread", "fp32", n_rows),)
    settings = dict(table_of(reproduction, "How the dense").lines)
    protocol = digits()
    assert settings["epochs"] == str(protocol.epochs)
    assert settings["schedule: lr"] == f"{protocol.schedule.lr:g}"
    assert settings["batch size"] == str(protocol.batch_size)


# The command


@pytest.mark.parametrize("source", ["storage", "file URI", "csv", "parquet"])
def test_every_kind_of_source_makes_a_page(storage, tmp_path, source):
    if source in ("csv", "parquet"):
        path = str(tmp_path / f"rows.{source}")
        write_rows(read_rows(storage.uri), path)
    else:
        path = storage.uri if source == "storage" else f"file://{storage.uri}"
    out = tmp_path / "new folder" / "report.html"
    report_command(path, out=str(out))
    html = out.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert bool(data_of(html)["curves"]) == (source in ("storage", "file URI"))


def test_only_html_is_written(storage, tmp_path):
    with pytest.raises(ValueError, match=r"\.html"):
        report_command(storage.uri, out=str(tmp_path / "report.pdf"))


@pytest.mark.slow
def test_many_rows_make_a_small_page(grid, make_table):
    few = make_table([row for row in grid if row.density == 0.1])
    copies = 60_000 // len(few) + 1
    rows = pd.concat([few] * copies, ignore_index=True)
    copy = np.repeat(np.arange(copies), len(few))
    rows["density"] = 0.98 ** (copy % 200 + 1)
    rows["network"] = "net" + pd.Series(copy // 200 % 20).astype("str")
    rows["seed"] += 3 * (copy // 4000)
    rows["stage_id"] = [f"{number:016x}" for number in range(len(rows))]
    rows["prune_fraction"] = 1 - rows["density"]
    rows["compression_ratio"] = 1 / rows["density"]
    material = material_of(rows, "rows.parquet")
    assert len(rows) >= 60_000 and len(material.points) > payload.MAX_POINTS
    html = report_html(material)
    assert len(html) < 15e6
    assert len(data_of(html)["points"]["line"]) == payload.MAX_POINTS


# What the comparisons are worth


def test_the_sections_say_what_the_commands_say(material):
    rows = material.rows
    compared, (verdicts, _), pairs = compare(rows), judge(rows), fairness(rows)
    table = table_of(section_of(material, "comparison"), "Pairs of methods")
    assert len(table.lines) == len(compared.overall) == 1
    names, ahead, difference, *_ = table.lines[0]
    (line,) = compared.overall.itertuples()
    assert names == "fine-tuning against weight rewinding"
    assert (ahead, difference) == (f"0 of {line.scenarios}", f"−{-100 * line.difference:.2f}")
    claims = table_of(section_of(material, "claims"), "Claims").lines
    assert sum(len(cells) > 1 for cells in claims) == len(verdicts)
    assert [cells[2] for cells in claims if len(cells) > 1] == list(verdicts["verdict"])
    setups = table_of(section_of(material, "fairness"), "Pairs by").lines
    assert sum(int(cells[3]) for cells in setups) == len(pairs)
    assert setups[0][0].split(", ")[0] == pairs[0].setup


def test_published_sums_are_compared_neither_by_the_report_nor_by_the_command():
    rows = published("mikler2022")
    with pytest.raises(BadRows):
        compare(rows)
    section = section_of(material_of(rows, "rows.csv"), "comparison")
    assert not any(isinstance(block, Table) for block in section.blocks)
    number = int((rows["level"] > 0).sum())
    assert any(str(number) in getattr(block, "text", "") for block in section.blocks)


def test_a_single_method_is_compared_with_nothing(make_row, make_table):
    material = material_of(make_table([make_row()]), "rows.csv")
    names = {section.id for section in sections_of(material)}
    assert names & {"comparison", "claims", "fairness"} == set()
