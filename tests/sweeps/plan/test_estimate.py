"""Hours at a given rate, against sums done by hand and a schedule played through here."""

from __future__ import annotations

import importlib
import sys

import pytest

from rewind_ray.protocols import digits, mikler_resnet
from rewind_ray.spec import Prune, Retrain, Stage, dense_stage, retrain_stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Runtime
from rewind_ray.training.stage import run_stage
from sweeps.options import Options
from sweeps.plan import estimate
from sweeps.plan.estimate import (
    cost_lines,
    longest_chain_updates,
)
from sweeps.plan.graph import Graph, build_graph, longest_first
from sweeps.run.launch import command
from tests.sweeps.running import tiny_protocol

PRUNE = Prune(fraction=0.2)


def chain(dense: Stage, levels: int, epochs: int, method: str = "lr_rewind") -> Stage:
    stage = dense
    for _ in range(levels):
        stage = retrain_stage(stage, PRUNE, Retrain(method=method, epochs=epochs))
    return stage


def paper_graph() -> Graph:
    """Epochs of 2,000 updates: a baseline of 36, a chain of 3 x 18, and one of 10."""
    dense = dense_stage(mikler_resnet(), 0)
    return build_graph([chain(dense, 3, 18), chain(dense, 1, 10, "finetune")])


def time_line(graph: Graph, ledger: Ledger, rate: float, at_once: int | None) -> str:
    options = Options(updates_per_second=rate, max_concurrent=at_once)
    lines = cost_lines(graph, ledger, options, None)
    (line,) = [line for line in lines if line.startswith("time")]
    return line


@pytest.fixture
def ledger(storage) -> Ledger:
    return Ledger(str(storage))


def test_hours_at_a_given_rate(ledger: Ledger) -> None:
    # (36 + 3 * 18 + 10) epochs * 2,000 updates / (10 updates/s) = 20,000 s
    line = time_line(paper_graph(), ledger, 10, None)
    assert line == "time     about 5.6 hours of one device left at 10 updates/s (given)"


@pytest.mark.parametrize(
    ("at_once", "hours"),
    # 100 epochs of 200 s one after another; from 2 on the chain of 36 + 3 * 18 epochs decides
    [
        (1, "5.6 with 1 at once"),
        (2, "5.0 with 2 at once (the longest chain; more gain nothing)"),
        (16, "5.0 with 16 at once (the longest chain; more gain nothing)"),
    ],
)
def test_stages_that_wait_for_one_another_are_not_divided(
    ledger: Ledger, at_once: int, hours: str
) -> None:
    line = time_line(paper_graph(), ledger, 10, at_once)
    assert line.endswith(f"(given), {hours}")


def test_independent_chains_are_divided(ledger: Ledger) -> None:
    graph = build_graph([dense_stage(mikler_resnet(), seed) for seed in range(8)])
    # 8 * 36 * 2,000 / 40 = 14,400 s
    assert "about 4.0 hours" in (line := time_line(graph, ledger, 40, 4))
    assert line.endswith("1.0 with 4 at once")


def test_the_longest_chain_is_the_longest_from_any_start() -> None:
    graph = paper_graph()
    assert longest_chain_updates(graph, None) == 2000 * max(longest_first(graph).values())


def test_short_times_are_shown(ledger: Ledger) -> None:
    graph = build_graph([dense_stage(tiny_protocol(), 0)])
    # 4 epochs of 2 updates at 1/s: 8 s
    assert "about 0.0022 hours" in time_line(graph, ledger, 1, None)


def test_what_is_done_takes_no_more_time(ledger: Ledger) -> None:
    dense = dense_stage(tiny_protocol(), 0)
    graph = build_graph([chain(dense, 2, 2)])
    run_stage(graph[dense.stage_id].job, Runtime(storage=ledger.uri))
    # 2 * 2 epochs of 2 updates are left, one after the other
    line = time_line(graph, ledger, 1 / 3600, 2)
    assert "about 8.0 hours" in line and ", 8.0 with 2 at once (the longest chain" in line


def test_without_a_rate_the_published_ones_are_taken(ledger: Ledger) -> None:
    lines = "\n".join(cost_lines(paper_graph(), ledger, Options(), None))
    # 200,000 updates at 59.0 updates/s
    assert "about 0.9 GPU-hours left" in lines and "RTX 3080" in lines and "given" not in lines


def test_published_speeds_are_shared_by_devices_too(ledger: Ledger) -> None:
    graph = build_graph([dense_stage(mikler_resnet(), seed) for seed in range(16)])
    lines = cost_lines(graph, ledger, Options(max_concurrent=4), None)
    # 16 * 36 * 2,000 / 59.0 = 19,525 s; the chains are one stage each
    assert "about 5.4 GPU-hours" in lines[-1] and lines[-1].endswith("1.4 with 4 at once")
    lines = cost_lines(graph, ledger, Options(max_concurrent=99), None)
    assert ", 0.34 with 99 at once (the longest chain" in lines[-1]


def test_published_speeds_are_those_of_their_images() -> None:
    """32 pixels; the same network on the digits, of 8 pixels, is no such case."""
    small = digits(network="resnet20", batch_size=128)
    for protocol, published in ((mikler_resnet(), True), (small, False)):
        hours = estimate.rtx_3080_hours(build_graph([dense_stage(protocol, 0)]), None)
        assert (hours is not None) == published


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=r"--updates-per-second is .*; allowed: numbers above 0"):
        Options(updates_per_second=rate)


def test_the_option_reaches_the_dry_run(storage, monkeypatch, capsys) -> None:
    def typed(*options: str) -> tuple[int, str]:
        arguments = ("sweeps.quickstart", "--dry-run", "--storage", str(storage), *options)
        monkeypatch.setattr(sys, "argv", list(arguments))
        with pytest.raises(SystemExit) as exited:
            command(importlib.import_module("sweeps.quickstart").main)
        printed = capsys.readouterr()
        return exited.value.code, printed.out + printed.err

    code, printed = typed("--seeds", "2", "--updates-per-second", "2.5", "--max-concurrent", "4")
    # 368 epochs of 21 updates; the longest chain has 16 + 14 epochs
    assert code == 0
    assert "about 0.86 hours of one device left at 2.5 updates/s (given)" in printed
    assert "0.21 with 4 at once" in printed
    code, printed = typed("--updates-per-second", "-3")
    assert code == 2 and "--updates-per-second is -3; allowed: numbers above 0" in printed
