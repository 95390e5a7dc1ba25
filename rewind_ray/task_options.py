"""The built-in tasks' options and what they are if not given. Plain data, no torch."""

from __future__ import annotations

from rewind_ray.network_options import Option

TASK_OPTIONS: dict[str, dict[str, Option]] = {
    "image_classification": {"split": 0.0},
    "classification": {"split": 0.0},
}
"""Key of ``rewind_ray.tasks.TASKS`` -> the task's options and their defaults."""
