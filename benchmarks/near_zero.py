"""A trainable that trains nothing: its stages are done at once. For benchmarks/driver_scale.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune import PlacementGroupFactory

from rewind_ray.ledger import Ledger
from rewind_ray.result import row_from_json


class NearZero(tune.Trainable):
    """Writes the row and the rewind points that are wanted, as the real one does at its end."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        return PlacementGroupFactory([{"CPU": config["cpus"]}])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        config = self.config
        ledger = Ledger(config["runtime"]["storage"])
        template = row_from_json(config["runtime"]["git_commit"].encode())
        for epoch in config["rewind_epochs"]:
            ledger.write_point(config["stage_id"], epoch, b"", {})
        for epochs in config["row_epochs"]:
            row = replace(template, stage_id=config["stage_id"], train_epochs=epochs)
            ledger.write_row(row)
        return {"done": True, "epoch": 1, "epochs": [{}], "steps_per_epoch": 1, "notes": []}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing."""
