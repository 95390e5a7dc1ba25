"""Other rows in the same table don't change an answer, nor does the order of the rows."""

import pandas as pd
import pytest

from analysis.questions.claims import OF_VERDICT, judge
from analysis.questions.compare import SCENARIO, compare
from analysis.questions.headline import CURVE, headlines
from analysis.reference import published
from tests.analysis.conftest import row, table

DROPS = (0.0005, 0.01)


def sweep(protocol, total, gain):
    """Fine-tuning and a rewinding for a quarter of T and all of it. total: T, in epochs."""
    of = {"protocol": protocol}
    rows = [row(method="dense", seed=s, train_epochs=total) for s in range(3)]
    rows += [
        row(
            method=method,
            density=density,
            seed=seed,
            retrain_epochs=epochs,
            rewind_epoch=total - epochs if method == "lr_rewind" else None,
            stage_id=f"{method}-{density}-{epochs}-{seed}",
            test_accuracy=0.9 + better * gain + density / 50 + seed * (1 + better) / 1000,
            val_accuracy=0.9 + epochs / 1e4,
        )
        for method, better in (("finetune", 0), ("lr_rewind", 1))
        for density in (0.5, 0.2)
        for epochs in (total // 4, total)
        for seed in range(3)
    ]
    ids = dict.fromkeys(("stage_id", "parent_id", "baseline_id"), f"{protocol}/")
    made = table(rows)
    return made.assign(**of, **{name: start + made[name] for name, start in ids.items()})


def own():
    return [sweep("36 epochs", 36, 0.01), sweep("200 epochs", 200, -0.01)]


def papers():
    return [published(name) for name in ("renda2020", "mikler2022", "wang2023")]


ANSWERS = {
    "claims": (
        lambda rows: judge(rows)[0],
        OF_VERDICT,
        ["verdict", "difference", "low", "n_points"],
    ),
    "headlines": (
        lambda rows: headlines(rows, DROPS),
        [*CURVE, "max_drop"],
        ["compression_ratio", "at_least", "highest_seed"],
    ),
    "comparisons": (
        lambda rows: compare(rows).scenarios,
        [*SCENARIO, "a", "b"],
        ["difference", "p", "n_a", "n_b"],
    ),
}


def answer(question, rows):
    ask, keys, values = ANSWERS[question]
    found = ask(rows)
    keyed = found[keys].astype("float64", errors="ignore").astype("str")
    return keyed.join(found[values]).sort_values(keys, ignore_index=True)


@pytest.mark.parametrize(
    ("tables", "question"),
    [(own, question) for question in ANSWERS]
    + [
        pytest.param(papers, question, marks=pytest.mark.slow)
        for question in ("claims", "headlines")
    ],
)
def test_tables_together_say_what_each_says(tables, question):
    parts = tables()
    together = answer(question, pd.concat(parts, ignore_index=True))
    apart = pd.concat([answer(question, part) for part in parts])
    apart = apart.sort_values(ANSWERS[question][1], ignore_index=True)
    pd.testing.assert_frame_equal(together, apart, check_dtype=False, rtol=1e-9)


@pytest.mark.parametrize("question", list(ANSWERS))
def test_the_order_of_rows_says_nothing(question):
    rows = pd.concat(own(), ignore_index=True)
    mixed = rows.sample(frac=1, random_state=1).reset_index(drop=True)
    pd.testing.assert_frame_equal(answer(question, rows), answer(question, mixed), rtol=1e-9)


def test_whole_means_the_dense_networks_own_length():
    """Of two protocols of one network the shorter one has a whole training of its own."""
    verdicts, _ = judge(pd.concat(own(), ignore_index=True))
    whole = verdicts[verdicts["claim"] == "whole_time_is_best"].set_index("protocol")["verdict"]
    assert whole.to_dict() == {"36 epochs": "supported", "200 epochs": "contradicted"}
