"""``rewind-ray doctor``: checks of this machine, or of every node of a cluster."""

from __future__ import annotations

import importlib.metadata
import json as json_text
import os
import platform
import shutil
import stat
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from rewind_ray.command_line import DONE, FAILED, make_console
from rewind_ray.store.files import delete, delete_folder, list_names, read_bytes, write_atomically
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.opening import free_bytes
from sweeps.run.provenance import packages_digest
from sweeps.run.ray_access import token_path

PACKAGES = ("ray", "torch", "torchvision", "numpy", "pandas", "pyarrow")
CLOCK_SECONDS = 5.0
"""Nothing here compares clocks of two machines, but logs and cloud credentials do."""
SLOW_STORAGE_SECONDS = 2.0
FEW_BYTES = 2 * 10**9
NODE_TIMEOUT_SECONDS = 120

Verdict = Literal["ok", "warning", "error"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    node: str
    check: str
    verdict: Verdict
    seen: str
    advice: str = ""
    """What to do about it."""


# On a node


def facts_of_node(storage: str) -> dict[str, Any]:
    """Facts about the machine that this process runs on, as plain data. Never raises."""
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "code": packages_digest(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "cores": len(os.sched_getaffinity(0)),
        "omp_threads": os.environ.get("OMP_NUM_THREADS"),
        "gpus": gpus_here(),
        "mps": mps_runs(),
        "storage": try_storage(storage),
        "time": time.time(),
        "token_mode": token_mode(),
    }


def token_mode() -> int | None:
    """Permission bits of Ray's token; None if there is no such file."""
    try:
        return stat.S_IMODE(token_path().stat().st_mode)
    except OSError:
        return None


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def gpus_here() -> dict[str, Any]:
    """GPUs that the driver lists, and the number that torch can use."""
    listed = output_of(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    import torch

    return {
        "listed": listed.splitlines() if listed else [],
        "usable": torch.cuda.device_count() if torch.cuda.is_available() else 0,
    }


def mps_runs() -> bool | None:
    """Whether NVIDIA's Multi-Process Service runs; None if it isn't installed."""
    if not shutil.which("nvidia-cuda-mps-control"):
        return None
    return output_of(["pgrep", "-f", "nvidia-cuda-mps-control"]) is not None


def output_of(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def try_storage(storage: str) -> dict[str, Any]:
    """Write, read back, write over and delete a small file; seconds it took, or what went wrong."""
    begun = time.perf_counter()
    try:
        ledger = Ledger(storage)
        path = ledger.layout.probe()
        for content in (b"one", b"another"):
            write_atomically(ledger.filesystem, path, content)
            if read_bytes(ledger.filesystem, path) != content:
                raise OSError("what was read isn't what was written")
        delete(ledger.filesystem, path)
        free = free_bytes(ledger.filesystem, ledger.root)
    except (OSError, ValueError) as error:
        return {"error": str(error)}
    return {"seconds": time.perf_counter() - begun, "free": free}


# Checks: from facts to a verdict, what was seen, and what to do about it


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    facts: dict[str, Any]
    driver: dict[str, Any]
    """Facts of the driver's machine."""
    offset: float = 0.0
    """Seconds that the node's clock is ahead of the driver's."""
    needed: int | None = None
    """Bytes that the sweep will write."""


Outcome = tuple[Verdict, str, str] | tuple[Verdict, str]


def check_python(node: Node) -> Outcome:
    own, drivers = node.facts["python"], node.driver["python"]
    if own == drivers:
        return "ok", own
    return "error", f"{own}, the driver has {drivers}", "install the same Python on every node"


def check_code(node: Node) -> Outcome:
    own, drivers = node.facts["code"], node.driver["code"]
    if own == drivers:
        return "ok", own
    seen = f"the packages' code is {own}, the driver's {drivers}"
    return "error", seen, "sync the same commit to every node"


def check_packages(node: Node) -> Outcome:
    own, drivers = node.facts["packages"], node.driver["packages"]
    differing = [
        f"{name} {version or 'missing'} (driver: {drivers[name] or 'missing'})"
        for name, version in own.items()
        if version != drivers[name] or version is None
    ]
    if differing:
        return "error", "; ".join(differing), "pip install -c constraints.txt . on every node"
    return "ok", ", ".join(f"{name} {own[name]}" for name in PACKAGES[:2])


def check_gpu(node: Node) -> Outcome:
    listed, usable = node.facts["gpus"]["listed"], node.facts["gpus"]["usable"]
    if listed and usable < len(listed):
        advice = "match torch's CUDA build to the driver; see CUDA_VISIBLE_DEVICES"
        return "error", f"{len(listed)} listed, torch can use {usable}", advice
    if not listed and not usable:
        return "ok", "none; stages run on the CPU"
    return "ok", "; ".join(listed) or f"{usable} usable"


def check_mps(node: Node) -> Outcome | None:
    if not node.facts["gpus"]["usable"]:
        return None
    if node.facts["mps"]:
        return "ok", "running"
    seen = "not running" if node.facts["mps"] is False else "not installed"
    return "warning", seen, "with several stages on a GPU: nvidia-cuda-mps-control -d"


def check_storage(node: Node) -> Outcome:
    storage = node.facts["storage"]
    if "error" in storage:
        advice = "every node must reach it: a shared folder, or s3:// with credentials on the nodes"
        return "error", storage["error"], advice
    seen = f"written, read and deleted in {storage['seconds']:.2f} s"
    if storage["seconds"] > SLOW_STORAGE_SECONDS:
        return "warning", seen, "short epochs will wait for it"
    return "ok", seen


def check_free_space(node: Node) -> Outcome | None:
    free = node.facts["storage"].get("free")
    if free is None:
        return None
    needed = node.needed
    wanted = "" if needed is None else f"; the sweep will write {needed / 1e9:.1f} GB"
    seen = f"{free / 1e9:.1f} GB free{wanted}"
    if free >= (FEW_BYTES if needed is None else needed):
        return "ok", seen
    advice = "free some space, or use --keep referenced, or another --storage"
    return "warning" if needed is None else "error", seen, advice


def check_token(node: Node) -> Outcome | None:
    mode = node.facts.get("token_mode")
    if mode is None or not mode & 0o077:
        return None
    seen = f"Ray's token can be read by others: mode {mode:04o}"
    return "warning", seen, "chmod 600 ~/.ray/auth_token"


def check_clock(node: Node) -> Outcome:
    seen = f"{node.offset:+.1f} s from the driver's"
    if abs(node.offset) > CLOCK_SECONDS:
        return "warning", seen, "run an NTP client"
    return "ok", seen


def check_threads(node: Node) -> Outcome:
    threads, cores = node.facts["omp_threads"], node.facts["cores"]
    if threads and int(threads) > cores:
        advice = "unset it; --cpus-per-trial sets the threads of a stage"
        return "warning", f"OMP_NUM_THREADS={threads} on {cores} cores", advice
    return "ok", f"{cores} cores"


CHECKS: dict[str, Callable[[Node], Outcome | None]] = {
    "python": check_python,
    "code": check_code,
    "packages": check_packages,
    "gpu": check_gpu,
    "mps": check_mps,
    "storage": check_storage,
    "disk": check_free_space,
    "token": check_token,
    "clock": check_clock,
    "threads": check_threads,
}
"""None: the check doesn't apply to the node."""


def check_node(name: str, node: Node) -> list[CheckResult]:
    outcomes = {check: function(node) for check, function in CHECKS.items()}
    return [result_of(name, check, *outcome) for check, outcome in outcomes.items() if outcome]


def result_of(node: str, check: str, verdict: Verdict, seen: str, advice: str = "") -> CheckResult:
    return CheckResult(node=node, check=check, verdict=verdict, seen=seen, advice=advice)


def check_shared(storage: str, seen_by: dict[str, list[str]]) -> list[CheckResult]:
    """seen_by: node -> the marks that it saw in the storage, where every node left one."""
    seen = f"{storage} isn't the same place as on the other nodes"
    advice = "give a shared folder (NFS), or s3:// or gs://"
    return [
        result_of(node, "storage", "error", seen, advice)
        for node, marks in seen_by.items()
        if len(marks) < len(seen_by)
    ]


# Nodes


def examine(storage: str, address: str | None, needed: int | None) -> list[CheckResult]:
    """Check this machine, or with an ``address`` every node of that Ray cluster."""
    driver = facts_of_node(storage)
    if address is None:
        return check_node(driver["host"], Node(facts=driver, driver=driver, needed=needed))
    return examine_cluster(storage, address, driver, needed)


def examine_cluster(
    storage: str, address: str, driver: dict[str, Any], needed: int | None
) -> list[CheckResult]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from sweeps.run.ray_start import start_ray

    start_ray(address)
    nodes = {
        f"{node['NodeManagerHostname']} {node['NodeManagerAddress']} {node['NodeID'][:6]}": node
        for node in ray.nodes()
        if node["Alive"]
    }

    def on(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        here = NodeAffinitySchedulingStrategy(nodes[name]["NodeID"], soft=False)
        remote = ray.remote(num_cpus=0, scheduling_strategy=here)(function)  # type: ignore[call-overload]
        return ray.get(remote.remote(*arguments), timeout=NODE_TIMEOUT_SECONDS)

    token = f".doctor-{uuid.uuid4().hex[:8]}"
    results, reached = [], []
    for name in nodes:
        asked = time.time()
        try:
            facts = on(name, facts_of_node, storage)
            offset = facts["time"] - time.time()  # its last fact: the way back is short
            node = Node(facts=facts, driver=driver, offset=offset, needed=needed)
            results += check_node(name, node)
            on(name, leave_mark, storage, token, name)
        except Exception as error:
            seen = f"after {time.time() - asked:.0f} s: {str(error).strip().splitlines()[-1]}"
            advice = "is rewind-ray installed there, from the same commit?"
            results.append(result_of(name, "node", "error", seen, advice))
        else:
            reached.append(name)
    seen_by = {name: on(name, marks_seen, storage, token) for name in reached}
    clear_marks(storage, token)
    ray.shutdown()
    return results + check_shared(storage, seen_by)


def leave_mark(storage: str, token: str, node: str) -> None:
    ledger = Ledger(storage)
    name = f"{ledger.layout.marks(token)}/{uuid.uuid5(uuid.NAMESPACE_DNS, node).hex}"
    write_atomically(ledger.filesystem, name, node.encode())


def marks_seen(storage: str, token: str) -> list[str]:
    ledger = Ledger(storage)
    return list_names(ledger.filesystem, ledger.layout.marks(token))


def clear_marks(storage: str, token: str) -> None:
    ledger = Ledger(storage)
    folder = ledger.layout.marks(token)
    for name in marks_seen(storage, token):
        delete(ledger.filesystem, f"{folder}/{name}")
    if ledger.filesystem.type_name == "local":
        delete_folder(ledger.filesystem, folder)


def needed_by(sweep: str, storage: str, keep: str) -> int:
    """Bytes that a recorded sweep has still to write. Raises UserError for an unknown sweep."""
    from sweeps.plan.estimate import disk_bytes
    from sweeps.plan.graph import build_graph, unfinished

    ledger = Ledger(storage)
    stages = [ledger.read_spec(stage_id) for stage_id in ledger.read_sweep(sweep)["stages"]]
    return disk_bytes(unfinished(build_graph(stages), ledger), keep, None)


# The command


def doctor_command(
    storage: str = "results",
    address: str | None = None,
    sweep: str | None = None,
    keep: Literal["all", "referenced"] = "all",
    json: bool = False,
) -> int:
    """Check that a sweep can run here; exit code 1 if something is missing.

    Checked are: Python and packages on every node against the driver's, GPUs, MPS, the storage
    from every node, free disk space, clocks, threads.

    Examples:
      rewind-ray doctor --storage results
      rewind-ray doctor --storage results --sweep quickstart
      rewind-ray doctor --address auto --storage s3://bucket/results --json

    Args:
        storage: storage root of the sweeps
        address: Ray cluster to check (auto, or host:port); this machine if left out
        sweep: compare the free disk space with what this recorded sweep has still to write
        keep: rewind points of the baselines that the sweep keeps
        json: print only JSON on stdout
    """
    needed = needed_by(sweep, storage, keep) if sweep else None
    results = examine(storage, address, needed)
    if json:
        print(json_text.dumps([asdict(result) for result in results], indent=1))
    else:
        show(results)
    return FAILED if any(result.verdict == "error" for result in results) else DONE


STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


def show(results: list[CheckResult]) -> None:
    console = make_console()
    for name in dict.fromkeys(result.node for result in results):
        table = Table(title=name, title_justify="left", show_header=False)
        for result in results:
            if result.node == name:
                advice = f"\n→ {result.advice}" if result.advice else ""
                verdict = Text(result.verdict, style=STYLES[result.verdict])
                table.add_row(verdict, result.check, Text(f"{result.seen}{advice}"))
        console.print(table)
    counts = Counter[str](result.verdict for result in results)
    console.print(", ".join(f"{counts[verdict]} {verdict}" for verdict in STYLES))
