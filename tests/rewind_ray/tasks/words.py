"""Tiny translation stages: 64 numbers in words, 4 updates an epoch, 4 epochs."""

from __future__ import annotations

from typing import Any

import torch

from rewind_ray.protocols import multi30k
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol
from rewind_ray.tasks import load_task
from rewind_ray.tasks.translation import Translation

OPTIONS = {"subwords": 90, "longest_output": 40, "bleu_tokenizer": "char"}


def words(**changes: Any) -> Protocol:
    settings: dict[str, Any] = {
        "network": "gnmt_tiny",
        "dataset": "number_words",
        "epochs": 4,
        "schedule": Schedule(lr=0.01, drops=(3,), factor=0.5, warmup_epochs=0.5),
        "train_examples": 64,
        "test_examples": 5,
        "batch_size": 16,
    }
    options = {"task_options": OPTIONS | changes.pop("task_options", {})}
    return multi30k(**settings | changes | options)


def task(**changes: Any) -> Translation:
    loaded = load_task(words(**changes), None, torch.device("cpu"))
    assert isinstance(loaded, Translation)
    return loaded
