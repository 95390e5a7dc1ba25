"""The cluster files, read as Ray reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ray.autoscaler._private.util import prepare_config

ROOT = Path(__file__).parents[2]
FILES = {
    "aws": ROOT / "cluster.yaml",
    "gcp": ROOT / "cluster/gcp.yaml",
    "onprem": ROOT / "cluster/onprem.yaml",
}

Config = dict[str, Any]


def load(name: str) -> Config:
    """As it is written."""
    return yaml.safe_load(FILES[name].read_text())


def prepared(name: str) -> Config:
    """With Ray's defaults filled in; shared set-up commands are in the head's and the workers'."""
    return prepare_config(load(name))
