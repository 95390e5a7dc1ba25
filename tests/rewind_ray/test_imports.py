"""Arrows point one way: the library runs where neither Ray nor the rest of the project is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import rewind_ray

BLOCKED = "import sys; sys.modules |= dict.fromkeys({names!r})\n"  # None: importing it raises

IMPORT_EVERYTHING = """
import importlib, pkgutil
import rewind_ray
for module in pkgutil.walk_packages(rewind_ray.__path__, "rewind_ray."):
    importlib.import_module(module.name)
    print(module.name)
"""

TRAIN = """
import sys
from rewind_ray.protocols import digits
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from rewind_ray.training.run import Job, Runtime
from rewind_ray.training.stage import run_stage
protocol = digits(epochs=2, schedule=Schedule(lr=0.1), train_examples=64, test_examples=50)
stage = retrain_stage(
    dense_stage(protocol, 0), Prune(fraction=0.5), Retrain(method="lr_rewind", epochs=1)
)
run_stage(Job(stage=stage, row_epochs=(1,)), Runtime(storage=sys.argv[1]))
"""


def run(code: str, blocked: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    program = BLOCKED.format(names=blocked) + code
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_module_is_imported_without_ray() -> None:
    done = run(IMPORT_EVERYTHING, ["ray", "trainables", "sweeps", "analysis"])
    assert done.returncode == 0, done.stderr
    package = Path(rewind_ray.__file__).parent
    files = (path.relative_to(package.parent).with_suffix("") for path in package.rglob("*.py"))
    expected = {".".join(path.parts).removesuffix(".__init__") for path in files} - {"rewind_ray"}
    assert set(done.stdout.split()) == expected


def test_blocking_works() -> None:
    assert "ModuleNotFoundError" in run("import ray", ["ray"]).stderr


def test_a_stage_is_trained_without_ray(tmp_path: Path) -> None:
    done = run(TRAIN, ["ray", "trainables", "sweeps", "analysis"], str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("stages/*/rows/0001.json"))) == 1


@pytest.mark.parametrize(
    "module",
    [
        "result",
        "spec",
        "store",
        "store.layout",
        "store.files",
        "store.ledger",
        "store.leases",
        "store.housekeeping",
        "store.opening",
        "training.failures",
        "text",
    ],
)
def test_the_light_half_needs_no_torch(module: str) -> None:
    """The analysis reads the storage, and starts without it."""
    done = run(f"import rewind_ray.{module}", ["ray", "torch"])
    assert done.returncode == 0, done.stderr
