"""Trains a graph of stages with Ray Tune."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the sweep has its own
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "120")  # sweeps continue from the ledger
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # verbose=0 then means silence

import ray
from pyarrow import fs
from ray import tune
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.tune import CheckpointConfig
from ray.tune.experiment import Trial

from rewind_ray.errors import UserError
from rewind_ray.store.leases import Heartbeat, Watch, this_driver
from rewind_ray.training.failures import is_full
from rewind_ray.training.run import Runtime
from sweeps.options import Options, gpu_share
from sweeps.plan.graph import Node
from sweeps.plan.naming import score, stage_title
from sweeps.run.capacity import Capacity, Growth, chosen_gpus, growth_of, shortage_of
from sweeps.run.cluster_watch import ClusterWatch, Limits, asks, check_prices
from sweeps.run.dispatcher import ENDED, Dispatcher, State
from sweeps.run.draining import set_aside
from sweeps.run.failures import record_failures
from sweeps.run.live_view import LiveView
from sweeps.run.notify import Notifier
from sweeps.run.ray_start import start_ray
from sweeps.run.ray_watch import CONTINUES, RayWatch, on_sigterm, own_node_trouble, terminated
from sweeps.run.slots import Slots
from sweeps.run.start_watch import StartWatch, end_worker, machine_of, starting_workers
from sweeps.run.tensorboard import TensorBoard
from sweeps.run.trackers import trackers
from sweeps.run.tune_searcher import MAX_FAILURES, WORKER_GONE, StageSource, TuneSearcher
from trainables.stage_trainable import StageTrainable

RESULTS_PER_SECOND = 50
"""Highest rate of all trials together; each costs 2.5 ms of the driver's CPU (docs/scale.md)."""
RUN_STAGES, RUN_STAGES_PER_SLOT = 5_000, 100
"""Stages of one run of Tune, in all or for each slot, whichever is more. Tune keeps all of its
trials in memory, but slots are idle at the end of a run, so it must be long compared to a stage."""
NO_CHECKPOINTS = CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False)
"""Tune makes no checkpoints: every epoch is in the ledger, from which a trial continues. A pointer
to it would take Tune seven requests to an object store, more than the epoch itself."""
WAIT_SECONDS = 1.0
"""Between two looks for something to train, while there is nothing."""
RESTARTS = 3
"""Restarts in a row, without a finished stage between them, of a Ray started for the sweep."""


def train_graph(
    dispatcher: Dispatcher,
    runtime: Runtime,
    options: Options,
    view: LiveView,
    tensorboard: TensorBoard,
    sweep: str,
    source: StageSource | None = None,
) -> str | None:
    """Train all missing stages, and those that ``source`` adds; return when nothing can run any
    more, after Ctrl-C, or at one of the options' limits, and then which one."""
    following = trackers(options.tracker, sweep, dispatcher.graph, dispatcher.ledger, view.note)
    notifier = Notifier(options.notify, sweep, dispatcher.ledger.uri, view.note)
    start_ray(options.address)
    capacity = capacity_of(options.address)
    cpus = options.cpus_per_trial
    gpus = chosen_gpus(gpu_share(options.gpus_per_trial), capacity, cpus)
    shortage = shortage_of(cpus, gpus, capacity)
    if shortage and (options.address == "local" or capacity.growth):
        raise UserError(shortage)
    if not capacity.fits_now(cpus, gpus):
        view.note("No machine has room for a trial yet. Waiting for the cluster to grow")
    runtime = replace(runtime, device="cuda" if gpus else "cpu", ray_version=ray.__version__)
    driver = this_driver()
    at_once = options.max_concurrent or capacity.slots(cpus, gpus)
    searcher = TuneSearcher(
        dispatcher,
        asdict(runtime),
        cpus,
        gpus,
        driver.token,
        Watch(dispatcher.ledger),
        sweep,
        at_once,
        max(1.0, at_once / RESULTS_PER_SECOND),
        capacity.largest("CPU"),
        source,
        MAX_FAILURES,
        None if options.address == "local" else drain,
    )
    if source is not None:
        source.begin(driver.token, at_once)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the live view shows errors
    warnings.filterwarnings("ignore", category=UserWarning, module="ray.tune")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray blocks it in its jobs
    signal.signal(signal.SIGTERM, on_sigterm)

    def failed(text: str) -> None:
        record_failures(sweep, dispatcher)
        notifier.failure(text)

    watch = watch_of(options.address, capacity.growth)
    if options.max_cost is not None:
        check_prices(watch)
    limits = Limits(watch=watch, hours=options.max_hours, dollars=options.max_cost)
    start_watch = StartWatch(starting_workers)
    monitor = Monitor(searcher, view, tensorboard, following, limits, start_watch, failed)
    view.describe_cluster = watch.describe

    def says() -> dict[str, Any]:
        of_a_cluster = {"sweep": sweep, "pending": view.pending, **watch.says()}
        return {} if options.address == "local" else of_a_cluster

    try:
        with Heartbeat(dispatcher.ledger, driver, says=says), watch:
            run_until_done(searcher, monitor, sweep, at_once, options.address)
    finally:
        notifier.end(view.summary())
    # takes a second, during which the results are shown; Python waits for it before it exits
    threading.Thread(target=ray.shutdown).start()
    if searcher.storage_failure:
        raise OSError(
            f"the storage {dispatcher.ledger.uri} can't be used: {searcher.storage_failure}. Once "
            "that is mended, such as by freeing some space, the same command continues"
        )
    return searcher.limit


def run_until_done(
    searcher: TuneSearcher, monitor: Monitor, sweep: str, at_once: int, address: str
) -> None:
    """Run Tune again and again until nothing is left, or nothing can be done, to train.

    A Ray that was started for the sweep is restarted if it ends. Raises ConnectionError if that
    doesn't help, or if a cluster ends, which isn't ours to start.
    """
    counts, restarts, ended = searcher.dispatcher.counts, 0, -1
    again = "" if address == "local" else "once the cluster is up again, "
    go_on = f"Nothing is lost: {again}the same command continues"
    while True:
        wait_for_work(searcher, monitor)
        if searcher.ended or searcher.must_end():
            searcher.take_back()
            return
        searcher.begin_run(max(RUN_STAGES, RUN_STAGES_PER_SLOT * at_once))
        why = run_tune_watched(searcher, monitor, sweep, at_once, go_on)
        gc.collect()  # Tune's trials and handles, which mustn't outlive Ray
        if searcher.limit:
            searcher.take_back()
            monitor.all_broke_off()
        if searcher.must_end():
            return
        if why is None:
            if not searcher.wants_another_run:
                return
            continue
        searcher.take_back()
        monitor.all_broke_off()
        before, ended = ended, sum(counts[state] for state in ENDED)
        restarts = 1 if ended > before else restarts + 1
        if address != "local" or restarts > RESTARTS:
            raise ConnectionError(f"Ray has ended: {why}. {go_on}")
        monitor.view.note(f"Ray has ended: {why}. Starting it again")
        ray.shutdown()
        start_ray(address)


def wait_for_work(searcher: TuneSearcher, monitor: Monitor) -> None:
    """Return once a stage can begin, all have ended, or none may begin any more."""
    while not (searcher.can_begin() or searcher.ended or searcher.must_end()):
        monitor.look_around()
        time.sleep(WAIT_SECONDS)


def run_tune_watched(
    searcher: TuneSearcher, monitor: Monitor, sweep: str, at_once: int, go_on: str
) -> str | None:
    """``run_tune``; returns how Ray has ended meanwhile, if it has; None after SIGTERM."""

    def last_words(why: str) -> None:
        failed = f"error: Ray has ended: {why}. {go_on}"
        monitor.last_words(CONTINUES if terminated.is_set() else failed)

    watch = RayWatch(own_node_trouble(), last_words)
    try:
        with watch:
            run_tune(searcher, monitor, sweep, at_once)
    except KeyboardInterrupt:
        if watch.ended is None or terminated.is_set():
            raise
    except Exception as error:
        if watch.ended is None and not searcher.storage_failure:
            if not is_full(error):
                raise
            searcher.storage_failure = str(error)
    return None if terminated.is_set() else watch.ended


def run_tune(searcher: TuneSearcher, monitor: Monitor, sweep: str, at_once: int) -> None:
    """One run of Tune, with its own folder.

    Not by ``Tuner.fit``, which unpickles the ``error.pkl`` of every failed trial from the storage:
    whoever can write there could run code in the driver.
    """
    dispatcher = searcher.dispatcher
    tune.run(
        StageTrainable,
        name=datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f"),
        storage_path=dispatcher.ledger.layout.tune(sweep),
        storage_filesystem=tune_filesystem(dispatcher),
        search_alg=searcher,
        scheduler=Slots(searcher.note_low_memory),
        num_samples=-1,
        reuse_actors=True,
        trial_dirname_creator=stage_folder,
        stop=GivingUp(searcher),
        max_failures=0,  # Tune would try again at once, and in the same place
        raise_on_failed_trial=False,
        checkpoint_config=NO_CHECKPOINTS,
        callbacks=[monitor, *monitor.trackers],
        verbose=0,
    )


class GivingUp(tune.Stopper):
    """Ends a trial that fails repeatedly with the same text, all trials if the storage can't be
    used, at a limit each after its epoch, and those that wait for a machine; and where fewer are
    to run at once the surplus ones after their epoch."""

    def __init__(self, searcher: TuneSearcher) -> None:
        self._searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        given_up = self._searcher.note_failure(trial_id, result)
        return given_up or self._searcher.limit is not None or self._searcher.is_surplus(trial_id)

    def stop_all(self) -> bool:
        searcher = self._searcher
        return searcher.storage_failure is not None or bool(searcher.limit and not searcher.started)


def drain(node: str, why: str) -> bool:
    """Give a node no more stages, and let it end once those it has are done; an autoscaler then
    ends its machine and starts another. Whether there is a node left beside it."""
    gcs = GcsClient(address=ray.get_runtime_context().gcs_address)
    others = [one for one in ray.nodes() if one["Alive"] and one["NodeID"] != node]
    return bool(others) and set_aside(gcs, node, why)


def watch_of(address: str, growth: Growth | None) -> ClusterWatch:
    """Of the cluster that this process is connected to; of nothing, where Ray runs here only."""
    if address == "local":
        return ClusterWatch(None)
    here: Any = ray._private.worker._global_node
    log = Path(here.get_logs_dir_path()) / "monitor.log"
    prices = {kind.name: kind.dollars for kind in growth.types} if growth else {}
    return ClusterWatch(asks(ray.get_runtime_context().gcs_address), log, type_prices=prices)


def capacity_of(address: str) -> Capacity:
    """Of the cluster that this process is connected to."""
    present = tuple(node["Resources"] for node in ray.nodes() if node["Alive"])
    growth = None if address == "local" else growth_of(ray.get_runtime_context().gcs_address)
    return Capacity(present=present, growth=growth)


def tune_filesystem(dispatcher: Dispatcher) -> fs.FileSystem | None:
    """The ledger's file system, with its endpoint and region; None: the local one."""
    filesystem = dispatcher.ledger.filesystem
    return None if filesystem.type_name == "local" else filesystem


def stage_folder(trial: Trial) -> str:
    return f"{trial.config['stage_id']}-{trial.trial_id}"


class Monitor(tune.Callback):
    """Passes Tune's events on to the live view and TensorBoard. Never raises."""

    def __init__(
        self,
        searcher: TuneSearcher,
        view: LiveView,
        tensorboard: TensorBoard,
        trackers: list[tune.Callback],
        limits: Limits,
        start_watch: StartWatch,
        failed: Callable[[str], None],
    ) -> None:
        self._limits = limits
        self._start_watch = start_watch
        self.searcher = searcher
        self.view = view
        self.tensorboard = tensorboard
        self.trackers = trackers
        """Those of --tracker, which Tune calls after this one."""
        self.failed = failed
        """Called with title and reason of a stage that isn't tried again."""

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune saves it, and nothing restores it."""
        return {}

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        self.look_around()

    def look_around(self) -> None:
        """What has happened beside the trials."""
        self.searcher.limit = self.searcher.limit or self._limits.reached()
        self.searcher.look_elsewhere()  # Tune calls suggest only where it has room
        self._safely("watch over workers that start", self._give_up_on_overdue)
        while self.searcher.settled:
            node = self.searcher.settled.pop()
            self.view.start(node)
            self._end(node)
        while self.searcher.notes:
            self.view.note(self.searcher.notes.pop(0))
        while self.searcher.finished_elsewhere:
            self.view.finished_elsewhere(self.searcher.finished_elsewhere.pop())

    def on_trial_start(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        self.searcher.note_start(trial.trial_id)
        node = self._node(trial)
        if node.stage_id not in self.view.running:
            self.view.start(node)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        for note in result.get("notes", ()):
            self.view.note(note)
        if "epoch" not in result:
            return
        node = self._node(trial)
        last = result["epochs"][-1] if result["epochs"] else {}
        self.view.advance(node, result["epoch"], len(result["epochs"]), last)
        self._safely(
            "TensorBoard files",
            self.tensorboard.epochs,
            node.stage_id,
            result["epoch"],
            result["steps_per_epoch"],
            result["epochs"],
        )

    def on_trial_complete(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        node = self._node(trial)
        self._safely("TensorBoard files", self.tensorboard.finish, node.stage_id)
        self._end(node)

    def on_trial_error(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        node = self._node(trial)
        if node.stage_id in self.searcher.later:
            self._trying_again(node)
        else:
            self._end(node)

    def _trying_again(self, node: Node) -> None:
        why = self.searcher.failures.get(node.stage_id, WORKER_GONE)
        self.view.note(f"{stage_title(node.stage)} failed: {why}; trying again")
        self.view.pause(node)

    def _give_up_on_overdue(self) -> None:
        """Machines on which workers don't start get no more stages; theirs go elsewhere."""
        for worker in self._start_watch.overdue():
            minutes = self._start_watch.start_seconds / 60
            where = f"(on {machine_of(worker.node)})"
            self.searcher.give_up_on(worker.node, f"no worker started in {minutes:g} min {where}")
            end_worker(worker.actor)

    def all_broke_off(self) -> None:
        """Ray has ended: remove all running stages from the view."""
        for running in list(self.view.running.values()):
            if self.searcher.dispatcher.states[running.node.stage_id] == State.READY:
                self.view.defer(running.node, "continues from its last epoch")
            else:  # its worker had finished it
                self.view.end(running.node, self._outcome(running.node))

    def last_words(self, text: str) -> None:
        """Print why the process ends, from a thread that can't return to the command."""
        self.view.last_words(text)

    def _end(self, node: Node) -> None:
        if node.stage_id not in self.view.running:
            return
        state = self.searcher.dispatcher.states[node.stage_id]
        if state == State.ELSEWHERE:
            self.view.defer(node, "trained by another sweep")
        elif state == State.READY and self.searcher.limit:
            self.view.defer(node, "continues from its last epoch")
        elif state == State.READY and node.stage_id in self.searcher.out_of_memory:
            self.view.defer(node, "out of memory; trying again with fewer stages beside it")
        elif state == State.READY and self.searcher.control.describe():
            self.view.defer(node, "continues from its last epoch")
        elif state == State.READY and node.stage_id in self.searcher.dispatcher.instead_of:
            self.view.defer(node, "taken over from a driver that has ended")
        elif state == State.READY:
            self.view.defer(node, "continues to another length")
        else:
            self.view.end(node, self._outcome(node))
            if state == State.FAILED:
                self._safely(
                    "failure's notice",
                    self.failed,
                    f"{stage_title(node.stage)}: {self._outcome(node)}",
                )

    def _outcome(self, node: Node) -> str:
        dispatcher = self.searcher.dispatcher
        if dispatcher.states[node.stage_id] == State.DONE:
            row = dispatcher.ledger.sound_row(node.stage_id, max(node.row_epochs))
            if row is None:
                return "its row is damaged"
            collapsed = ", a layer is empty" if row.status == "collapsed" else ""
            return f"test {score(row.test_accuracy, row.metric)}{collapsed}"
        return dispatcher.reasons.get(node.stage_id, "")

    def _node(self, trial: Trial) -> Node:
        return self.searcher.dispatcher.graph[trial.config["stage_id"]]

    def _safely(self, what: str, act: Any, *arguments: Any) -> None:
        try:
            act(*arguments)
        except Exception as error:
            self.view.note(f"{what}: {error!r}; the sweep continues without")
