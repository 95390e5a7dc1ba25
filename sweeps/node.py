"""``python -m sweeps.node``: runs beside Ray on each machine that trains on a cloud.

It asks the cloud every five seconds whether the machine is about to end. If so, Ray puts nothing
new on it, and its workers save the epoch that they are in, with which other machines go on. And it
shuts a machine down on which Ray hasn't run for ten minutes, such as after the head's end: else it
would be paid until somebody notices. With ``--ending`` it asks nobody, acts once and returns:
Kubernetes runs that before it ends a pod.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import tyro

from sweeps.run.processes import command_lines, parent_of

ASK_SECONDS = 5.0
ANSWER_SECONDS = 2.0
WITHOUT_RAY_SECONDS = 600.0
METADATA = {"aws": "http://169.254.169.254", "gcp": "http://metadata.google.internal"}
"""Where a machine asks about itself."""
GCP_SECONDS = 30.0
"""From the notice to the end (Google's documentation of preemptible and spot VMs)."""
TOKEN_SECONDS = "21600"
RAYLET, WORKER = "/raylet/raylet", "ray::StageTrainable"
"""End of the path, and begin of the name, of Ray's processes."""
SHUT_DOWN = ("sudo", "--non-interactive", "shutdown", "-h", "now")

Notice = Callable[[], float | None]
"""Seconds until the machine ends; None: no end is announced. Raises OSError: no answer."""


def aws_notice(metadata: str) -> float | None:
    """By the instance metadata service, version 2; the notice comes two minutes ahead."""
    ask = {"X-aws-ec2-metadata-token-ttl-seconds": TOKEN_SECONDS}
    token = answer_of(f"{metadata}/latest/api/token", ask, "PUT")
    given = {"X-aws-ec2-metadata-token": token}
    try:
        text = answer_of(f"{metadata}/latest/meta-data/spot/instance-action", given)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
    end = datetime.strptime(json.loads(text)["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return max(0.0, (end - datetime.now(UTC)).total_seconds())


def gcp_notice(metadata: str) -> float | None:
    url = f"{metadata}/computeMetadata/v1/instance/preempted"
    preempted = answer_of(url, {"Metadata-Flavor": "Google"})
    return GCP_SECONDS if preempted.strip() == "TRUE" else None


def answer_of(url: str, headers: dict[str, str], method: str = "GET") -> str:
    request = urllib.request.Request(url, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        return str(answer.read(2**16).decode())


NOTICES = {"aws": aws_notice, "gcp": gcp_notice}


@dataclass(frozen=True, kw_only=True, slots=True)
class Raylet:
    """Ray's process on this machine."""

    pid: int
    node_id: str
    gcs_address: str


def raylet_here(node_id: str | None = None) -> Raylet | None:
    """node_id: of the one that is meant, where several run on one machine."""
    for pid, arguments in command_lines().items():
        if not arguments[0].endswith(RAYLET):
            continue
        given = dict(argument.partition("=")[::2] for argument in arguments)
        found = Raylet(
            pid=pid,
            node_id=given.get("--node_id", ""),
            gcs_address=given.get("--gcs-address", ""),
        )
        if node_id in (None, found.node_id):
            return found
    return None


def workers_of(raylet: Raylet) -> list[int]:
    return [
        pid
        for pid, arguments in command_lines().items()
        if arguments[0].startswith(WORKER) and parent_of(pid) == raylet.pid
    ]


def break_off(raylet: Raylet, seconds: float) -> None:
    """Take the node out of the cluster, then let its workers save what they have."""
    # takes seconds to import, and most machines never need it
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    from sweeps.run.draining import set_aside

    try:
        set_aside(GcsClient(address=raylet.gcs_address), raylet.node_id, "its end comes", seconds)
    except Exception as error:  # without the head's answer the workers can still save
        print(f"can't set this node aside: {error}", file=sys.stderr, flush=True)
    for pid in workers_of(raylet):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def shut_down() -> None:
    subprocess.run(SHUT_DOWN, check=False)


def follow(
    notice: Notice,
    find: Callable[[], Raylet | None],
    act: Callable[[Raylet, float], None],
    end: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Until the machine is shut down. act: called once for each raylet that has a notice."""
    with_ray = clock()
    done = None
    while True:
        raylet = find()
        if raylet is not None:
            with_ray = clock()
            left = None
            with suppress(OSError, ValueError, KeyError):  # no answer; the next comes soon
                left = notice()
            if left is not None and raylet != done:
                print(f"this machine ends in {left:.0f} s", file=sys.stderr, flush=True)
                act(raylet, left)
                done = raylet
        elif clock() - with_ray >= WITHOUT_RAY_SECONDS:
            print("Ray is gone: shutting down", file=sys.stderr, flush=True)
            end()
            return
        pause(ASK_SECONDS)


def main(
    cloud: Literal["aws", "gcp"] | None = None,
    ending: float | None = None,
    metadata: str | None = None,
    node_id: str | None = None,
) -> None:
    """Watch over this machine until it ends, or announce its end.

    Args:
        cloud: whose machine it is
        ending: instead of asking a cloud: it ends in so many seconds; announce that and return
        metadata: where it asks about itself, if not at the cloud's usual address
        node_id: of the Ray node to watch over, where several run on this machine
    """
    if ending is not None:
        if (raylet := raylet_here(node_id)) is not None:
            break_off(raylet, ending)
        return
    if cloud is None:
        sys.exit("error: give --cloud aws or gcp, or --ending SECONDS")
    at = metadata or METADATA[cloud]
    follow(
        notice=lambda: NOTICES[cloud](at),
        find=lambda: raylet_here(node_id),
        act=break_off,
        end=shut_down,
    )


if __name__ == "__main__":
    tyro.cli(main, prog="python -m sweeps.node", description=__doc__)
