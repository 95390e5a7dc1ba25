"""The analysis of a million rows, and of fewer beside loops over groups of them.

python -m benchmarks.analysis_scale [rows]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.questions.claims import judge
from analysis.questions.headline import NO_DROP, SMALL_DROP, headlines
from analysis.questions.pareto import pareto
from analysis.questions.search_cost import search_costs, sharing_of
from analysis.table.columns import as_rows
from analysis.table.points import POINT, dense_baselines, points_of
from analysis.table.rows import read_rows, write_rows
from rewind_ray.result import COLUMNS

SEEDS = 10
METHODS = ("finetune", "weight_rewind", "lr_rewind", "low_lr_weight_rewind", "reinit")
TIMES = tuple(range(10, 110, 10))
DENSITIES = tuple(0.8**level for level in range(1, 21))
ROUNDS = 3
COMMANDS = ("pareto", "search-cost", "headline", "claims")


def made_up(count: int) -> pd.DataFrame:
    """At least ``count`` rows of pruned networks: networks x kinds x methods x times x densities x
    seeds; and those of their dense networks. Every step of a chain is there, so every row has its
    parent's."""
    axes = {
        "kind": ["one-shot", "iterative"],
        "method": METHODS,
        "retrain_epochs": TIMES,
        "level": range(1, len(DENSITIES) + 1),
        "seed": range(SEEDS),
    }
    per_network = int(np.prod([len(axis) for axis in axes.values()]))
    axes = {"network": [f"net{n}" for n in range(-(-count // per_network))]} | axes
    grid = pd.MultiIndex.from_product(list(axes.values()), names=list(axes)).to_frame(index=False)
    rng = np.random.default_rng(0)
    iterative = grid["kind"] == "iterative"
    density = 0.8 ** grid["level"]
    accuracy = 0.9 + 0.05 * density - rng.exponential(0.01, len(grid))
    ids = pd.Series([f"{number:016x}" for number in range(len(grid))], dtype="str")
    baseline = grid["network"] + "-" + grid["seed"].astype("str")
    chained = iterative & (grid["level"] > 1)
    pruned = pd.DataFrame(
        {
            "stage_id": ids,
            "parent_id": ids.shift(SEEDS).where(chained, baseline),
            "baseline_id": baseline,
            "network": grid["network"],
            "dataset": "cifar10",
            "task": "image_classification",
            "metric": "accuracy",
            "seed": grid["seed"],
            "level": grid["level"].where(iterative, 1),
            "structure": "unstructured",
            "criterion": "magnitude",
            "schedule_kind": grid["kind"],
            "method": grid["method"],
            "density": density,
            "compression_ratio": 1 / density,
            "prune_fraction": (1 - density).where(~iterative, 0.2),
            "retrain_epochs": grid["retrain_epochs"],
            "train_epochs": grid["retrain_epochs"],
            "search_cost_epochs": grid["retrain_epochs"] * grid["level"].where(iterative, 1),
            "test_accuracy": accuracy,
            "val_accuracy": accuracy + rng.normal(0, 0.003, len(grid)),
            "baseline_test_accuracy": 0.93,
            "speedup": 1 / density**0.8,
            "status": "done",
        }
    )
    dense = pruned.drop_duplicates("baseline_id").assign(
        **dict.fromkeys(OF_PRUNING),
        stage_id=lambda rows: rows["baseline_id"],
        level=0,
        method="dense",
        density=1.0,
        compression_ratio=1.0,
        train_epochs=TIMES[-1],
        search_cost_epochs=0,
        test_accuracy=0.93,
        val_accuracy=0.93,
    )
    made = pd.concat([dense, pruned], ignore_index=True)
    return made.reindex(columns=list(COLUMNS))


OF_PRUNING = ("parent_id", "structure", "criterion", "schedule_kind", "prune_fraction")
OF_PRUNING += ("retrain_epochs", "baseline_test_accuracy", "speedup")


def seconds_and_memory(command: str, table: str) -> tuple[float, float, float]:
    """Of the whole process: seconds of the clock and of the CPUs, and its largest size in GiB."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with open("/dev/null", "w") as nowhere:
        subprocess.run(
            [sys.executable, "-m", "analysis", command, table],
            check=True,
            stdout=nowhere,
            stderr=nowhere,
        )
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, after.ru_maxrss / 2**20


def parts_of_commands(table: str) -> dict[str, float]:
    """CPU seconds that reading and each question take."""
    found = {}

    def measured(name: str, function: Callable[[], Any]) -> Any:
        begun = time.process_time()
        result = function()
        found[name] = time.process_time() - begun
        return result

    measured("parquet as a table", lambda: pd.read_parquet(table))
    rows = measured("the same, checked", lambda: read_rows(table))
    measured("pareto", lambda: (pareto(rows), dense_baselines(rows)))
    measured("search-cost", lambda: (search_costs(rows), sharing_of(rows), dense_baselines(rows)))
    measured("headline", lambda: headlines(rows, (NO_DROP, SMALL_DROP)))
    measured("claims", lambda: judge(rows))
    return found


def medians_by_loop(rows: pd.DataFrame) -> list[tuple[float, float, float]]:
    """What ``points_of`` does for one column, a group of rows at a time."""
    pruned = rows[rows["level"] > 0]
    return [
        (group["test_accuracy"].median(), group["test_accuracy"].min(), len(group))
        for _, group in pruned.groupby(POINT, dropna=False)
    ]


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = str(Path(folder) / "rows.parquet")
        made_up(count).to_parquet(table, index=False)
        print(f"{len(pd.read_parquet(table, columns=['seed'])):,} rows; whole commands:")
        for command in COMMANDS:
            seconds, cpu, peak = seconds_and_memory(command, table)
            print(
                f"{command:12} {seconds:6.2f} s, {cpu:6.2f} s of CPU; largest process so far "
                f"{peak:.2f} GiB",
                flush=True,
            )
        small = as_rows(made_up(count // 10), "made up")
        begun = time.perf_counter()
        ours = points_of(small)
        between = time.perf_counter()
        loop = medians_by_loop(small)
        end = time.perf_counter()
        assert len(ours) == len(loop)
        print(
            f"points of {len(small):,} rows: {between - begun:.2f} s; a loop over groups, medians "
            f"of one column: {end - between:.2f} s, {(end - between) / (between - begun):.0f} x"
        )
        parts: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for name, seconds in parts_of_commands(table).items():
                parts.setdefault(name, []).append(seconds)
        print(f"CPU seconds within a process, the least of {ROUNDS} rounds:")
        for name, found in parts.items():
            print(f"{name:22} {min(found):5.2f} s")
        rows = read_rows(table)
        write_rows(rows.head(count // 10), str(Path(folder) / "rows.csv"))
        begun = time.perf_counter()
        read_rows(str(Path(folder) / "rows.csv"))
        print(f"{count // 10:,} rows of csv: {time.perf_counter() - begun:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 1_000_000)
