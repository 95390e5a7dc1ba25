"""Ray's own autoscaler with many stages that wait for a machine each: rounds, CPU and memory.

  python -m benchmarks.autoscaler_scale 100 300 1000

Its reconciler runs as on the head, where it has a round every five seconds, with a cloud that
starts a machine at once; none joins the cluster meanwhile. Seconds are of CPU.
"""

from __future__ import annotations

import logging
import resource
import time
from typing import Annotated

import tyro
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

from tests.cluster.configs import prepared
from tests.cluster.failing_cloud import Cloud, rounds

TRIAL = {"CPU": 1.0, "GPU": 1.0}


def main(
    machines: Annotated[tuple[int, ...], tyro.conf.Positional] = (100, 300, 1000),
    upscaling_speed: float = 1.0,
) -> None:
    """Print a line for each number of machines.

    Args:
        machines: wanted, one for each waiting stage
        upscaling_speed: of the cluster file
    """
    logging.disable(logging.WARNING)
    print(f"{'machines':>8} {'rounds':>7} {'CPU s':>7} {'of the last round':>18} {'MiB':>6}")
    for wanted in machines:
        count, seconds, last = until_all_are_there(wanted, upscaling_speed)
        mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{wanted:8} {count:7} {seconds:7.1f} {last:18.2f} {mebibytes:6.0f}", flush=True)


def until_all_are_there(wanted: int, upscaling_speed: float) -> tuple[int, float, float]:
    """Rounds until the cloud has started them all, and seconds of CPU, in all and of the last."""
    settings = prepared("gcp") | {"max_workers": wanted, "upscaling_speed": upscaling_speed}
    settings["available_node_types"]["l4"]["max_workers"] = wanted
    config = AutoscalingConfig(settings, skip_content_hash=True)
    cloud, begun = Cloud(), time.process_time()
    before = begun
    for number, _ in enumerate(rounds(cloud, config, TRIAL, trials=wanted), 1):
        now = time.process_time()
        if cloud.running().total() >= wanted:
            return number, now - begun, now - before
        before = now
    raise AssertionError("rounds have no end")


if __name__ == "__main__":
    tyro.cli(main)
