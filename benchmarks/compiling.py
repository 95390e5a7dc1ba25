"""When compiling pays: seconds to compile, and an update before and after, taken in turns.

python -m benchmarks.compiling --precisions bf16 fp32
python -m benchmarks.compiling --network wrn_16_8 --updates 3
TORCHINDUCTOR_FORCE_DISABLE_CACHES=1 python -m benchmarks.compiling    # as on a new machine
"""

from __future__ import annotations

import statistics

import torch
import tyro

from rewind_ray.measuring.throughput import Workload, epoch_of_updates, seconds_of, usual_size
from rewind_ray.training.allocator import keep_freed_memory
from rewind_ray.training.arithmetic import arithmetic


def main(
    network: str = "resnet20",
    precisions: tuple[str, ...] = ("fp32", "bf16"),
    updates: int = 20,
    rounds: int = 7,
    threads: int = 2,
    device: str = "cpu",
) -> None:
    """Prints the seconds to compile, both updates' milliseconds and their ratio, and after how many
    updates compiling has paid.

    Args:
        network: name of a network
        precisions: arithmetic to measure
        updates: updates of each a round
        rounds: how often both take turns
        threads: CPU threads
        device: cpu or cuda, where both are recorded
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    place = torch.device(device)
    first = "recorded" if device == "cuda" else "eager"
    second = "recorded and compiled" if device == "cuda" else "compiled"
    for precision in precisions:
        load = Workload(
            network=network, image_size=usual_size(network), precision=precision, density=0.1
        )
        with arithmetic(precision, place):
            plain = epoch_of_updates(load, place, updates, first)
            seconds_of(plain, place)
            compiled = epoch_of_updates(load, place, updates, second)
            whole = seconds_of(compiled, place)
            times = [
                (seconds_of(plain, place) / updates, seconds_of(compiled, place) / updates)
                for _ in range(rounds)
            ]
        before, after = (statistics.median(each) for each in zip(*times, strict=True))
        ratios = [b / a for a, b in times]
        compiling = whole - updates * after
        saved = before - after
        pays = f"pays after {compiling / saved:,.0f} updates" if saved > 0 else "never pays"
        print(
            f"{network}, {device}, {precision}: compiled in {compiling:.1f} s; {1000 * before:.2f} "
            f"ms an update before and {1000 * after:.2f} ms after, ratio "
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); {pays}"
        )


if __name__ == "__main__":
    tyro.cli(main)
