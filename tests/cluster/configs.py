"""The cluster files, read as Ray reads them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
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


def scripts(*names: str) -> list[ModuleType]:
    """Modules of the folder cluster/, which import each other by their names alone."""
    sys.path.insert(0, str(ROOT / "cluster"))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.pop(0)


def load(name: str) -> Config:
    """As it is written."""
    return yaml.safe_load(FILES[name].read_text())


def prepared(name: str) -> Config:
    """With Ray's defaults filled in; shared set-up commands are in the head's and the workers'."""
    return prepare_config(load(name))
