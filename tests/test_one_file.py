"""A retraining method with a new knob touches one file: the example of docs/extending.md, tried.

The two pieces of the page are put into a copy of ``rewind_ray/retraining.py``, which a process of
its own imports in the place of the real one. Everything else is as it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
BEFORE = "    def __post_init__(self) -> None:\n        method = method_named(self.method)"
"""Where the fields of ``Retrain`` end."""

PROGRAM = """
import json, sys, types
module = types.ModuleType("rewind_ray.retraining")
sys.modules["rewind_ray.retraining"] = module
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), module.__dict__)

import pandas as pd, tyro
from analysis.questions.fairness import fairness
from analysis.table.columns import as_rows, meanings
from analysis.table.details import details_of, keep_what_differs
from dataclasses import asdict
from pathlib import Path
from rewind_ray.errors import UserError
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from rewind_ray.training.stage import epoch_rates
from sweeps.plan.flags import RetrainFlags, flags_for, retrainings
from sweeps.plan.naming import method_label
from sweeps.searching.space import Space, asked_knobs, num_recipes, narrowed, recipe_of
from tests.rewind_ray.tiny_stages import Lab, tiny
import optuna

found = {}
flags = tyro.cli(RetrainFlags, args=["--holding", "0.25", "0.75"])
retrains = list(retrainings("hold_and_drop", 4, flags))
found["flags"] = [flags_for(retrain) for retrain in retrains]
found["usual"] = [r.holding for r in retrainings("hold_and_drop", 4, RetrainFlags())]
refused = []
for settings in ({"method": "finetune", "holding": 0.5}, {"method": "hold_and_drop"},
                 {"method": "hold_and_drop", "holding": 2}):
    try:
        Retrain(epochs=4, **settings)
    except UserError as error:
        refused.append(str(error))
found["refused"] = refused

lab = Lab(Path(sys.argv[2]))
schedule = Schedule(lr=0.1, drops=(2,))
dense = dense_stage(tiny(network="resnet8", epochs=4, schedule=schedule), 0)
stages = [retrain_stage(dense, Prune(fraction=0.5), retrain) for retrain in retrains]
found["rates"] = [epoch_rates(stages[0], epoch, 2)(0) for epoch in range(4)]
found["ids"] = [stage.stage_id for stage in stages]
found["names"] = [method_label(stage) for stage in stages]
for stage in (dense, *stages):
    lab.run(stage)
records = [asdict(lab.row(s)) | details_of(s) for s in (dense, *stages)]
rows = keep_what_differs(as_rows(pd.DataFrame(records, dtype=object), "the test"))
found["column"] = rows["retrain_holding"].tolist()[1:]
found["meaning"] = meanings()["retrain_holding"]
found["variants"] = rows["variant"].tolist()[1:]
pair, = fairness(rows)
found["fairness"] = pair.findings["same retraining learning rates"].words
space = narrowed(Space(), {"methods": ("hold_and_drop",), "holdings": (0.25, 0.5), "levels": (1,),
                           "fractions": (0.5,), "shares": (1.0,), "momentum": (False,)})
found["recipes"] = num_recipes(space, levels_known=False)
trial = optuna.trial.FixedTrial({"method": "hold_and_drop", "structure": "unstructured",
    "fraction": 0.5, "levels": 1, "share": 1.0, "holding": 0.5, "momentum": False})
found["recipe"] = recipe_of(trial, space, dense.protocol).describe()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    page = (ROOT / "docs" / "extending.md").read_text()
    section = page.split("## A retraining method with a new knob\n")[1].split("\n## ")[0]
    field, rest = (part.split("```")[0] for part in section.split("```python\n")[1:])
    source = (ROOT / "rewind_ray" / "retraining.py").read_text()
    assert source.count(BEFORE) == 1
    folder = tmp_path_factory.mktemp("one_file")
    patched = folder / "retraining.py"
    patched.write_text(source.replace(BEFORE, f"{field}\n{BEFORE}") + rest)
    command = [sys.executable, "-c", PROGRAM, str(patched), str(folder / "storage")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def test_it_has_a_flag(found: dict[str, Any]) -> None:
    assert found["flags"] == [{"holding": 0.25}, {"holding": 0.75}]
    assert found["usual"] == [0.5]


def test_it_is_validated(found: dict[str, Any]) -> None:
    unused, missing, wrong = found["refused"]
    assert "holding is 0.5, but finetune doesn't use it" in unused
    assert "hold_and_drop needs holding" in missing
    assert wrong == "holding is 2.0; allowed: above 0 and below 1"


def test_it_is_trained_and_in_the_id(found: dict[str, Any]) -> None:
    assert len(set(found["ids"])) == 2
    top, *rest = found["rates"]
    assert top == pytest.approx(0.1) and rest == pytest.approx([0.01] * 3)  # drops at 3 of 4


def test_it_is_in_rows_and_labels(found: dict[str, Any]) -> None:
    assert found["column"] == [0.25, 0.75]
    assert found["variants"] == ["holding 0.25", "holding 0.75"]
    assert found["names"] == ["hold_and_drop 0.25", "hold_and_drop 0.75"]
    assert "share of the updates at the top rate" in found["meaning"]
    assert found["fairness"] == "the learning rates differ: holding 0.25 vs 0.75"


def test_it_is_searched(found: dict[str, Any]) -> None:
    assert found["recipes"] == 2
    assert found["recipe"] == "hold_and_drop, holding 0.5, 4 epochs, 50%"
