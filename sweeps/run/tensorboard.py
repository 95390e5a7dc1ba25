"""TensorBoard files: one run for each chain, its stages one after the other in updates."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tensorboard.summary.writer import event_file_writer  # type: ignore[import-untyped]
from torch.utils.tensorboard import SummaryWriter

from rewind_ray.spec import Stage
from rewind_ray.store.files import write_atomically
from rewind_ray.store.ledger import Ledger
from sweeps.plan.graph import Graph, lineages
from sweeps.plan.naming import chain_names

SCALARS = {
    "loss/train": "train_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "val_accuracy",
    "accuracy/test": "test_accuracy",
    "schedule/learning_rate": "lr",
    "size/density": "density",
    "speed/examples_per_second": "examples_per_second",
}
"""Tag -> name in an epoch's metrics."""


@cache
def hush_writer_threads() -> None:
    """Print no traceback of TensorBoard's writing threads, for the rest of this process: what they
    fail with, such as a full disk, they also raise from the next call."""
    usual = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if not isinstance(failure.thread, event_file_writer._AsyncWriterThread):
            usual(failure)

    threading.excepthook = hook


class TensorBoard:
    """Writes the epochs of stages to ``<storage>/tensorboard/<sweep>/<chain>``.

    TensorBoard's writer knows local folders only; for other storage the events are written to a
    temporary folder and moved there when a stage ends.
    """

    def __init__(self, ledger: Ledger, sweep: str, graph: Graph) -> None:
        self.ledger = ledger
        self.graph = graph
        self.folder = ledger.layout.tensorboard(sweep)
        self._names = chain_names(graph)
        self._last = lineages(graph)
        self._staging = None
        if ledger.filesystem.type_name != "local":
            self._staging = tempfile.TemporaryDirectory(prefix="rewind-ray-tensorboard-")
        hush_writer_threads()
        self._open: dict[str, SummaryWriter] = {}
        self._written: dict[str, int] = {}

    def epochs(
        self,
        stage_id: str,
        up_to: int,
        steps_per_epoch: int,
        reported: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Write the stage's epochs up to this one that aren't written yet.

        reported: metrics of some epochs; those of others are read from the ledger.
        """
        at_hand = {metrics["epoch"]: metrics for metrics in reported}
        stage = self.graph[stage_id].stage
        offset = sum(step.train_epochs for step in stage.chain[:-1])
        writer = self._writer(stage, offset * steps_per_epoch)
        for epoch in range(self._written.get(stage_id, 0) + 1, up_to + 1):
            metrics = at_hand.get(epoch) or self.ledger.read_metrics(stage_id, epoch)
            step = (offset + epoch) * steps_per_epoch
            for tag, name in SCALARS.items():
                if metrics.get(name) is not None:
                    writer.add_scalar(tag, metrics[name], step)
            writer.add_scalar("size/level", stage.level, step)
            self._written[stage_id] = epoch

    def finish(self, stage_id: str) -> None:
        """Close the stage's file; at the end of a chain with its settings and results (hparams)."""
        writer = self._open.pop(stage_id, None)
        if writer is None:
            return
        lengths = self.ledger.row_epochs(stage_id)
        if lengths and self._last[stage_id] == stage_id:
            self._add_hparams(writer, stage_id, lengths[-1])
        writer.close()
        if self._staging:
            self._move(self._names[stage_id], Path(self._staging.name))

    def _move(self, name: str, staging: Path) -> None:
        """Move the finished files to the storage, each once."""
        for events in sorted((staging / name).iterdir()):
            target = f"{self.folder}/{name}/{events.name}"
            write_atomically(self.ledger.filesystem, target, events.read_bytes())
            events.unlink()

    def close(self) -> None:
        for stage_id in list(self._open):
            self._open.pop(stage_id).close()
        if self._staging:
            self._staging.cleanup()

    def _writer(self, stage: Stage, first_step: int) -> SummaryWriter:
        """The stage's writer; it purges what an interrupted run wrote from this stage on."""
        if stage.stage_id not in self._open:
            root = self._staging.name if self._staging else self.folder
            folder = f"{root}/{self._name(stage)}"
            self._open[stage.stage_id] = SummaryWriter(folder, purge_step=first_step + 1)
        return self._open[stage.stage_id]

    def _name(self, stage: Stage) -> str:
        """Name of its chain; a graph that has grown keeps its names."""
        if stage.stage_id not in self._names:
            self._names = chain_names(self.graph) | self._names
            self._last = lineages(self.graph)
        return self._names[stage.stage_id]

    def _add_hparams(self, writer: SummaryWriter, stage_id: str, train_epochs: int) -> None:
        row = self.ledger.read_row(stage_id, train_epochs)
        settings: dict[str, Any] = {
            "network": row.network,
            "dataset": row.dataset,
            "method": row.method,
            "structure": row.structure or "dense",
            "schedule_kind": row.schedule_kind or "dense",
            "retrain_epochs": row.retrain_epochs or 0,
            "seed": row.seed,
        }
        results = {
            "result/test_accuracy": row.test_accuracy,
            "result/val_accuracy": row.val_accuracy,
            "result/compression_ratio": row.compression_ratio,
            "result/search_cost_epochs": row.search_cost_epochs,
        }
        given = {name: value for name, value in results.items() if value is not None}
        writer.add_hparams(settings, given, run_name=".")
