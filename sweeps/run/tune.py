"""Trains a graph of stages with Ray Tune."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import warnings
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the sweep has its own
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "120")  # sweeps continue from the ledger
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # verbose=0 then means silence
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from pyarrow import fs
from ray import tune
from ray.tune import CheckpointConfig
from ray.tune.experiment import Trial

from rewind_ray.command_line import WRONG_USAGE
from rewind_ray.errors import UserError
from rewind_ray.store.leases import Heartbeat, Watch, this_driver
from rewind_ray.training.failures import is_full
from rewind_ray.training.run import Runtime
from sweeps.options import Options, gpu_share
from sweeps.plan.graph import Node
from sweeps.plan.naming import percent, stage_title
from sweeps.run.dispatcher import ENDED, Dispatcher, State
from sweeps.run.live_view import LiveView
from sweeps.run.own_code import runtime_env
from sweeps.run.ray_access import keep_token_private
from sweeps.run.ray_watch import RayWatch, end_process, own_node_trouble
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
RESTARTS = 3
"""Restarts in a row, without a finished stage between them, of a Ray started for the sweep."""
CONNECT_LOOKS = 40
"""Seconds, about, in which a cluster has to answer; it takes a few."""


def start_ray(address: str) -> None:
    """Connect to a cluster, or start Ray in this process's charge, without its dashboard.

    Workers get the user's own modules that this process has imported.
    """
    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if environment := runtime_env(address):
        quiet["runtime_env"] = environment
    if address == "local":
        ray.init(address="local", include_dashboard=False, **quiet)
    else:
        connect(address, quiet)
    keep_token_private()


def connect(address: str, quiet: dict[str, Any]) -> None:
    """Raises UserError where no cluster answers; Ray alone would try for a quarter of an hour."""
    advice = "start it (ray start --head), give another --address, or leave it out"
    silence = f"no Ray answers at --address {address}; {advice}"
    watch = RayWatch(
        never,
        lambda _: print(f"error: {silence}", file=sys.stderr),
        end=partial(end_process, WRONG_USAGE),
        silent_looks=CONNECT_LOOKS,
    )
    try:
        with watch:
            ray.init(address=address, **quiet)
    except KeyboardInterrupt:
        if watch.ended is None:
            raise
        raise UserError(silence) from None
    except ConnectionError as error:
        raise UserError(f"can't connect to Ray at --address {address}: {error}; {advice}") from None


def never() -> None:
    """No sign of Ray's life, until it is connected to."""
    raise TimeoutError


def train_graph(
    dispatcher: Dispatcher,
    runtime: Runtime,
    options: Options,
    view: LiveView,
    tensorboard: TensorBoard,
    sweep: str,
    source: StageSource | None = None,
) -> None:
    """Train all missing stages, and those that ``source`` adds; return when nothing can run any
    more, or after Ctrl-C."""
    following = trackers(options.tracker, view.note)
    start_ray(options.address)
    gpus = gpu_share(options.gpus_per_trial)
    resources = ray.cluster_resources()
    if gpus is None:
        gpus = 1.0 if resources.get("GPU") else 0.0
    if shortage := shortage_of(options.cpus_per_trial, gpus, resources):
        if options.address == "local":
            raise UserError(shortage)
        view.note(f"{shortage}. Waiting for the cluster to grow")
    runtime = replace(runtime, device="cuda" if gpus else "cpu", ray_version=ray.__version__)
    driver = this_driver()
    at_once = options.max_concurrent or slots(options, gpus, resources)
    searcher = TuneSearcher(
        dispatcher,
        asdict(runtime),
        options.cpus_per_trial,
        gpus,
        driver.token,
        Watch(dispatcher.ledger),
        max(1.0, at_once / RESULTS_PER_SECOND),
        max(node["Resources"].get("CPU", 0) for node in ray.nodes()),
        source,
        MAX_FAILURES,
    )
    if source is not None:
        source.begin(driver.token, at_once)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the live view shows errors
    warnings.filterwarnings("ignore", category=UserWarning, module="ray.tune")
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    monitor = Monitor(searcher, view, tensorboard, following)
    with Heartbeat(dispatcher.ledger, driver):
        run_until_done(searcher, monitor, sweep, at_once, options.address)
    # takes a second, during which the results are shown; Python waits for it before it exits
    threading.Thread(target=ray.shutdown).start()
    if searcher.storage_failure:
        raise OSError(
            f"the storage {dispatcher.ledger.uri} can't be written to: {searcher.storage_failure}; "
            "free some space or change its permissions. Nothing is lost: the same command continues"
        )


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
        searcher.left = max(RUN_STAGES, RUN_STAGES_PER_SLOT * at_once)
        if not searcher.has_next():
            return
        why = run_tune_watched(searcher, monitor, sweep, at_once, go_on)
        gc.collect()  # Tune's trials and handles, which mustn't outlive Ray
        if searcher.storage_failure:
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


def run_tune_watched(
    searcher: TuneSearcher, monitor: Monitor, sweep: str, at_once: int, go_on: str
) -> str | None:
    """``run_tune``; returns how Ray has ended meanwhile, if it has."""
    watch = RayWatch(
        own_node_trouble(), lambda why: monitor.last_words(f"Ray has ended: {why}. {go_on}")
    )
    try:
        with watch:
            run_tune(searcher, monitor, sweep, at_once)
    except KeyboardInterrupt:
        if watch.ended is None:
            raise
    except Exception as error:
        if watch.ended is None and not searcher.storage_failure:
            if not is_full(error):
                raise
            searcher.storage_failure = str(error)
    return watch.ended


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
        num_samples=-1,
        max_concurrent_trials=at_once,
        reuse_actors=True,
        trial_dirname_creator=stage_folder,
        stop=GivingUp(searcher),
        max_failures=searcher.max_failures,
        raise_on_failed_trial=False,
        checkpoint_config=NO_CHECKPOINTS,
        callbacks=[monitor, *monitor.trackers],
        verbose=0,
    )


class GivingUp(tune.Stopper):
    """Ends a trial that fails repeatedly with the same text, and all trials if the storage can't be
    written to."""

    def __init__(self, searcher: TuneSearcher) -> None:
        self._searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._searcher.note_failure(trial_id, result)

    def stop_all(self) -> bool:
        return self._searcher.storage_failure is not None


def shortage_of(cpus: float, gpus: float, resources: dict[str, float]) -> str | None:
    """Why no present machine can run a trial, if so; a cluster may still grow."""
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        there = resources.get(name, 0)
        if wanted > there:
            return (
                f"a trial needs {wanted:g} {name}, but Ray has {there:g} here; "
                f"lower --{name.lower()}s-per-trial"
            )
    return None


def slots(options: Options, gpus: float, resources: dict[str, float]) -> int:
    """Trials that fit at once on the present machines; --max-concurrent for growing clusters."""
    by_cpu = int(resources.get("CPU", 1) // options.cpus_per_trial)
    by_gpu = round(resources.get("GPU", 0) / gpus) if gpus else by_cpu
    return max(1, min(by_cpu, by_gpu))


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
    ) -> None:
        self.searcher = searcher
        self.view = view
        self.tensorboard = tensorboard
        self.trackers = trackers
        """The user's own, which Tune calls after this one."""

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune saves it, and nothing restores it."""
        return {}

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        self.searcher.look_elsewhere()  # Tune calls suggest only where it has room
        while self.searcher.finished_elsewhere:
            self.view.finished_elsewhere(self.searcher.finished_elsewhere.pop())

    def on_trial_start(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
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
            self.tensorboard.epochs,
            node.stage_id,
            result["epoch"],
            result["steps_per_epoch"],
            result["epochs"],
        )

    def on_trial_complete(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        node = self._node(trial)
        self._safely(self.tensorboard.finish, node.stage_id)
        self._end(node)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        node = self._node(trial)
        if node.stage_id not in self.searcher.failures:
            self.searcher.lost[node.stage_id] += 1
        self._trying_again(node)

    def on_trial_error(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        node = self._node(trial)
        if self.searcher.dispatcher.states[node.stage_id] == State.READY:
            self._trying_again(node)
        else:
            self._end(node)

    def _trying_again(self, node: Node) -> None:
        why = self.searcher.failures.get(node.stage_id, WORKER_GONE)
        self.view.note(f"{stage_title(node.stage)} failed ({why}); trying again")

    def all_broke_off(self) -> None:
        """Ray has ended: remove all running stages from the view."""
        for running in list(self.view.running.values()):
            if self.searcher.dispatcher.states[running.node.stage_id] == State.READY:
                self.view.defer(running.node, "continues from its last epoch")
            else:  # its worker had finished it
                self.view.end(running.node, self._outcome(running.node))

    def last_words(self, why: str) -> None:
        """Print why the process ends, from a thread that can't return to the command."""
        self.view.stop()
        print(f"error: {why}", file=sys.stderr, flush=True)

    def _end(self, node: Node) -> None:
        if node.stage_id not in self.view.running:
            return
        state = self.searcher.dispatcher.states[node.stage_id]
        if state == State.ELSEWHERE:
            self.view.defer(node, "trained by another sweep")
        elif state == State.READY and node.stage_id not in self.searcher.out_of_memory:
            self.view.defer(node, "continues to another length")
        elif state == State.READY:
            self.view.defer(node, "out of memory; trying again with fewer stages beside it")
        else:
            self.view.end(node, self._outcome(node))

    def _outcome(self, node: Node) -> str:
        dispatcher = self.searcher.dispatcher
        if dispatcher.states[node.stage_id] == State.DONE:
            row = dispatcher.ledger.sound_row(node.stage_id, max(node.row_epochs))
            if row is None:
                return "its row is damaged"
            collapsed = ", a layer is empty" if row.status == "collapsed" else ""
            return f"test {percent(row.test_accuracy)}{collapsed}"
        return dispatcher.reasons.get(node.stage_id, "")

    def _node(self, trial: Trial) -> Node:
        return self.searcher.dispatcher.graph[trial.config["stage_id"]]

    def _safely(self, write: Any, *arguments: Any) -> None:
        try:
            write(*arguments)
        except Exception as error:
            self.view.note(f"TensorBoard files: {error!r}; the sweep continues without")
