"""The running machines of a cluster: which to make an image of, and how to reach it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from image_disk import Shell
from image_ec2 import tags_of
from image_file import Config

NAME, KIND, TYPE, STATUS = (
    *("ray-cluster-name", "ray-node-type"),
    *("ray-user-node-type", "ray-node-status"),
)
RUNTIME = "ray-runtime-config"
"""Ray's tags of machines; by the last one it knows what is set up on a head."""
READY = "up-to-date"


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    id: str
    kind: str
    """``head`` or ``worker``."""
    node_type: str
    status: str
    launched: datetime
    address: str
    key_name: str


def machines_of(ec2: Any, config: Config) -> list[Machine]:
    """The cluster's running machines, by Ray's tags."""
    inside = config["provider"].get("use_internal_ips", False)
    running = [
        {"Name": f"tag:{NAME}", "Values": [config["cluster_name"]]},
        {"Name": "instance-state-name", "Values": ["running"]},
    ]
    found = []
    for page in ec2.get_paginator("describe_instances").paginate(Filters=running):
        for one in (one for group in page["Reservations"] for one in group["Instances"]):
            tags = tags_of(one)
            machine = Machine(
                id=one["InstanceId"],
                kind=tags.get(KIND, ""),
                node_type=tags.get(TYPE, ""),
                status=tags.get(STATUS, "unknown"),
                launched=one["LaunchTime"],
                address=one.get("PrivateIpAddress" if inside else "PublicIpAddress", ""),
                key_name=one.get("KeyName", ""),
            )
            found.append(machine)
    return sorted(found, key=lambda machine: machine.launched)


def choose(machines: Sequence[Machine], wanted: str | None) -> Machine:
    """The machine that was asked for, or a worker, or the head. Raises ValueError."""
    if not machines:
        raise ValueError("no machine of this cluster is running; start one: ray up")
    all_of_them = ", ".join(f"{m.id} ({m.node_type}, {m.status})" for m in machines)
    ready = [machine for machine in machines if machine.status == READY]
    if wanted is not None:
        ready = [machine for machine in ready if machine.id == wanted]
        if not ready:
            raise ValueError(f"no machine {wanted} that is {READY}; there are {all_of_them}")
        return ready[0]
    workers = [machine for machine in ready if machine.kind == "worker"]
    if workers:
        return workers[0]
    if len(ready) < len(machines):
        raise ValueError(
            f"not all machines are {READY}: {all_of_them}. Wait until a worker is, or name the "
            "head with --machine"
        )
    return ready[0]


def shell_on(machine: Machine, auth: Config) -> Shell:
    """As Ray connects. Raises FileNotFoundError if the cluster's private key isn't here."""
    key = Path(auth.get("ssh_private_key") or f"~/.ssh/{machine.key_name}.pem").expanduser()
    if not key.is_file():
        raise FileNotFoundError(
            f"{key} isn't here, the key of {machine.id}: run this on the computer that ran `ray up`"
        )
    options = {
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "20",
        "ServerAliveInterval": "15",
        "StrictHostKeyChecking": "no",  # addresses of spot machines come back with other keys
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
    }
    if auth.get("ssh_proxy_command"):
        options["ProxyCommand"] = auth["ssh_proxy_command"]
    given = (word for name, value in options.items() for word in ("-o", f"{name}={value}"))
    return Shell(ssh=("ssh", "-i", str(key), *given, f"{auth['ssh_user']}@{machine.address}"))


def used_up(ec2: Any, config: Config) -> list[str]:
    """Machines that were taken out of the cluster and still run."""
    mine = [
        {"Name": f"tag:{NAME}", "Values": [hidden(config["cluster_name"])]},
        {"Name": "instance-state-name", "Values": ["pending", "running"]},
    ]
    groups = ec2.describe_instances(Filters=mine)["Reservations"]
    return [one["InstanceId"] for group in groups for one in group["Instances"]]


def hidden(cluster: str) -> str:
    """What Ray's tag of the cluster's name is on a machine that is taken out of it."""
    return f"image of {cluster}"
