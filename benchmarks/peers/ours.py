"""rewind_ray's epoch loop on noise, with a mask that prunes nothing, as the others'.

Started by ``benchmarks.peers``: python ours.py UPDATES THREADS PRECISION
"""

from __future__ import annotations

import sys

import torch
from turns import take_turns

from rewind_ray.measuring.throughput import Workload, epoch_of_updates, seconds_of
from rewind_ray.training.allocator import keep_freed_memory
from rewind_ray.training.arithmetic import arithmetic


def main(updates: int, threads: int, precision: str) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()
    device = torch.device("cpu")
    with arithmetic(precision, device):
        train = epoch_of_updates(Workload(network="resnet20", precision=precision), device, updates)
        take_turns(lambda: seconds_of(train, device))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
