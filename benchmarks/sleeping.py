"""A trainable that sleeps instead of training. For benchmarks/driver_scale.py."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune import PlacementGroupFactory

from rewind_ray.result import row_from_json
from rewind_ray.store.ledger import Ledger


class Sleeping(tune.Trainable):
    """One result an epoch. Writes the row and the rewind points that are wanted at its end.

    Stages take from half to one and a half times as long as they are told, so that they don't all
    end together.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        return PlacementGroupFactory([{"CPU": config["cpus"]}])

    def setup(self, config: dict[str, Any]) -> None:
        self._epoch = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        self._epoch += 1
        epochs = max(self.config["row_epochs"])
        share = 0.5 + int(self.config["stage_id"], 16) / 2**64
        time.sleep(float(self.config["runtime"]["data"]) * share / epochs)
        last = self._epoch == epochs
        if last:
            self._finish()
        metrics = {"epoch": self._epoch, "test_accuracy": 0.5, "train_loss": 1.0, "lr": 0.1}
        return {
            "done": last,
            "epoch": self._epoch,
            "epochs": [metrics],
            "steps_per_epoch": 1,
            "notes": [],
        }

    def _finish(self) -> None:
        config = self.config
        ledger = Ledger(config["runtime"]["storage"])
        template = row_from_json(config["runtime"]["git_commit"].encode())
        for epoch in config["rewind_epochs"]:
            ledger.write_point(config["stage_id"], epoch, b"", {})
        for epochs in config["row_epochs"]:
            row = replace(template, stage_id=config["stage_id"], train_epochs=epochs)
            ledger.write_row(row)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing."""
