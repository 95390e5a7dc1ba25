"""A graph of stages, trained by Ray Tune."""

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
from typing import Any

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # we have loggers of our own
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "120")  # the ledger is the truth, not snapshots
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # verbose=0 then means silence
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from pyarrow import fs
from ray import tune
from ray.tune import CheckpointConfig
from ray.tune.experiment import Trial

from rewind_ray.errors import UserError
from rewind_ray.store.leases import Heartbeat, Watch, this_driver
from rewind_ray.training.failures import is_full
from rewind_ray.training.run import Runtime
from sweeps.options import Options, gpu_share
from sweeps.plan.graph import Node
from sweeps.plan.naming import percent, stage_title
from sweeps.run.dispatcher import ENDED, Scheduler, State
from sweeps.run.progress import Progress
from sweeps.run.ray_access import keep_token_private
from sweeps.run.ray_watch import RayWatch, own_node_trouble
from sweeps.run.tensorboard import Boards
from sweeps.run.tune_searcher import WORKER_GONE, GraphSearcher, Source
from trainables.stage_trainable import StageTrainable

RESULTS_PER_SECOND = 50
"""Of all trials together, at most: 2.5 ms of the driver's CPU time each (docs/scale.md)."""
RUN_STAGES, RUN_STAGES_A_SLOT = 5_000, 100
"""Stages of one run of Tune, which remembers all of its trials: the larger of the two. At the end
of a run slots are idle, so it has to be long against one stage."""
NO_CHECKPOINTS = CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False)
"""Of Tune's own: every epoch is in the ledger, where a trial goes on after a failure. A pointer to
it would take Tune seven requests to an object store, more than the epoch itself."""
RESTARTS = 3
"""Of a Ray that was started for the sweep, one after the other without a stage finished between."""
MAX_FAILURES = 8
"""Tries of a stage after the first. A lost node counts as one, so there are more than a mistake
in the code needs."""


def start_ray(address: str) -> None:
    """Connect to a cluster, or start Ray in this process's charge, without its dashboard."""
    if ray.is_initialized():
        return
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        ray.init(address="local", include_dashboard=False, **quiet)
    else:
        ray.init(address=address, **quiet)
    keep_token_private()


def train_graph(
    scheduler: Scheduler,
    runtime: Runtime,
    options: Options,
    progress: Progress,
    boards: Boards,
    sweep: str,
    source: Source | None = None,
) -> None:
    """Train all that is missing, and what ``source`` adds. Returns when nothing can run any more,
    or after Ctrl-C."""
    start_ray(options.address)
    gpus = gpu_share(options.gpus_per_trial)
    resources = ray.cluster_resources()
    if gpus is None:
        gpus = 1.0 if resources.get("GPU") else 0.0
    if shortage := shortage_of(options.cpus_per_trial, gpus, resources):
        if options.address == "local":
            raise UserError(shortage)
        progress.note(f"{shortage}. Waiting for the cluster to grow")
    runtime = replace(runtime, device="cuda" if gpus else "cpu", ray_version=ray.__version__)
    driver = this_driver()
    at_once = options.max_concurrent or slots(options, gpus, resources)
    searcher = GraphSearcher(
        scheduler,
        asdict(runtime),
        options.cpus_per_trial,
        gpus,
        driver.token,
        Watch(scheduler.ledger),
        max(1.0, at_once / RESULTS_PER_SECOND),
        max(node["Resources"].get("CPU", 0) for node in ray.nodes()),
        source,
    )
    if source is not None:
        source.begin(driver.token, at_once)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the view and the list tell errors
    warnings.filterwarnings("ignore", category=UserWarning, module="ray.tune")
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    monitor = Monitor(searcher, progress, boards)
    with Heartbeat(scheduler.ledger, driver):
        run_until_done(searcher, monitor, sweep, at_once, options.address)
    # takes a second, in which the results can be shown; Python waits for it at its end
    threading.Thread(target=ray.shutdown).start()
    if searcher.storage_failure:
        raise OSError(
            f"the storage {scheduler.ledger.uri} can't be written to: {searcher.storage_failure}; "
            "free some space or change its permissions. Nothing is lost: the same command continues"
        )


def run_until_done(
    searcher: GraphSearcher, monitor: Monitor, sweep: str, at_once: int, address: str
) -> None:
    """Runs of Tune, one after the other, until nothing is left, or nothing can be done, to train.

    A Ray that was started for the sweep is started again where it ends. Raises ConnectionError
    where that doesn't help, and for a cluster, which is its owner's to start.
    """
    counts, restarts, ended = searcher.scheduler.counts, 0, -1
    again = "" if address == "local" else "once the cluster is up again, "
    go_on = f"Nothing is lost: {again}the same command continues"
    while True:
        searcher.left = max(RUN_STAGES, RUN_STAGES_A_SLOT * at_once)
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
        monitor.progress.note(f"Ray has ended: {why}. Starting it again")
        ray.shutdown()
        start_ray(address)


def run_tune_watched(
    searcher: GraphSearcher, monitor: Monitor, sweep: str, at_once: int, go_on: str
) -> str | None:
    """As ``run_tune``. How Ray has ended meanwhile, if so; a full storage is noted."""
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


def run_tune(searcher: GraphSearcher, monitor: Monitor, sweep: str, at_once: int) -> None:
    """A run of Tune, with a folder of its own.

    Not by ``Tuner.fit``, whose result is made by unpickling the ``error.pkl`` of every failed trial
    from the storage, so that whoever can write there could run code in the driver.
    """
    scheduler = searcher.scheduler
    tune.run(
        StageTrainable,
        name=datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f"),
        storage_path=scheduler.ledger.layout.tune(sweep),
        storage_filesystem=tune_filesystem(scheduler),
        search_alg=searcher,
        num_samples=-1,
        max_concurrent_trials=at_once,
        reuse_actors=True,
        trial_dirname_creator=stage_folder,
        stop=GivingUp(searcher),
        max_failures=MAX_FAILURES,
        raise_on_failed_trial=False,
        checkpoint_config=NO_CHECKPOINTS,
        callbacks=[monitor],
        verbose=0,
    )


class GivingUp(tune.Stopper):  # type: ignore[misc]
    """Ends a trial that breaks off again and again with the same words, and all of them where the
    storage can't be written to."""

    def __init__(self, searcher: GraphSearcher) -> None:
        self._searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._searcher.note_failure(trial_id, result)

    def stop_all(self) -> bool:
        return self._searcher.storage_failure is not None


def shortage_of(cpus: float, gpus: float, resources: dict[str, float]) -> str | None:
    """Why no machine that is here now could take a trial, if so. A cluster may still grow."""
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        there = resources.get(name, 0)
        if wanted > there:
            return (
                f"a trial wants {wanted:g} {name}, but Ray has {there:g} here; "
                f"lower --{name.lower()}s-per-trial"
            )
    return None


def slots(options: Options, gpus: float, resources: dict[str, float]) -> int:
    """Trials that fit at once. A cluster that grows by itself may take more: --max-concurrent."""
    by_cpu = int(resources.get("CPU", 1) // options.cpus_per_trial)
    by_gpu = round(resources.get("GPU", 0) / gpus) if gpus else by_cpu
    return max(1, min(by_cpu, by_gpu))


def tune_filesystem(scheduler: Scheduler) -> fs.FileSystem | None:
    """The ledger's, so that its endpoint and region hold for Tune too; None: the local one."""
    filesystem = scheduler.ledger.filesystem
    return None if filesystem.type_name == "local" else filesystem


def stage_folder(trial: Trial) -> str:
    return f"{trial.config['stage_id']}-{trial.trial_id}"


class Monitor(tune.Callback):  # type: ignore[misc]
    """Tells view and boards what Tune tells it. Never raises: the sweep is worth more."""

    def __init__(self, searcher: GraphSearcher, progress: Progress, boards: Boards) -> None:
        self.searcher = searcher
        self.progress = progress
        self.boards = boards

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps a copy of it that nobody restores."""
        return {}

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        self.searcher.look_elsewhere()  # Tune asks for stages only where it has room
        while self.searcher.finished_elsewhere:
            self.progress.finished_elsewhere(self.searcher.finished_elsewhere.pop())

    def on_trial_start(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        node = self._node(trial)
        if node.stage_id not in self.progress.running:
            self.progress.start(node)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        for note in result.get("notes", ()):
            self.progress.note(note)
        if "epoch" not in result:
            return
        node = self._node(trial)
        last = result["epochs"][-1] if result["epochs"] else {}
        self.progress.advance(node, result["epoch"], len(result["epochs"]), last)
        self._safely(
            self.boards.epochs,
            node.stage_id,
            result["epoch"],
            result["steps_per_epoch"],
            result["epochs"],
        )

    def on_trial_complete(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        node = self._node(trial)
        self._safely(self.boards.finish, node.stage_id)
        self._end(node)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        node = self._node(trial)
        why = self.searcher.failures.get(node.stage_id, WORKER_GONE)
        self.progress.note(f"{stage_title(node.stage)} broke off ({why}); trying again")

    def on_trial_error(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        node = self._node(trial)
        self._end(node)

    def all_broke_off(self) -> None:
        """Nothing runs any more, for a reason that isn't the stages'."""
        for running in list(self.progress.running.values()):
            if self.searcher.scheduler.states[running.node.stage_id] == State.READY:
                self.progress.defer(running.node, "it goes on from its last epoch")
            else:  # its worker had written everything
                self.progress.end(running.node, self._outcome(running.node))

    def last_words(self, why: str) -> None:
        """Why the sweep ends, without a way back to whoever would print it."""
        self.progress.stop()
        print(f"error: {why}", file=sys.stderr, flush=True)

    def _end(self, node: Node) -> None:
        if node.stage_id not in self.progress.running:
            return
        state = self.searcher.scheduler.states[node.stage_id]
        if state == State.ELSEWHERE:
            self.progress.defer(node, "another sweep trains it")
        elif state == State.READY and node.stage_id not in self.searcher.crowded_out:
            self.progress.defer(node, "more of it was asked for; it goes on")
        elif state == State.READY:
            self.progress.defer(node, "out of memory; once more, with fewer neighbours")
        else:
            self.progress.end(node, self._outcome(node))

    def _outcome(self, node: Node) -> str:
        scheduler = self.searcher.scheduler
        if scheduler.states[node.stage_id] == State.DONE:
            row = scheduler.ledger.sound_row(node.stage_id, max(node.row_epochs))
            if row is None:
                return "its row has just been damaged"
            collapsed = ", a layer is empty" if row.status == "collapsed" else ""
            return f"test {percent(row.test_accuracy)}{collapsed}"
        return scheduler.reasons.get(node.stage_id, "")

    def _node(self, trial: Trial) -> Node:
        return self.searcher.scheduler.graph[trial.config["stage_id"]]

    def _safely(self, write: Any, *arguments: Any) -> None:
        try:
            write(*arguments)
        except Exception as error:
            self.progress.note(f"TensorBoard files: {error!r}; the sweep goes on without")
