"""Updates a second on one GPU, in every way there is, beside the bare loop and the device's limit.

First the tests that are marked ``gpu``, then the measurements, the most telling ones first; what
doesn't fit into the minutes is left out and listed. Needs what rewind_ray needs, and no Ray; the
tests need pytest and hypothesis as well.

  python -m benchmarks.gpu
  python -m benchmarks.gpu --minutes 3 --no-tests --out gpu.json
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from rewind_ray.measuring.packing import Trial, side_by_side
from rewind_ray.measuring.throughput import (
    Noise,
    Workload,
    bare_updates,
    epoch_of_updates,
    seconds_of,
    usual_size,
)
from rewind_ray.pruning.flops import multiply_adds
from rewind_ray.training.arithmetic import arithmetic, check_precision

PASSES = 3
"""Forward passes that an update costs: one, and a backward pass of about two."""
MATRIX = 8192
"""Side of the matrices whose product measures the device's arithmetic."""
SECONDS = 1.0
"""Of a measurement, after warming up."""
TESTS, MARK = Path("tests/rewind_ray"), "pytest.mark.gpu"
TESTS_SECONDS = 150
"""That the tests may take."""
OUTPUT_KEPT = 20_000
"""Characters of the tests' output, where they fail."""
PRECISIONS = ("bf16", "tf32", "fp32")
NETWORKS = {"resnet20": 128, "wrn_16_8": 128, "resnet56": 128, "resnet50": 256}
"""Name -> batch size."""
AT_ONCE = (1, 2, 4, 8)


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    network: str
    batch_size: int
    image_size: int
    precision: str
    way: str
    at_once: int = 1
    updates_per_second: float = 0.0
    """Of all together."""
    share_of_limit: float | None = None
    """Of what the device's arithmetic would allow, were it never idle."""
    peak_gib: float | None = None
    """Of the device's memory, of one process."""
    failure: str = ""


def main() -> int:
    given = parsed()
    if not torch.cuda.is_available():
        print("torch sees no GPU here", file=sys.stderr)
        return 1
    end = time.monotonic() + 60 * given.minutes
    device = torch.device("cuda")
    found: dict[str, Any] = {"machine": machine(device), "tests": None, "limits": {}, "lines": []}
    print(" ".join(f"{name} {value};" for name, value in found["machine"].items()), flush=True)
    if given.tests:
        found["tests"] = tests_on_gpu()
        print(f"tests marked gpu: {found['tests']['summary']}", flush=True)
        given.out.write_text(json.dumps(found, indent=1))
    limits = {precision: products_a_second(precision, device) for precision in PRECISIONS}
    found["limits"] = limits
    for precision, rate in limits.items():
        speed = "not there" if rate is None else f"{2e-12 * rate:,.0f} TFLOP/s"
        print(f"{precision}: {speed} in a product of matrices")
    print(HEADING)
    left_out = []
    for name, measure in measurements(device, limits):
        if time.monotonic() > end:
            left_out.append(name)
            continue
        line = tried(name, measure)
        found["lines"].append(asdict(line) if isinstance(line, Line) else line)
        print(shown(line), flush=True)
        given.out.write_text(json.dumps(found, indent=1))
    found["left_out"] = left_out
    given.out.write_text(json.dumps(found, indent=1))
    if left_out:
        print("no time left for: " + "; ".join(left_out))
    print(f"written to {given.out}")
    return int(found["tests"] is not None and found["tests"]["code"] != 0)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8, help="after which nothing is begun")
    parser.add_argument("--no-tests", dest="tests", action="store_false", help="only measure")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="file of all results")
    return parser.parse_args()


def machine(device: torch.device) -> dict[str, str]:
    return {
        "gpu": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "python": platform.python_version(),
    }


def tests_on_gpu() -> dict[str, Any]:
    """Whether they pass. They are left out where pytest or what they import isn't installed.

    Only files that have such tests are read: others import what only commands and sweeps need.
    """
    missing = [name for name in ("pytest", "hypothesis") if find_spec(name) is None]
    if missing:
        return {"code": None, "summary": f"not run, without {' and '.join(missing)}"}
    plugins = ["-n", "0"] if find_spec("xdist") else []
    files = sorted(str(path) for path in TESTS.rglob("test_*.py") if MARK in path.read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *plugins, *files]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TESTS_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode()
        summary = f"broken off after {TESTS_SECONDS} s: {''.join(output.splitlines()[-1:])}"
        return {"code": 1, "summary": summary, "output": output[-OUTPUT_KEPT:]}
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    lines = done.stdout.splitlines() or done.stderr.splitlines() or ["no output"]
    output = done.stdout[-OUTPUT_KEPT:] if done.returncode else ""
    return {"code": done.returncode, "summary": lines[-1], "failed": failed, "output": output}


def products_a_second(precision: str, device: torch.device) -> float | None:
    """Multiply-adds of a large product of matrices; None where the GPU hasn't this precision."""
    try:
        check_precision(precision, device)
    except ValueError:
        return None
    with arithmetic(precision, device):
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        one = torch.randn(MATRIX, MATRIX, device=device, dtype=dtype)

        def products(times: int = 5) -> float:
            for _ in range(times):
                one @ one
            return 0.0

        seconds_of(products, device)
        return 5 * float(MATRIX) ** 3 / seconds_of(products, device)


Measure = Callable[[], Line | dict[str, Any]]


def measurements(
    device: torch.device, limits: dict[str, float | None]
) -> Iterator[tuple[str, Measure]]:
    """Name -> what measures it, in the order in which they are made."""

    def alone(network: str, precision: str, way: str) -> tuple[str, Measure]:
        load = load_of(network, precision)
        name = f"{network} {precision} {way}"
        return name, lambda: one_stage(load, way, device, limits[precision])

    def together(network: str, number: int) -> tuple[str, Measure]:
        load = load_of(network, "bf16")
        name = f"{network} bf16, {number} at once"
        return name, lambda: several(load, number, limits["bf16"])

    there = [precision for precision in PRECISIONS if limits[precision] is not None]
    for network in ("resnet20", "wrn_16_8"):
        for way in ("bare", "eager", "recorded"):
            yield alone(network, "bf16", way)
    for number in AT_ONCE:
        yield together("resnet20", number)
    for precision in there[1:]:
        for way in ("bare", "eager", "recorded"):
            yield alone("resnet20", precision, way)
    for network in ("resnet56", "resnet50"):
        for way in ("bare", "eager", "recorded"):
            yield alone(network, "bf16", way)
    for way in ("compiled", "recorded and compiled"):
        yield alone("resnet20", "bf16", way)
    yield "determinism", lambda: settings_cost(device)
    for number in AT_ONCE[1:]:
        yield together("wrn_16_8", number)
    for network in ("wrn_16_8", "resnet56", "resnet50"):
        for precision in there[1:]:
            for way in ("bare", "eager", "recorded"):
                yield alone(network, precision, way)
        yield alone(network, "bf16", "recorded and compiled")


def load_of(network: str, precision: str) -> Workload:
    return Workload(
        network=network,
        precision=precision,
        image_size=usual_size(network),
        batch_size=NETWORKS[network],
        density=0.1,
    )


def one_stage(load: Workload, way: str, device: torch.device, limit: float | None) -> Line:
    """way: one of ``throughput.WAYS``, or ``bare``."""
    torch.cuda.reset_peak_memory_stats()
    with arithmetic(load.precision, device):
        rate = rate_of(load, way, device)
    peak = torch.cuda.max_memory_allocated() / 2**30
    return line_of(load, way, 1, rate, peak, limit)


def rate_of(load: Workload, way: str, device: torch.device) -> float:
    """Updates a second, of as many as take about SECONDS."""

    def prepared(steps: int) -> Callable[[], float]:
        if way == "bare":
            return bare_updates(load, device, steps)
        return epoch_of_updates(load, device, steps, way)

    short = prepared(20)
    seconds_of(short, device)  # compiles, records
    steps = max(20, int(20 * SECONDS / seconds_of(short, device)))
    if "compiled" in way:  # another would be compiled again
        rounds = max(1, steps // 20)
        return 20 * rounds / sum(seconds_of(short, device) for _ in range(rounds))
    del short
    gc.collect()
    long = prepared(steps)
    seconds_of(long, device)
    return steps / seconds_of(long, device)


def several(load: Workload, number: int, limit: float | None) -> Line:
    trial = Trial(load=load, device="cuda", at_once=number, threads=1, seconds=3.0, way="recorded")
    found = side_by_side(trial)
    line = line_of(load, "recorded", number, found.updates_per_second, found.peak_gib, limit)
    return Line(**{**asdict(line), "failure": found.failure})


def settings_cost(device: torch.device) -> dict[str, Any]:
    """Updates a second of recorded bf16 with deterministic algorithms as they are in training,
    without them, and with cuDNN trying out its algorithms as well."""
    rates: dict[str, Any] = {}
    for network in ("resnet20", "resnet50"):
        load = load_of(network, "bf16")
        for name, deterministic, tries in (
            ("deterministic", True, False),
            ("not deterministic", False, False),
            ("not deterministic, benchmark", False, True),
        ):
            with arithmetic("bf16", device):
                torch.use_deterministic_algorithms(deterministic)
                torch.backends.cudnn.deterministic = deterministic
                torch.backends.cudnn.benchmark = tries
                rates[f"{network}, {name}"] = round(rate_of(load, "recorded", device), 1)
    return {"updates_per_second": rates}


def line_of(
    load: Workload, way: str, number: int, rate: float, peak: float, limit: float | None
) -> Line:
    task = Noise(load, torch.device("cpu"), 1)
    adds = sum(multiply_adds(task.network(0), task.example()).values())
    needed = PASSES * load.batch_size * adds * rate
    return Line(
        network=load.network,
        batch_size=load.batch_size,
        image_size=load.image_size,
        precision=load.precision,
        way=way,
        at_once=number,
        updates_per_second=round(rate, 2),
        share_of_limit=round(needed / limit, 4) if limit else None,
        peak_gib=round(peak, 3),
    )


def tried(name: str, measure: Measure) -> Line | dict[str, Any]:
    """A measurement that fails is a line of the table."""
    try:
        return measure()
    except Exception as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        return {"what": name, "failure": text}
    finally:
        gc.collect()
        torch.cuda.empty_cache()


HEADING = (
    f"{'network':10} {'batch':>5} {'side':>5} {'':5} {'way':22} {'at once':>7} {'updates/s':>10} "
    f"{'of the limit':>12} {'memory':>9}"
)


def shown(line: Line | dict[str, Any]) -> str:
    if isinstance(line, dict):
        return json.dumps(line)
    limit = "" if line.share_of_limit is None else f"{100 * line.share_of_limit:.1f}%"
    memory = "" if line.peak_gib is None else f"{line.peak_gib:.2f} GiB"
    return (
        f"{line.network:10} {line.batch_size:5} {line.image_size:5} {line.precision:5} "
        f"{line.way:22} {line.at_once:7} {line.updates_per_second:10,.1f} {limit:>12} {memory:>9}"
        f" {line.failure}"
    )


if __name__ == "__main__":
    sys.exit(main())
