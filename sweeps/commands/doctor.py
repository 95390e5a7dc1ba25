"""Is everything there that a sweep needs? Looks at this machine, and at every node of a cluster."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import stat
import subprocess
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rewind_ray.store.files import delete, delete_folder, list_names, read_bytes, write_atomically
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.opening import free_bytes
from sweeps.run.provenance import code_digest
from sweeps.run.token import token_path

PACKAGES = ("ray", "torch", "torchvision", "numpy", "pandas", "pyarrow")
CLOCK_SECONDS = 5.0
"""Nothing here compares clocks of two machines, but logs and cloud credentials do."""
SLOW_STORAGE_SECONDS = 2.0
FEW_BYTES = 2 * 10**9

Verdict = Literal["ok", "warning", "error"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    node: str
    check: str
    verdict: Verdict
    seen: str
    advice: str = ""
    """What to do about it."""


# On a node


def facts_of_node(storage: str) -> dict[str, Any]:
    """What this process sees where it runs; plain data. Never raises."""
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "code": code_digest(),
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
    """Permission bits of Ray's token; None where it isn't a file."""
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
    """Those that the driver lists, and whether torch can use them."""
    listed = output_of(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    import torch

    return {
        "listed": listed.splitlines() if listed else [],
        "usable": torch.cuda.device_count() if torch.cuda.is_available() else 0,
    }


def mps_runs() -> bool | None:
    """Whether NVIDIA's Multi-Process Service serves here; None where it can't."""
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


# Judging


def findings_of_node(
    node: str, facts: dict[str, Any], driver: dict[str, Any], offset: float, needed: int | None
) -> list[Finding]:
    """facts: of the node; driver: those of the driver's machine; offset: seconds that the node's
    clock is ahead; needed: bytes that the sweep will write."""

    def line(check: str, verdict: Verdict, seen: str, advice: str = "") -> Finding:
        return Finding(node=node, check=check, verdict=verdict, seen=seen, advice=advice)

    lines = []
    same = facts["python"] == driver["python"]
    lines.append(
        line("python", "ok", facts["python"])
        if same
        else line(
            "python",
            "error",
            f"{facts['python']}, the driver has {driver['python']}",
            "install the same Python on every node",
        )
    )
    if facts["code"] == driver["code"]:
        lines.append(line("code", "ok", facts["code"]))
    else:
        seen = f"rewind_ray is {facts['code']}, the driver's {driver['code']}"
        lines.append(line("code", "error", seen, "sync the same commit to every node"))
    differing = [
        f"{name} {version or 'missing'} (driver: {driver['packages'][name] or 'missing'})"
        for name, version in facts["packages"].items()
        if version != driver["packages"][name] or version is None
    ]
    advice = "pip install -c constraints.txt . on every node"
    told = ", ".join(f"{name} {facts['packages'][name]}" for name in PACKAGES[:2])
    lines.append(
        line("packages", "error", "; ".join(differing), advice)
        if differing
        else line("packages", "ok", told)
    )
    lines += [gpu_finding(line, facts), *mps_finding(line, facts)]
    lines.append(storage_finding(line, facts["storage"]))
    lines += disk_finding(line, facts["storage"], needed)
    mode = facts.get("token_mode")
    if mode is not None and mode & 0o077:
        seen = f"Ray's token can be read by others: mode {mode:04o}"
        lines.append(line("token", "warning", seen, "chmod 600 ~/.ray/auth_token"))
    if abs(offset) > CLOCK_SECONDS:
        lines.append(
            line("clock", "warning", f"{offset:+.1f} s from the driver's", "run an NTP client")
        )
    else:
        lines.append(line("clock", "ok", f"{offset:+.1f} s from the driver's"))
    threads = facts["omp_threads"]
    if threads and int(threads) > facts["cores"]:
        lines.append(
            line(
                "threads",
                "warning",
                f"OMP_NUM_THREADS={threads} on {facts['cores']} cores",
                "unset it; --cpus-per-trial sets the threads of a stage",
            )
        )
    else:
        lines.append(line("threads", "ok", f"{facts['cores']} cores"))
    return lines


def gpu_finding(line: Any, facts: dict[str, Any]) -> Finding:
    listed, usable = facts["gpus"]["listed"], facts["gpus"]["usable"]
    if listed and usable < len(listed):
        return line(
            "gpu",
            "error",
            f"{len(listed)} listed, torch can use {usable}",
            "match torch's CUDA build to the driver; see CUDA_VISIBLE_DEVICES",
        )
    if not listed and not usable:
        return line("gpu", "ok", "none; stages run on the CPU")
    return line("gpu", "ok", "; ".join(listed) or f"{usable} usable")


def mps_finding(line: Any, facts: dict[str, Any]) -> list[Finding]:
    if not facts["gpus"]["usable"]:
        return []
    if facts["mps"]:
        return [line("mps", "ok", "running")]
    return [
        line(
            "mps",
            "warning",
            "not running" if facts["mps"] is False else "not installed",
            "with several stages on a GPU: nvidia-cuda-mps-control -d",
        )
    ]


def storage_finding(line: Any, storage: dict[str, Any]) -> Finding:
    if "error" in storage:
        return line(
            "storage",
            "error",
            storage["error"],
            "every node must reach it: a shared folder, or s3:// with credentials on the nodes",
        )
    seconds = storage["seconds"]
    seen = f"written, read and deleted in {seconds:.2f} s"
    if seconds > SLOW_STORAGE_SECONDS:
        return line("storage", "warning", seen, "short epochs will wait for it")
    return line("storage", "ok", seen)


def disk_finding(line: Any, storage: dict[str, Any], needed: int | None) -> list[Finding]:
    free = storage.get("free")
    if free is None:
        return []
    least = FEW_BYTES if needed is None else needed
    wanted = "" if needed is None else f"; the sweep will write {needed / 1e9:.1f} GB"
    seen = f"{free / 1e9:.1f} GB free{wanted}"
    if free >= least:
        return [line("disk", "ok", seen)]
    advice = "free some space, or use --keep referenced, or another --storage"
    return [line("disk", "warning" if needed is None else "error", seen, advice)]


def shared_storage_finding(storage: str, seen_by: dict[str, list[str]]) -> list[Finding]:
    """seen_by: node -> names of the marks that it saw in the storage; one was left by each."""
    blind = [node for node, marks in seen_by.items() if len(marks) < len(seen_by)]
    if len(seen_by) < 2 or not blind:
        return []
    return [
        Finding(
            node=node,
            check="storage",
            verdict="error",
            seen=f"{storage} isn't the same place as on the other nodes",
            advice="give a shared folder (NFS), or s3:// or gs://",
        )
        for node in blind
    ]


# All of them


def examine(storage: str, address: str | None, needed: int | None) -> list[Finding]:
    """This machine only, or with an ``address`` every node of that Ray cluster."""
    driver = facts_of_node(storage)
    if address is None:
        return findings_of_node(driver["host"], driver, driver, 0.0, needed)
    return examine_cluster(storage, address, driver, needed)


def examine_cluster(
    storage: str, address: str, driver: dict[str, Any], needed: int | None
) -> list[Finding]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from sweeps.run.tune import start_ray

    start_ray(address)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    facts = ray.remote(num_cpus=0)(facts_of_node)
    mark, marks = ray.remote(num_cpus=0)(leave_mark), ray.remote(num_cpus=0)(marks_seen)
    token = f".doctor-{uuid.uuid4().hex[:8]}"
    findings, seen_by = [], {}
    placed = {}
    for node in nodes:
        place = (node["NodeManagerHostname"], node["NodeManagerAddress"], node["NodeID"][:6])
        name = " ".join(place)
        placed[name] = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    for name, strategy in placed.items():
        asked = time.time()
        try:
            there = ray.get(
                facts.options(scheduling_strategy=strategy).remote(storage), timeout=120
            )
            offset = there["time"] - time.time()  # its last fact: the way back is short
            findings += findings_of_node(name, there, driver, offset, needed)
            ray.get(mark.options(scheduling_strategy=strategy).remote(storage, token, name))
        except Exception as error:
            seen = str(error).strip().splitlines()[-1]
            advice = "is rewind-ray installed there, from the same commit?"
            waited = f"after {time.time() - asked:.0f} s: {seen}"
            findings.append(
                Finding(node=name, check="node", verdict="error", seen=waited, advice=advice)
            )
            continue
        seen_by[name] = []
    for name in seen_by:
        seen_by[name] = ray.get(
            marks.options(scheduling_strategy=placed[name]).remote(storage, token), timeout=120
        )
    clear_marks(storage, token)
    ray.shutdown()
    return findings + shared_storage_finding(storage, seen_by)


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


def doctor_command(
    storage: str = "results",
    address: str | None = None,
    sweep: str | None = None,
    keep: Literal["all", "referenced"] = "all",
    as_json: bool = False,
) -> int:
    """Look whether everything is there that a sweep needs; exit code 1 if something isn't.

    Python and packages on every node against the driver's, GPUs, MPS, the storage from every node,
    free disk, clocks, threads.

    Args:
        storage: storage root of the sweeps
        address: of a Ray cluster (auto, or ray://host:10001); this machine only if left out
        sweep: a recorded sweep, whose need of disk is compared with what is free
        keep: rewind points that it keeps
        as_json: print only JSON on stdout
    """
    needed = needed_by(sweep, storage, keep) if sweep else None
    findings = examine(storage, address, needed)
    show(findings, as_json)
    return int(any(finding.verdict == "error" for finding in findings))


def show(findings: Iterable[Finding], as_json: bool) -> None:
    findings = list(findings)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
        return
    node = None
    for finding in findings:
        if finding.node != node:
            node = finding.node
            print(node)
        print(f"  {finding.verdict:8} {finding.check:9} {finding.seen}")
        if finding.advice and finding.verdict != "ok":
            print(f"  {'':8} {'':9} -> {finding.advice}")
    counts = {
        verdict: sum(finding.verdict == verdict for finding in findings)
        for verdict in ("ok", "warning", "error")
    }
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
