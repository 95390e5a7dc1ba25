"""rewind_ray's epoch loop on noise, with a mask that prunes nothing, as the others'.

Started by ``benchmarks.peers``: python ours.py UPDATES THREADS PRECISION LOOP, where LOOP is eager,
compiled or bare: forward, backward and step on one batch, and glibc's allocator as it is.
"""

from __future__ import annotations

import sys

import torch
from turns import take_turns

from rewind_ray.measuring.throughput import Workload, bare_updates, epoch_of_updates, seconds_of
from rewind_ray.training.allocator import keep_freed_memory
from rewind_ray.training.arithmetic import arithmetic


def main(updates: int, threads: int, precision: str, loop: str) -> None:
    torch.set_num_threads(threads)
    device = torch.device("cpu")
    load = Workload(network="resnet20", precision=precision)
    with arithmetic(precision, device):
        if loop == "bare":
            train = bare_updates(load, device, updates)
        else:
            keep_freed_memory()
            train = epoch_of_updates(load, device, updates, loop)
        take_turns(lambda: seconds_of(train, device))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
