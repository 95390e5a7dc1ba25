"""The files of ``examples/`` run as they are, on less data and for fewer epochs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "compare.ipynb"


def run(folder: Path, *arguments: str) -> str:
    """In an interpreter of its own."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def example(name: str) -> str:
    return str(EXAMPLES / f"{name}.py")


def summary(printed: str) -> dict[str, str]:
    words = [line.split() for line in printed.splitlines()]
    return {two[0]: two[1] for two in words if len(two) == 2}


@pytest.mark.slow
def test_an_own_cnn_on_a_folder(tmp_path: Path) -> None:
    flags = ("--number", "200", "--epochs", "2", "--target-size", "100kB")
    found = summary(run(tmp_path, example("own_cnn"), *flags))
    network = torch.export.load(tmp_path / "own_cnn.pt2").module()
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
    size = (tmp_path / "own_cnn.pt2").stat().st_size
    assert int(found["file_bytes"]) == size
    assert found["target_reached"] == str(size <= 100_000)


@pytest.mark.slow
def test_a_resnet_with_its_checkpoints(tmp_path: Path) -> None:
    printed = run(tmp_path, example("trained_resnet"), "--number", "100", "--epochs", "2")
    assert all(method in printed for method in ("finetune", "weight_rewind", "lr_rewind"))
    weights = load_file(tmp_path / "trained_resnet.safetensors")
    kernels = [weight for weight in weights.values() if weight.dim() > 1]
    left = sum(int(w.count_nonzero()) for w in kernels) / sum(w.numel() for w in kernels)
    assert left == pytest.approx(0.1, abs=0.001)


@pytest.mark.slow
def test_a_perceptron_on_a_table(tmp_path: Path) -> None:
    printed = run(tmp_path, example("perceptron_on_table"), "--epochs", "6", "--seeds", "1")
    ratio = float(printed.splitlines()[-1].partition("×")[0])
    weights = load_file(tmp_path / "perceptron.safetensors")
    kernels = [weight for weight in weights.values() if weight.dim() > 1]
    left = sum(int(w.count_nonzero()) for w in kernels) / sum(w.numel() for w in kernels)
    assert 1 / left == pytest.approx(ratio, rel=0.01)


@pytest.mark.slow
def test_a_vision_transformer(tmp_path: Path) -> None:
    flags = ("--number", "400", "--epochs", "4")
    found = summary(run(tmp_path, example("vision_transformer"), *flags))
    assert float(found["compression_ratio"]) > 1.2
    network = torch.export.load(tmp_path / "vision_transformer.pt2")
    zeros = {name: float((w == 0).float().mean()) for name, w in network.state_dict.items()}
    attention = [share for name, share in zeros.items() if "attn.qkv.weight" in name]
    assert len(attention) == 2 and min(attention) > 0.1


# The notebook


def cells(kind: str) -> list[dict[str, Any]]:
    found = json.loads(NOTEBOOK.read_text())
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    return [cell for cell in found["cells"] if cell["cell_type"] == kind]


def test_the_notebook_is_stored_without_outputs() -> None:
    assert cells("markdown")
    for cell in cells("code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None
        compile("".join(cell["source"]), cell["id"], "exec")


@pytest.mark.slow
def test_the_notebooks_cells_run_in_order(tmp_path: Path) -> None:
    sources = ["".join(cell["source"]) for cell in cells("code")]
    short = sources[0].replace(
        "EPOCHS, SEEDS, IMAGES = 10, 3, 1000", "EPOCHS, SEEDS, IMAGES = 3, 1, 200"
    )
    assert short != sources[0]
    best = sources[-1].replace("max_accuracy_drop=0.02", "max_accuracy_drop=1.0")
    assert best != sources[-1]
    (tmp_path / "cells.py").write_text("\n".join([short, *sources[1:-1], best]))
    run(tmp_path, "cells.py")
    network = torch.export.load(tmp_path / "compare.pt2").module()
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert (tmp_path / "compare.png").stat().st_size > 1000
