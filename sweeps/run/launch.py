"""From a recipe's stages to results: what every ``python -m sweeps.…`` does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.text import Text

from rewind_ray.command_line import DONE, FAILED, INTERRUPTED, exit_code, make_console, run_cli
from rewind_ray.result import ResultRow
from rewind_ray.spec import Stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.opening import check_writable
from rewind_ray.store.patience import patience_of
from rewind_ray.tasks import task_of
from rewind_ray.training.run import Runtime
from sweeps.options import Options
from sweeps.plan.chains import sweep_name
from sweeps.plan.estimate import check_disk, check_graph, describe_graph
from sweeps.plan.graph import Graph, build_graph
from sweeps.plan.naming import stage_title
from sweeps.run.dispatcher import Scheduler, State
from sweeps.run.progress import Progress
from sweeps.run.provenance import code_digest, git_commit
from sweeps.run.ray_access import listen_on_loopback
from sweeps.run.summary import show_results

DRY_RUN_PATIENCE_SECONDS = 10.0
"""For a storage that doesn't answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    name: str
    """Of its record, boards and Tune files in the storage."""
    stages: list[Stage]
    """The ends of its chains; ancestors come along."""
    data: str | None = None
    """Folder of the data set's files, absolute."""
    stop: Callable[[Stage, ResultRow], bool] | None = None
    """Whether a chain ends with this row, and what comes after it isn't needed."""


def command(main: Callable[..., int]) -> None:
    """Parse the command line for ``main``, run it and exit with its code."""
    spec = sys.modules["__main__"].__spec__
    code = exit_code(
        lambda: run_cli(
            partial(tyro.cli, main),
            f"python -m {spec.name}" if spec else None,
            sys.modules[main.__module__].__doc__,
            None,
        ),
        interrupted="interrupted; the same command continues",
    )
    sys.exit(code)


def run_recipe(name: str, stages: Iterable[Stage], options: Options) -> int:
    """``run_sweep`` with the stages and data that the options ask for."""
    sweep = Sweep(name=sweep_name(name, options), stages=list(stages), data=options.data_folder)
    return run_sweep(sweep, options)


def run_sweep(sweep: Sweep, options: Options) -> int:
    """Train what is missing of the sweep, and show the results; the exit code."""
    console = make_console()
    graph = build_graph(sweep.stages)
    check_graph(graph, sweep.data)
    if options.dry_run:
        with patience_of(DRY_RUN_PATIENCE_SECONDS):
            ledger = Ledger(options.storage)
            text = describe_graph(sweep.name, graph, ledger, options, sweep.data)
        console.print(text)
        return DONE
    ledger = Ledger(options.storage)
    check_writable(ledger.filesystem, ledger.root)
    record_sweep(sweep, graph, ledger, console)  # before counting: gc deletes what isn't recorded
    scheduler = Scheduler(graph, ledger, sweep.stop)
    already = scheduler.counts[State.DONE]
    console.print(
        f"{sweep.name}: {len(graph)} stages, {already} of them done already; storage {ledger.uri}",
        markup=False,
    )
    code = DONE
    if not scheduler.ended:
        check_disk(graph, ledger, options.keep, sweep.data)
        prepare_data(sweep)
        code = train(sweep, graph, scheduler, options, console)
    report_trouble(scheduler, console)
    if scheduler.counts[State.DONE] + scheduler.counts[State.STOPPED] < len(graph):
        code = code or FAILED
    stages = {stage_id: node.stage for stage_id, node in graph.items()}
    show_results(sweep.name, finished_rows(graph, ledger), stages, options, console)
    return code


def train(
    sweep: Sweep, graph: Graph, scheduler: Scheduler, options: Options, console: Console
) -> int:
    listen_on_loopback(options.address)
    # Ray takes seconds to import, and neither --help nor --dry-run needs it
    from sweeps.run.tensorboard import Boards
    from sweeps.run.tune import train_graph

    boards = Boards(scheduler.ledger, sweep.name, graph)
    with Progress(sweep.name, graph, scheduler, console) as progress:
        try:
            runtime = runtime_of(sweep, options)
            train_graph(scheduler, runtime, options, progress, boards, sweep.name)
        finally:
            boards.close()
            record_failures(sweep.name, scheduler)
    console.print(progress.summary(), markup=False)
    if not scheduler.ended:
        console.print("[bold]Interrupted.[/] Nothing is lost: the same command continues.")
        return INTERRUPTED
    return DONE


def runtime_of(sweep: Sweep, options: Options) -> Runtime:
    """Where and how its stages run, as far as Ray doesn't say."""
    return Runtime(
        storage=absolute(options.storage),
        data=sweep.data,
        threads=options.threads,
        keep=options.keep,
        git_commit=git_commit(),
    )


def record_sweep(sweep: Sweep, graph: Graph, ledger: Ledger, console: Console) -> None:
    """What the sweep consists of, for the analysis, the command and the code that made it.

    Warns where other code has begun it: its numbers may differ from those to come.
    """
    code = code_digest()
    before = record_before(ledger, sweep.name)
    earlier = before["code"]
    if earlier and earlier[-1] != code:
        console.print(
            f"[yellow]the code has changed since this sweep last ran ({earlier[-1]}, now {code}); "
            "finished stages stay as they are; each row tells its git_commit[/]",
            soft_wrap=True,
        )
    record: dict[str, Any] = {
        "sweep": sweep.name,
        "command": [Path(sys.argv[0]).stem, *sys.argv[1:]],
        "git_commit": git_commit(),
        "code": list(dict.fromkeys([*earlier, code])),
        "stages": {
            stage_id: sorted({*before["stages"].get(stage_id, ()), *lengths})
            for stage_id, lengths in (before["stages"] | rows_asked(graph)).items()
        },
    }
    ledger.write_sweep(sweep.name, record)


def record_failures(name: str, scheduler: Scheduler) -> None:
    """Add why stages failed to the sweep's record; what an earlier run had there goes."""
    ledger = scheduler.ledger
    failures = {
        stage_id: scheduler.reasons[stage_id]
        for stage_id, state in scheduler.states.items()
        if state == State.FAILED
    }
    with suppress(OSError, ValueError):  # what stopped the sweep may stop this too
        record = ledger.read_sweep(name)
        if record.get("failures", {}) != failures:
            ledger.write_sweep(name, record | {"failures": failures})


def rows_asked(graph: Graph) -> dict[str, list[int]]:
    return {stage_id: sorted(node.row_epochs) for stage_id, node in graph.items()}


def record_before(ledger: Ledger, name: str) -> dict[str, Any]:
    """``code``, digests of what has run the sweep before, in order, and the ``stages`` it had:
    with fewer seeds it still needs those of the others."""
    try:
        record = ledger.read_sweep(name)
        return {
            "code": [str(digest) for digest in record["code"]],
            "stages": {stage: [int(n) for n in asked] for stage, asked in record["stages"].items()},
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        return {"code": [], "stages": {}}


def prepare_data(sweep: Sweep) -> None:
    """Download or decode once, here, and not in every worker."""
    for protocol in {stage.protocol for stage in sweep.stages}:
        task_of(protocol, sweep.data).prepare()


def report_trouble(scheduler: Scheduler, console: Console) -> None:
    """The stages that came to nothing, and why."""
    for state in (State.DIVERGED, State.FAILED, State.BLOCKED):
        for stage_id, its_state in scheduler.states.items():
            if its_state == state:
                title = stage_title(scheduler.graph[stage_id].stage)
                line = f" {stage_id} {title}: {scheduler.reasons[stage_id]}"
                console.print(Text.assemble((str(state), "red"), line), soft_wrap=True)


def finished_rows(graph: Graph, ledger: Ledger) -> list[ResultRow]:
    listed = ledger.listed(graph)
    rows = ledger.sound_rows(
        (stage_id, epochs)
        for stage_id, node in graph.items()
        for epochs in sorted(node.row_epochs.intersection(listed.row_epochs(stage_id)))
    )
    return list(rows.values())


def absolute(storage: str) -> str:
    """Ray's actors change their working directory."""
    return storage if "://" in storage else str(Path(storage).expanduser().absolute())
