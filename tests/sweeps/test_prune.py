"""``sweeps.prune``: a chain that ends where its target is measured to be reached."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from safetensors.torch import load_file

from rewind_ray.errors import UserError
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol, Stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.targets import Plan, planned, step_of
from rewind_ray.training.run import Runtime
from rewind_ray.training.stage import run_stage
from sweeps.compare import Training
from sweeps.options import Options
from sweeps.plan.graph import build_graph
from sweeps.prune import Measured, Wanted, best_of, chain, main, show, target_of
from sweeps.run.dispatcher import Dispatcher, State
from tests.sweeps.running import tiny_protocol

NETWORK: dict[str, Any] = {"network": "resnet8", "dataset": "digits", "protocol": "digits"}
FILTERS = step_of("filters", "magnitude", "global")


def trained(
    wanted: Wanted, plan: Plan, protocol: Protocol, storage: Path
) -> tuple[Stage, Measured, list[str]]:
    """The chain's end, what was measured, and the stages trained, as the command does it."""
    ledger = Ledger(str(storage))
    end = chain(protocol, protocol, wanted, plan)
    measured = Measured(target_of(wanted), wanted, ledger, None)
    dispatcher = Dispatcher(build_graph([end]), ledger, measured.is_last)
    order = []
    while (node := dispatcher.next_ready()) is not None:
        run_stage(node.job, Runtime(storage=str(storage)))
        order.append(node.stage_id)
        dispatcher.finish(node.stage_id)
    assert dispatcher.ended and dispatcher.counts[State.FAILED] == 0
    return end, measured, order


def test_it_stops_at_the_size_and_exports_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "small.safetensors")
    wanted = Wanted(
        structure="filters",
        target_size="230kB",
        format="safetensors",
        retrain_epochs=1,
        out=out,
    )
    protocol = tiny_protocol(network="resnet8", epochs=1, schedule=Schedule(lr=0.05))
    plan = planned(target_of(wanted), FILTERS, protocol, 0, "--target-size")
    end, measured, order = trained(wanted, plan, protocol, tmp_path / "storage")
    found = best_of(end, measured.ledger, None, measured)
    assert found is not None
    stage, row = found
    assert len(order) == 1 + stage.level < 1 + plan.most  # no step after it was trained
    show(end, found, wanted, measured)
    size = Path(out).stat().st_size
    assert size == measured.value(stage, row) <= 230_000
    tensors = load_file(out).values()
    assert sum(t.numel() * t.element_size() for t in tensors) <= size
    printed = capsys.readouterr().out
    assert "of the" not in printed.partition("\n")[0]
    monkeypatch.chdir(tmp_path)
    there: dict[str, Any] = {"runpy": runpy, "safetensors": safetensors}
    exec(printed.partition("load      ")[2], there)
    assert sum(w.numel() for w in there["network"].parameters()) < row.params_total


@pytest.mark.parametrize(
    ("size", "levels", "why"),
    [
        ("100kB", 1, "the chain ends there"),
        ("2kB", 3, "the rest of the file alone has more"),  # its facts have some 5 kB
    ],
)
def test_how_far_it_got_is_said_and_kept(
    size: str, levels: int, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = Wanted(
        structure="filters",
        target_size=size,
        format="safetensors",
        retrain_epochs=1,
        out=str(tmp_path / "small.safetensors"),
    )
    protocol = tiny_protocol(network="resnet8", epochs=1, schedule=Schedule(lr=0.05))
    plan = Plan(step=FILTERS, steps=levels, most=levels)
    end, measured, order = trained(wanted, plan, protocol, tmp_path / "storage")
    found = best_of(end, measured.ledger, None, measured)
    assert found is not None and found[0].level == 1 and len(order) == 2
    show(end, found, wanted, measured)
    printed = capsys.readouterr().out
    assert f"of the {size[:-2]} kB asked; {why}" in printed
    assert (tmp_path / "small.safetensors").exists()


def test_seeds_are_refused_as_one_network_is_made(storage: Path) -> None:
    with pytest.raises(UserError, match="--seeds is 3, and prune makes one network: --seed N"):
        main(
            training=Training(**NETWORK),
            wanted=Wanted(),
            options=Options(storage=str(storage), seeds=3),
        )
    assert not storage.exists()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"target_size": "500kB"}, r"--target-size with --structure unstructured.*filters"),
        ({"target_size": "5", "structure": "filters"}, r"--target-size is '5'.*such as 500kB"),
        ({"target_latency": "2s", "structure": "filters"}, r"--target-latency is '2s'"),
        ({"target_size": "1MB", "target_latency": "2ms"}, r"--target-size and --target-latency"),
        ({"target_size": "99B", "structure": "filters"}, r"--target-size is 99 B, .*still has"),
        ({"structure": "2:4"}, r"--structure is 2:4, which says itself"),
        ({"structure": "filters", "criterion": "lamp"}, r"criterion 'lamp'"),
        ({"latency_device": "abacus"}, r"--latency-device abacus"),
    ],
)
def test_what_can_not_be_reached_is_refused_first(
    wanted: dict[str, Any], words: str, tmp_path: Path
) -> None:
    options = Options(storage=str(tmp_path / "storage"), dry_run=True)
    with pytest.raises(UserError, match=words):
        main(training=Training(**NETWORK), wanted=Wanted(**wanted), options=options)
    assert not (tmp_path / "storage").exists()


def test_a_dry_run_says_what_the_target_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(storage=str(tmp_path / "storage"), dry_run=True)
    wanted = Wanted(structure="filters", target_size="100kB")
    assert main(training=Training(**NETWORK), wanted=wanted, options=options) == 0
    assert "100 kB takes about" in capsys.readouterr().out
    assert not (tmp_path / "storage").exists()
