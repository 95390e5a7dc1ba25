"""The examples of docs/extending.md: what it adds is trained, in a stage that runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rewind_ray.pruning import CRITERIA
from rewind_ray.pruning.units import UNITS
from rewind_ray.spec import dense_stage, stage_from_dict, stage_to_dict
from rewind_ray.structures import STRUCTURES, structures_help
from sweeps.plan.naming import chain_name
from tests.rewind_ray.tiny_stages import Lab, child, tiny

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture
def extended() -> Iterator[None]:
    """The page's code, each block at the end of the module that it names; then it is gone."""
    tables: list[dict[str, Any]] = [CRITERIA, STRUCTURES, UNITS]
    before = [dict(table) for table in tables]
    blocks = re.findall(r"```python\n# (rewind_ray/\S+)\.py\n(.*?)```", PAGE.read_text(), re.S)
    assert [file for file, _ in blocks if "structures" in file or "pruning" in file]
    for file, code in blocks:
        module = import_module(file.replace("/", "."))
        exec(compile(code, file, "exec"), dict(vars(module)))
    yield
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)


@pytest.mark.usefixtures("extended")
def test_a_structure_and_a_criterion_are_trained(tmp_path: Path) -> None:
    lab, dense = Lab(tmp_path), dense_stage(tiny(), 0, train_epochs=1)
    stage = child(
        dense, "lr_rewind", 1, fraction=0.4, structure="slices", criterion="scaled", scope="layer"
    )
    lab.run_chain(stage)

    row, point = lab.row(stage), lab.point(stage)
    assert (row.structure, row.criterion) == ("slices", "scaled")
    before = lab.point(dense).weights
    for name, kept in point.mask.items():
        if kept.dim() != 4:
            assert kept.all()
            continue
        sizes = before[name].abs().numpy().mean(axis=(2, 3)).ravel()
        expected = np.ones(len(sizes), dtype=bool)
        expected[np.argsort(sizes, kind="stable")[: -(-2 * len(sizes) // 5)]] = False
        slices = kept.flatten(0, 1).flatten(1)
        assert torch.equal(slices.any(dim=1), slices.all(dim=1))  # whole ones
        np.testing.assert_array_equal(slices.all(dim=1).numpy(), expected, err_msg=name)
        assert not point.weights[name][~kept].any()
    assert stage_from_dict(stage_to_dict(stage)).stage_id == stage.stage_id
    assert "slices (whole kh x kw slices" in structures_help()
    assert chain_name(stage).startswith("slices-lr_rewind")


@pytest.mark.usefixtures("extended")
def test_a_structure_is_refused_what_is_not_its_own() -> None:
    dense = dense_stage(tiny(), 0)
    with pytest.raises(ValueError, match=r"shrink with structure 'slices'; allowed: .*'filters'"):
        child(dense, "lr_rewind", 1, structure="slices", shrink=True)


def test_nothing_of_it_is_left() -> None:
    assert "scaled" not in CRITERIA and "slices" not in STRUCTURES and "slice" not in UNITS
