"""What a cluster has room for: on its present machines, and on those it can still start. No Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rewind_ray.errors import UserError
from sweeps.run.processes import command_lines

Resources = Mapping[str, float]
"""Ray's, of one machine: CPU, GPU and others -> amount."""
AUTOSCALER = "autoscaler/v2/monitor.py", "autoscaler/_private/monitor.py"
"""Ends of the paths of what Ray runs as its autoscaler, on the head."""
PRICE = "usd-per-hour"
"""Label of a machine type in the cluster file: dollars for each hour of one machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineType:
    name: str
    resources: Resources
    most: int
    """Machines of this type at once."""
    dollars: float | None = None
    """An hour of one machine; None: it has no price."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """What an autoscaler may start."""

    types: tuple[MachineType, ...]
    most: int
    """Machines at once, of all types together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    present: tuple[Resources, ...]
    """Of the machines that run."""
    growth: Growth | None = None
    """None: the cluster doesn't grow, or nothing is known about it here."""

    @property
    def machines(self) -> list[Resources]:
        """One of each kind that there is or can be."""
        types = self.growth.types if self.growth else ()
        return [*self.present, *(kind.resources for kind in types if kind.most)]

    def largest(self, name: str) -> float:
        return max((machine.get(name, 0) for machine in self.machines), default=0)

    def slots(self, cpus: float, gpus: float) -> int:
        """Trials at once, 1 at least, on all machines that there can be."""
        present = sum(trials_on(machine, cpus, gpus) for machine in self.present)
        if self.growth is None:
            return max(1, present)
        left, grown = self.growth.most, 0
        on_each = [(trials_on(kind.resources, cpus, gpus), kind.most) for kind in self.growth.types]
        for trials, most in sorted(on_each, reverse=True):
            grown += trials * min(left, most)
            left -= min(left, most)
        return max(1, present, grown)

    def fits(self, cpus: float, gpus: float) -> bool:
        return any(trials_on(machine, cpus, gpus) for machine in self.machines)

    def fits_now(self, cpus: float, gpus: float) -> bool:
        return any(trials_on(machine, cpus, gpus) for machine in self.present)


def trials_on(machine: Resources, cpus: float, gpus: float) -> int:
    """Trials that a machine has room for."""
    by_cpu = int(machine.get("CPU", 0) // cpus)
    return min(by_cpu, round(machine.get("GPU", 0) / gpus)) if gpus else by_cpu


def chosen_gpus(share: float | None, capacity: Capacity, cpus: float) -> float:
    """GPUs of a trial. share: what was asked for; None: a GPU if a machine has one, or will.

    Raises UserError where nothing runs yet and nobody knows what will.
    """
    if share is not None:
        return share
    if capacity.largest("GPU"):
        return 1.0
    if not capacity.fits(cpus, 0) and capacity.growth is None:
        raise UserError(
            "--gpus-per-trial is auto, but no machine of the cluster can train yet, and what it "
            "will start isn't known here; give 1, 1/2, ... for GPUs, or 0 for CPUs"
        )
    return 0.0


def shortage_of(cpus: float, gpus: float, capacity: Capacity) -> str | None:
    """Why no machine that there is or can be has room for a trial, if so."""
    if capacity.fits(cpus, gpus):
        return None
    needs = f"a trial needs {cpus:g} CPU" + (f" and {gpus:g} GPU" if gpus else "")
    seen = dict.fromkeys(map(described, capacity.machines))
    lower = "--cpus-per-trial or --gpus-per-trial" if gpus else "--cpus-per-trial"
    there = " or ".join(seen) or "nothing"
    return f"{needs}, but a machine of this cluster has {there}; lower {lower}"


def described(machine: Resources) -> str:
    gpus = machine.get("GPU", 0)
    return f"{machine.get('CPU', 0):g} CPU" + (f" and {gpus:g} GPU" if gpus else "")


# What the autoscaler was started with


def growth_of(gcs_address: str) -> Growth | None:
    """By the file of the autoscaler that runs on this machine, the head; None where none does.

    gcs_address: of the cluster, ``host:port``.
    """
    for arguments in command_lines().values():
        if not any(argument.endswith(AUTOSCALER) for argument in arguments):
            continue
        given = dict(argument.partition("=")[::2] for argument in arguments)
        file = given.get("--autoscaling-config")
        if file and given.get("--gcs-address", "").endswith(f":{gcs_address.rpartition(':')[2]}"):
            return read_growth(Path(file).expanduser())
    return None


def read_growth(file: Path) -> Growth | None:
    """None for a file that doesn't say what its machines have, such as one of the user's own."""
    try:
        return growth_in(yaml.safe_load(file.read_text()))
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        return None


def growth_in(config: dict[str, Any]) -> Growth | None:
    """config: a cluster file, as Ray fills it in on the head."""
    most = int(config["max_workers"])
    workers = {
        name: settings
        for name, settings in config["available_node_types"].items()
        if name != config["head_node_type"]
    }
    if not workers or any("CPU" not in settings["resources"] for settings in workers.values()):
        return None
    types = [
        MachineType(
            name=name,
            resources={key: float(value) for key, value in settings["resources"].items()},
            most=int(settings.get("max_workers", most)),
            dollars=price_in(settings.get("labels") or {}),
        )
        for name, settings in workers.items()
    ]
    return Growth(types=tuple(types), most=most)


def price_in(labels: Mapping[str, str]) -> float | None:
    """Dollars for each hour of a machine with these labels; None where they name none."""
    try:
        return float(labels[PRICE]) if PRICE in labels else None
    except ValueError:
        return None
