"""From a recipe's stages to results: what every command that trains does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from rewind_ray.command_line import DONE, INTERRUPTED, exit_code, incomplete, make_console, run_cli
from rewind_ray.importing import is_import_path
from rewind_ray.result import ResultRow
from rewind_ray.spec import Stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.opening import check_writable
from rewind_ray.store.patience import patience_of
from rewind_ray.tasks import planned_task, task_of
from rewind_ray.tasks.identity import uncovered
from rewind_ray.training.given import store_given
from rewind_ray.training.run import Runtime
from sweeps.options import Options
from sweeps.plan.chains import sweep_name
from sweeps.plan.estimate import check_disk, check_graph, describe_graph
from sweeps.plan.graph import Graph, build_graph
from sweeps.plan.naming import stage_title
from sweeps.run.dispatcher import Dispatcher, State
from sweeps.run.failures import record_failures
from sweeps.run.live_view import LiveView
from sweeps.run.notify import check_command
from sweeps.run.provenance import git_commit, packages_digest
from sweeps.run.ray_access import listen_on_loopback
from sweeps.run.ray_watch import CONTINUES
from sweeps.run.summary import show_results
from sweeps.run.sweep_log import SweepLog, command_words

DRY_RUN_PATIENCE_SECONDS = 10.0
"""Longest wait for a storage that doesn't answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    name: str
    """Name of its record, TensorBoard and Tune files in the storage."""
    stages: list[Stage]
    """Last stage of each chain; ancestors are added."""
    data: str | None = None
    """Folder of the data set's files, absolute."""
    init: str | None = None
    """File of trained weights, where the protocols have some; see ``Protocol.init``."""
    history: str | None = None
    """Folder of the weights of several epochs, in the place of ``init``."""
    stop: Callable[[Stage, ResultRow], bool] | None = None
    """Whether a chain ends with a row, so that the stages after it aren't needed."""


def command(main: Callable[..., int]) -> None:
    """Parse the command line for ``main``, run it and exit with its code."""
    sys.exit(code_of(main))


def code_of(main: Callable[..., int]) -> int:
    """Parse the command line for ``main``, run it and return its code."""
    module = sys.modules[main.__module__]
    # ``ray submit`` runs a copy of the file, which is no module of a package
    name = module.__spec__.name if module.__spec__ else Path(str(module.__file__)).stem
    name = name.rpartition(".")[2].replace("_", "-")
    return exit_code(
        lambda: run_cli(partial(tyro.cli, main), f"rewind-ray {name}", module.__doc__, None),
        interrupted=CONTINUES,
    )


def run_recipe(name: str, stages: Iterable[Stage], options: Options) -> int:
    """``run_sweep`` with the stages and data that the options ask for."""
    sweep = Sweep(name=sweep_name(name, options), stages=list(stages), data=options.data_folder)
    return run_sweep(sweep, options)


def run_sweep(sweep: Sweep, options: Options) -> int:
    """Train what is missing of the sweep, and show the results; the exit code."""
    console = make_console()
    graph = build_graph(sweep.stages)
    check_graph(graph, sweep.data)
    for warning in left_out(graph, sweep.data):
        console.print(f"[yellow]{escape(warning)}[/]", soft_wrap=True)
    if options.dry_run:
        with patience_of(DRY_RUN_PATIENCE_SECONDS):
            ledger = Ledger(options.storage)
            text = describe_graph(sweep.name, graph, ledger, options, sweep.data)
        console.print(text)
        return DONE
    ledger = Ledger(options.storage)
    check_writable(ledger.filesystem, ledger.root)
    check_command(options.notify)
    with SweepLog(ledger, sweep.name) as log:
        code = train_and_show(sweep, graph, ledger, options, console, log)
        log.add(f"ended with exit code {code}")
    return code


def train_and_show(
    sweep: Sweep, graph: Graph, ledger: Ledger, options: Options, console: Console, log: SweepLog
) -> int:
    store_given(graph, ledger, sweep.init, sweep.history)
    # before counting: gc deletes what isn't recorded
    record_sweep(sweep, graph, ledger, warner(console, log))
    dispatcher = Dispatcher(graph, ledger, sweep.stop)
    already = dispatcher.counts[State.DONE]
    say(
        f"{sweep.name}: {len(graph)} stages, {already} of them done already; storage {ledger.uri}",
        *(console, log),
    )
    code = DONE
    if not dispatcher.ended:
        check_disk(graph, ledger, options.keep, sweep.data)
        prepare_data(sweep)
        code = train(sweep, graph, dispatcher, options, console, log)
    report_trouble(dispatcher, console, log)
    if dispatcher.counts[State.DONE] + dispatcher.counts[State.STOPPED] < len(graph):
        code = code or incomplete()
    stages = {stage_id: node.stage for stage_id, node in graph.items()}
    show_results(sweep.name, finished_rows(graph, ledger), stages, options, console)
    return code


def say(text: str, console: Console, log: SweepLog) -> None:
    """Print a line, and keep it in the sweep's log."""
    console.print(text, markup=False, soft_wrap=True)
    log.add(text)


def warner(console: Console, log: SweepLog) -> Callable[[str], None]:
    """A function that does so with a warning."""

    def warn(text: str) -> None:
        console.print(f"[yellow]{escape(text)}[/]", soft_wrap=True)
        log.add(text)

    return warn


def train(
    sweep: Sweep,
    graph: Graph,
    dispatcher: Dispatcher,
    options: Options,
    console: Console,
    log: SweepLog,
) -> int:
    console.print("Starting Ray; this takes some seconds, on a slow disk a minute.", style="dim")
    listen_on_loopback(options.address)
    # Ray takes seconds to import, and neither --help nor --dry-run needs it
    from sweeps.run.tensorboard import TensorBoard
    from sweeps.run.tune import train_graph

    tensorboard = TensorBoard(dispatcher.ledger, sweep.name, graph)
    with LiveView(sweep.name, graph, dispatcher, console, log) as view:
        try:
            runtime = runtime_of(sweep, options)
            limit = train_graph(dispatcher, runtime, options, view, tensorboard, sweep.name)
        finally:
            tensorboard.close()
            record_failures(sweep.name, dispatcher)
    return how_training_ended(view.summary(), limit, dispatcher.ended, console, log)


def how_training_ended(
    summary: str, limit: str | None, ended: bool, console: Console, log: SweepLog
) -> int:
    """Print it; the exit code. limit: that was reached. ended: nothing is left to train."""
    code = DONE
    say(summary, console, log)
    if limit is not None:
        say(f"Ended early: {limit}. Nothing is lost: the same command continues.", console, log)
        code = incomplete()
    elif not ended:
        say("Interrupted. Nothing is lost: the same command continues.", console, log)
        code = INTERRUPTED
    log.save_soon()
    return code


def runtime_of(sweep: Sweep, options: Options) -> Runtime:
    """The runtime of its stages, except for device and Ray version."""
    return Runtime(
        storage=absolute(options.storage),
        data=data_of(sweep, options),
        threads=options.threads,
        keep=options.keep,
        compile=options.compile,
        git_commit=git_commit(),
    )


def data_of(sweep: Sweep, options: Options) -> str | None:
    """Where its workers have the data from: an archive, where it was unpacked from one here."""
    from_archive = options.pinned_data and sweep.data == options.data_folder
    return options.pinned_data if from_archive else sweep.data


def record_sweep(sweep: Sweep, graph: Graph, ledger: Ledger, warn: Callable[[str], None]) -> None:
    """Write the sweep's stages, command and version of the code to the ledger.

    Warns if the sweep was begun with other code, whose numbers may differ.
    """
    code = packages_digest()
    before = record_before(ledger, sweep.name)
    earlier = before["code"]
    if earlier and earlier[-1] != code:
        warn(
            f"the code has changed since this sweep last ran ({earlier[-1]}, now {code}); "
            "finished stages stay as they are; each row has its git_commit"
        )
    own = own_parts(graph)
    for what, digest in own.items():
        was = before["own"].get(what)
        if was is not None and was != digest:
            warn(
                f"{what} is no longer what it was when this sweep last ran ({was}, "
                f"now {digest}); its stages are other ones, and are trained anew"
            )
    record: dict[str, Any] = {
        "sweep": sweep.name,
        "own": before["own"] | own,
        "command": command_words(),
        "git_commit": git_commit(),
        "code": list(dict.fromkeys([*earlier, code])),
        "stages": {
            stage_id: sorted({*before["stages"].get(stage_id, ()), *lengths})
            for stage_id, lengths in (before["stages"] | rows_asked(graph)).items()
        },
    }
    ledger.write_sweep(sweep.name, record)


def own_parts(graph: Graph) -> dict[str, str]:
    """Networks, data and tasks of the user's own -> their digests."""
    found: dict[str, str] = {}
    for protocol in {node.stage.protocol for node in graph.values()}:
        found[f"network {protocol.network}"] = protocol.network_digest
        found[f"data {protocol.dataset}"] = protocol.data_digest
        found[f"task {protocol.task}"] = protocol.task_digest
    return {what: digest for what, digest in found.items() if digest}


def rows_asked(graph: Graph) -> dict[str, list[int]]:
    return {stage_id: sorted(node.row_epochs) for stage_id, node in graph.items()}


def record_before(ledger: Ledger, name: str) -> dict[str, Any]:
    """``code``, digests of what has run the sweep before, in order; the ``stages`` it had, because
    with fewer seeds it still needs those of the others; and digests of what is the user's ``own``.
    """
    try:
        record = ledger.read_sweep(name)
        return {
            "code": [str(digest) for digest in record["code"]],
            "stages": {stage: [int(n) for n in asked] for stage, asked in record["stages"].items()},
            "own": {str(what): str(digest) for what, digest in record.get("own", {}).items()},
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        return {"code": [], "stages": {}, "own": {}}


def left_out(graph: Graph, data: str | None) -> list[str]:
    """What pruning doesn't reach, of networks of the user's own."""
    warnings = []
    for protocol in {node.stage.protocol for node in graph.values()}:
        if is_import_path(protocol.network) or is_import_path(protocol.task):
            task = planned_task(protocol, data)
            warnings.append(uncovered(task.meta_network(), task.prunable, protocol))
    return [warning for warning in warnings if warning is not None]


def prepare_data(sweep: Sweep) -> None:
    """Download or decode the data once, before the workers start."""
    for protocol in {stage.protocol for stage in sweep.stages}:
        task_of(protocol, sweep.data).prepare()


def report_trouble(dispatcher: Dispatcher, console: Console, log: SweepLog) -> None:
    """Print the stages without a result, and the reasons."""
    for state in (State.DIVERGED, State.FAILED, State.BLOCKED):
        for stage_id, its_state in dispatcher.states.items():
            if its_state == state:
                title = stage_title(dispatcher.graph[stage_id].stage)
                line = f" {stage_id} {title}: {dispatcher.reasons[stage_id]}"
                console.print(Text.assemble((str(state), "red"), line), soft_wrap=True)
                log.add(f"{state}{line}")


def finished_rows(graph: Graph, ledger: Ledger) -> list[ResultRow]:
    listed = ledger.listed(graph)
    rows = ledger.sound_rows(
        (stage_id, epochs)
        for stage_id, node in graph.items()
        for epochs in sorted(node.row_epochs.intersection(listed.row_epochs(stage_id)))
    )
    return list(rows.values())


def absolute(storage: str) -> str:
    """A local path made absolute, because Ray's actors change their working directory."""
    return storage if "://" in storage else str(Path(storage).expanduser().absolute())
