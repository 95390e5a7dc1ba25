"""Mikler's ``model.fit`` on noise, through their input pipeline: ResNet-20 with masked layers.

Started by ``benchmarks.peers``: python mikler.py UPDATES THREADS CHECKOUT. Needs TensorFlow 2 with
Keras 2 (from TensorFlow 2.16 on the package tf-keras).
"""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module
from types import ModuleType
from typing import Any

from turns import take_turns

IMAGES = 2048


def main(updates: int, threads: int, checkout: str) -> None:
    sys.path[0] = checkout
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        tf = import_module("tensorflow")
    except ImportError as error:
        sys.exit(f"no TensorFlow: {error}")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    sys.modules["tensorflow_datasets"] = noise_for(tf)
    datasets, models = import_module("training.datasets"), import_module("training.models")
    tools = import_module("training.tools")
    import_module("pruning.tools").globally_enable_pruning()
    optimizer = tf.keras.optimizers.SGD(learning_rate=0.01, momentum=0.9, nesterov=True)
    model = models.ResNetStiff(dataset="cifar10")
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = tools.get_optimizer_lr_metric(optimizer)
    model.compile(optimizer, loss, metrics=["accuracy", *([rate] if rate else [])])
    batches = datasets.cifar()["train"]

    def round_of_updates() -> float:
        begun = time.perf_counter()
        model.fit(x=batches, steps_per_epoch=updates, epochs=1, verbose=0)
        return time.perf_counter() - begun

    take_turns(round_of_updates)


def noise_for(tf: Any) -> ModuleType:
    """In place of tensorflow_datasets, which would download CIFAR-10."""
    images = tf.random.uniform((IMAGES, 32, 32, 3), 0, 256, dtype=tf.int32, seed=0)
    labels = tf.random.uniform((IMAGES,), 0, 10, dtype=tf.int64, seed=0)
    noise = tf.data.Dataset.from_tensor_slices((tf.cast(images, tf.uint8), labels))
    module = ModuleType("tensorflow_datasets")
    module.load = lambda **_: {"train": noise, "test": noise}  # type: ignore[attr-defined]
    return module


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
