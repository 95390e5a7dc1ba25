"""One sweep on a cluster of spot machines that come and go, against the same sweep undisturbed.

  python -m benchmarks.rehearsal --folder /root/rehearsal     (root: it makes namespaces)

Ray's own autoscaler wants two L4, which are refused, and four A10G, which come. When a tenth of the
stages is done one of these is given notice, after a third one is lost without, after two thirds
another is given notice; the machine that comes for the lost one has a broken device.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from benchmarks.rehearsal.cloud import JOIN_SECONDS, STORE_BYTES, Cloud, put_token, words
from benchmarks.rehearsal.provider import HEAD
from tests.cluster.hosts import (
    HOME,
    LAPTOP,
    ROOT,
    SHARED,
    Machine,
    lay_network,
    machine,
    plug_in,
    why_not,
)
from tests.rewind_ray.s3_store import BUCKET, ENVIRONMENT

HEAD_ADDRESS = "10.77.0.2"
S3 = f"http://{LAPTOP}:5000"
URI = f"s3://{BUCKET}/rehearsal"
TOKEN = "5b" * 32
NOTICE_SECONDS = 30.0
"""Instead of AWS's two minutes."""
BROKEN = 5
"""Number of the machine with a broken device, from 0: four at first, one for that with the notice,
and this one for the lost one."""
PRICES = {HEAD: 0.10, "l4": 0.81, "a10g": 1.01}
"""As in cluster.yaml."""
MOST = {"l4": 2, "a10g": 4}
DRIVER_SECONDS = 3600.0
MISSED_SECONDS = 90.0
"""After which Ray has missed a node that is gone, at the latest."""
STATUS_SECONDS = 300.0
ENDED = re.compile(r"^\[(\d+)/(\d+)\] (\w+)", re.MULTILINE)
"""A line of the driver's for each stage that has ended, or was put back."""


def config(idle_minutes: float) -> dict[str, Any]:
    """Ray's, as ``ray up`` would have left it on the head."""
    kinds = {
        kind: {
            "resources": {"CPU": 1},
            "labels": {"usd-per-hour": f"{PRICES[kind]}"},
            "node_config": {},
            "max_workers": most,
        }
        for kind, most in MOST.items()
    }
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    lists = (
        *("initialization_commands", "setup_commands", "cluster_synced_files"),
        *("head_setup_commands", "worker_setup_commands", "rsync_exclude", "rsync_filter"),
        *("head_start_ray_commands", "worker_start_ray_commands"),
    )
    return {
        "cluster_name": "rehearsal",
        "max_workers": sum(MOST.values()),
        "idle_timeout_minutes": idle_minutes,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "external",
            "module": "benchmarks.rehearsal.provider.FolderProvider",
            "folder": f"{SHARED}/cloud",
            "refuses": ["l4"],
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": HEAD,
        "available_node_types": {HEAD: head, **kinds},
        "file_mounts_sync_continuously": False,
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        **{key: [] for key in lists},
    }


def sweep(seeds: int, levels: int) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "sweeps.compare", "--dataset", "digits"),
        *("--network", "digits_resnet", "--protocol", "digits", "--train-examples", "128"),
        *("--batch-size", "64", "--epochs", "6", "--drops", "4", "5", "--rewind-epoch", "3"),
        *("--methods", "finetune", "weight_rewind", "lr_rewind", "--fraction", "0.5"),
        *("--levels", f"{levels}", "--seeds", f"{seeds}"),
    )


@dataclass(kw_only=True)
class Rehearsal:
    laptop: Machine
    head: Machine
    cloud: Cloud
    env: dict[str, str]
    log: Path
    """The driver's."""
    say: Callable[[str], None]
    wrong: list[str] = field(default_factory=list)
    head_since: float = field(default_factory=time.monotonic)
    driver_since: float = 0.0
    before: float = 0.0
    """Dollars when the driver started."""

    def check(self, holds: bool, what: str) -> None:
        self.say(f"{'ok   ' if holds else 'WRONG'} {what}")
        if not holds:
            self.wrong.append(what)

    def ended(self) -> tuple[int, int]:
        """Stages that have, and all, by the driver's last line."""
        found = ENDED.findall(self.log.read_text()) or [("0", "0", "")]
        return int(found[-1][0]), int(found[-1][1])

    def dollars(self) -> float:
        """Of the head and all workers, by the cloud's own clock."""
        return self.cloud.dollars + PRICES[HEAD] * (time.monotonic() - self.head_since) / 3600

    def status(self) -> dict[str, Any]:
        """What ``rewind-ray status`` says on the laptop."""
        asked = self.laptop.run(
            *words(self.env),
            *(sys.executable, "-m", "sweeps", "status", URI, "--json"),
            timeout=STATUS_SECONDS,
        )
        (said,) = json_in(asked.stdout)["sweeps"]
        return dict(said)

    def look(self, when: str) -> None:
        """Ask for the status, and compare it with what is known here before and after."""
        done_before, dollars_before = self.ended()[0], self.dollars() - self.before
        working_before = {one.name for one in self.cloud.working()}
        said = self.status()
        done_after, _ = self.ended()
        # a machine that is gone is shown until Ray misses it
        working = working_before | {one.name for one in self.cloud.there_lately(MISSED_SECONDS)}
        (cluster,) = said["clusters"] or [None]
        self.say(
            f"status, {when}: {said['done']} done, {len(said['running'])} running, "
            f"{said['waiting']} waiting; {cluster}"
        )
        # a stage's row is there before its driver says so
        self.check(
            done_before <= said["done"] <= done_after + len(MOST) * max(MOST.values()),
            f"{done_before} to {done_after} stages were done",
        )
        parts = said["done"] + len(said["running"]) + said["waiting"]
        self.check(parts == said["stages"], f"these are all {said['stages']}")
        self.check(not said["failures"], "none is given up")
        trains = {one["machine"] for one in said["running"]}
        self.check(trains <= working, f"those that train are there: {', '.join(sorted(trains))}")
        if cluster is None:
            self.check(False, "the driver says nothing of its cluster")
            return
        self.check("l4 refused" in cluster["waits_for"], "L4 is refused")
        dollars_after = self.dollars() - self.before
        # a lost machine counts until Ray misses it; the driver looks every five seconds
        most = dollars_after + 2 * PRICES["a10g"] * MISSED_SECONDS / 3600
        least = dollars_before - sum(MOST.values()) * PRICES["a10g"] * 15 / 3600
        self.check(
            least <= cluster["dollars"] <= most,
            f"${cluster['dollars']:.4f}; the cloud counts ${dollars_before:.4f} to "
            f"${dollars_after:.4f}",
        )


def main(
    seeds: int = 4, levels: int = 5, folder: str | None = None, idle_minutes: float = 1.0
) -> None:
    """Exit code 1 if anything was lost, given up, or not as the status said.

    Args:
        seeds: of the sweep; each has 10 + 3 × levels stages
        levels: of its iterative chains
        folder: for the machines, the logs and the undisturbed storage; a temporary one if left out
        idle_minutes: after which the autoscaler ends an idle machine
    """
    if reason := why_not():
        sys.exit(f"error: {reason}")
    root = Path(folder or tempfile.mkdtemp()).absolute()
    shared = root / "shared"
    shared.mkdir(parents=True)
    begun = time.monotonic()

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - begun), 60)
        line = f"{minutes:2}:{seconds:02}  {text}"
        print(line, flush=True)
        with (root / "rehearsal.log").open("a") as log:
            log.write(line + "\n")

    env = {
        **ENVIRONMENT,
        "AWS_ENDPOINT_URL": S3,
        "AWS_DEFAULT_REGION": "us-east-1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_raylet_start_wait_time_s": f"{JOIN_SECONDS:.0f}",  # 30, and this machine may be busy
        "RAY_worker_niceness": "0",  # else what runs beside it here takes nearly all of the CPU
    }
    with machine("laptop", root, shared) as laptop:
        lay_network(laptop)
        put_token(root / "laptop" / HOME[1:], TOKEN)
        start_store(laptop, env, root / "s3.log")
        with machine("head", root, shared, inside=laptop) as head:
            plug_in(laptop, head, HEAD_ADDRESS)
            put_token(root / "head" / HOME[1:], TOKEN)
            cloud = Cloud(
                *(root, shared, laptop, f"{HEAD_ADDRESS}:6379", env, TOKEN),
                broken=frozenset({BROKEN}),
                say=say,
            )
            rehearsal = Rehearsal(
                laptop=laptop,
                head=head,
                cloud=cloud,
                env=env,
                log=root / "driver.log",
                say=say,
            )
            start_head(rehearsal, root, idle_minutes)
            with cloud:
                rehearse(rehearsal, sweep(seeds, levels))
                undisturbed(laptop, env, sweep(seeds, levels), say)  # while machines are idle
                scale_down(rehearsal, idle_minutes)
                compare(rehearsal)
    if rehearsal.wrong:
        sys.exit("error: " + "; ".join(rehearsal.wrong))


def json_in(text: str) -> dict[str, Any]:
    """The first object in what a command has printed, warnings around it."""
    found: dict[str, Any] = json.JSONDecoder().raw_decode(text, text.index("{"))[0]
    return found


def start_store(laptop: Machine, env: dict[str, str], log: Path) -> None:
    """moto's S3, as one of the laptop's processes."""
    server = (sys.executable, "-m", "moto.server", "--host", LAPTOP, "--port", "5000")
    laptop.start(*words(env), *server, stdout=log.open("w"))
    make = f"import boto3; boto3.client('s3').create_bucket(Bucket={BUCKET!r})"
    for _ in range(60):
        time.sleep(1)
        made = laptop.run(*words(env), sys.executable, "-c", make, timeout=JOIN_SECONDS)
        if made.returncode == 0:
            return
    raise RuntimeError(f"no S3: {log.read_text()}")


def undisturbed(
    laptop: Machine, env: dict[str, str], command: tuple[str, ...], say: Callable[[str], None]
) -> None:
    """The same sweep on the laptop, with a storage on its disk."""
    begun = time.monotonic()
    storage = ("--storage", f"{SHARED}/undisturbed", "--max-concurrent", "2")
    done = laptop.run(*words(env), *command, *storage, timeout=DRIVER_SECONDS)
    if done.returncode != 0:
        raise RuntimeError(f"the undisturbed run failed: {done.stdout}")
    say(f"undisturbed: done in {time.monotonic() - begun:.0f} s")


def start_head(rehearsal: Rehearsal, root: Path, idle_minutes: float) -> None:
    (root / "head/tmp/config.json").write_text(json.dumps(config(idle_minutes)))
    autoscaler = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD,
        "RAY_NODE_TYPE_NAME": HEAD,
    }
    started = rehearsal.head.run(
        *words(rehearsal.env | autoscaler),
        *("ray", "start", "--head", "--num-cpus=0", f"--node-ip-address={HEAD_ADDRESS}"),
        *("--include-dashboard=false", "--autoscaling-config=/tmp/config.json"),
        *(f"--object-store-memory={STORE_BYTES}", f"--labels=usd-per-hour={PRICES[HEAD]}"),
        timeout=JOIN_SECONDS,
    )
    if started.returncode != 0:
        raise RuntimeError(f"no head: {started.stdout}")
    rehearsal.say("the head is up; it trains nothing")


def rehearse(rehearsal: Rehearsal, command: tuple[str, ...]) -> None:
    """The sweep, and what happens to its machines meanwhile."""
    cloud, say = rehearsal.cloud, rehearsal.say
    storage = ("--storage", URI, "--address", "auto", "--max-cost", "20", "--max-hours", "1")
    with rehearsal.log.open("w") as log:
        driver = rehearsal.head.start(*words(rehearsal.env), *command, *storage, stdout=log)
    say(f"head$ {' '.join(('python', *command[1:], *storage))}")
    rehearsal.driver_since, rehearsal.before = time.monotonic(), rehearsal.dollars()
    schedule = [
        (0.03, "at the beginning", None),
        (0.10, "after the first notice", lambda one: cloud.give_notice(one, NOTICE_SECONDS)),
        (0.33, "after the loss", cloud.lose),
        (0.50, "in the middle", None),
        (0.67, "after the second notice", lambda one: cloud.give_notice(one, NOTICE_SECONDS)),
        (0.90, "near the end", None),
    ]
    for share, when, act in schedule:
        while driver.poll() is None:
            ended, total = rehearsal.ended()
            if total and ended >= share * total and (act is None or cloud.working()):
                break
            time.sleep(0.2)
        if driver.poll() is not None:
            rehearsal.check(False, f"the sweep ended before: {when}")
            return
        if act is not None:
            act(cloud.working()[0])
        rehearsal.look(when)
    code = driver.wait(DRIVER_SECONDS)
    say(f"the sweep has ended with {code} after {time.monotonic() - rehearsal.driver_since:.0f} s")
    rehearsal.check(code == 0, "exit code 0")


def compare(rehearsal: Rehearsal) -> None:
    """Rows and checksums against the undisturbed run's, and what the machines did."""
    check, cloud = rehearsal.check, rehearsal.cloud
    judged = rehearsal.laptop.run(
        *words(rehearsal.env),
        *(sys.executable, "-m", "benchmarks.rehearsal.verdict", URI, f"{SHARED}/undisturbed"),
        timeout=STATUS_SECONDS,
    )
    found = json_in(judged.stdout)
    rehearsal.say(f"against the undisturbed run: {found}")
    same = not (found["rows_missing"] or found["rows_different"] or found["weights_different"])
    check(found["rows"] > 0 and same, "rows and checksums are equal")
    log = rehearsal.log.read_text()
    check(" failed  " not in log, "no stage was given up")
    broken = [one for one in cloud.hired.values() if one.broken]
    for one in broken:
        check(f"(on {one.name})" in log, f"{one.name} failed its check")
        check(f"(on {one.name}); this machine gets no more" in log, "it got no more stages")
    check([one.why for one in broken] == ["the autoscaler ended it"], "and was ended")
    check(cloud.refusals() > 0, f"L4 was refused, {cloud.refusals()} times")
    noticed = [one.name for one in cloud.hired.values() if one.noticed]
    check(len(noticed) == 2, f"had notice: {', '.join(noticed)}")
    for name in noticed:
        heard = (rehearsal.log.parent / f"{name}.log").read_text()
        check("this machine ends in" in heard, f"{name} heard of it")


def scale_down(rehearsal: Rehearsal, idle_minutes: float) -> None:
    """Nobody pays for what nobody uses."""
    end = time.monotonic() + 60 * idle_minutes + 120
    while rehearsal.cloud.running() and time.monotonic() < end:
        time.sleep(1)
    rehearsal.check(not rehearsal.cloud.running(), "no machine but the head is left")
    rehearsal.say(f"all in all ${rehearsal.dollars():.4f}")


if __name__ == "__main__":
    tyro.cli(main)
