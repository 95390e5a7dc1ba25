"""Make an image of a machine of the running cluster: others start from it and install nothing.

The machine is a worker that is set up, or the head where there is none. It is used up: a worker is
taken out of the cluster, Ray is stopped, what must not be in an image is removed from the disk
(image_disk.py says what), EC2 restarts it and copies the disk, and a worker is then terminated. The
image is private to the account. It costs money by the month until it is deleted.

Examples:
  python cluster/aws_image.py cluster.yaml --write baked.yaml
  python cluster/aws_image.py cluster.yaml --resume ami-0abc --write baked.yaml  # if interrupted
  python cluster/aws_image.py cluster.yaml --list
  python cluster/aws_image.py cluster.yaml --delete ami-0abc  # with its snapshots
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import boto3
import tyro
import yaml
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from image_disk import CLEAN, STOP, removed_paths, strangers
from image_ec2 import (
    FROM_MACHINE,
    FROM_TYPE,
    IMAGE_OF,
    by_description,
    check_allowed,
    check_name,
    describe,
    line_of,
    pairs,
    snapshots_of,
    tag,
    tags_of,
    wait_for,
)
from image_file import Config, edited, use_of
from image_machine import NAME, RUNTIME, Machine, choose, hidden, machines_of, shell_on, used_up

CLUSTER = Path(__file__).parents[1] / "cluster.yaml"
RIGHTS = (
    *("ec2:DescribeInstances", "ec2:DescribeImages", "ec2:DescribeImageAttribute"),
    *("ec2:DescribeSnapshots", "ec2:DescribeSnapshotAttribute"),
    *("ec2:CreateImage", "ec2:CreateTags", "ec2:TerminateInstances"),
    *("ec2:DeregisterImage", "ec2:DeleteSnapshot"),
)
"""What the user of this command has to be allowed."""


def read_cluster(path: Path) -> Config:
    """Raises ValueError for a cluster file that isn't AWS's."""
    config = yaml.safe_load(path.read_text())
    if config["provider"]["type"] != "aws":
        raise ValueError(f"{path} is for {config['provider']['type']}, not for aws")
    return config


def make(
    ec2: Any, config: Config, machine: Machine, name: str, keep: Sequence[str], reboot: bool
) -> str:
    """Use up the machine; the id of the image that has been begun.

    Of what fails or is interrupted before that, no machine is left to be paid: a worker that was
    taken out of the cluster is terminated.
    """
    worker = machine.kind == "worker"
    cluster = config["cluster_name"]
    tags = {"Name": name, IMAGE_OF: cluster, FROM_TYPE: machine.node_type}
    tags |= {FROM_MACHINE: machine.id} if worker else {}
    wanted = {
        "InstanceId": machine.id,
        "Name": name,
        "Description": f"{machine.node_type} of {cluster}, by rewind-ray",
        "NoReboot": not reboot,
        "TagSpecifications": [{"ResourceType": "image", "Tags": pairs(tags)}],
    }
    check_allowed(ec2.create_image, **wanted)
    check_allowed(ec2.terminate_instances, InstanceIds=[machine.id])
    shell = shell_on(machine, config["auth"])
    removed = removed_paths(config.get("file_mounts", {}), config["auth"]["ssh_user"])
    launched = machine.launched.timestamp()
    refuse(strangers(shell, launched, (*removed, *keep)), machine)
    # A worker's new tag hides it from Ray, which would terminate a machine whose Ray has stopped.
    # Without its hash a head is set up in full by the next `ray up`: secret and code are gone.
    tag(ec2, [machine.id], {NAME: hidden(cluster)} if worker else {RUNTIME: "cleaned"})
    try:
        print(f"{machine.id}: stopping Ray", flush=True)
        shell.run(STOP)
        print(f"{machine.id}: removing what must not be in an image", flush=True)
        shell.run(CLEAN, *removed)
        refuse(strangers(shell, launched, keep), machine)
        image = ec2.create_image(**wanted)
    except BaseException:
        if worker:
            ec2.terminate_instances(InstanceIds=[machine.id])
            print(f"{machine.id}: terminated", flush=True)
        raise
    return str(image["ImageId"])


def refuse(files: Sequence[str], machine: Machine) -> None:
    """Raises ValueError if there are any."""
    if files:
        more = f" and {len(files) - 10} more" if len(files) > 10 else ""
        raise ValueError(
            f"these files of {machine.id} may be private, and would be in the image: "
            f"{', '.join(files[:10])}{more}. Remove them, or give --keep FILE ... for what "
            "should be in it"
        )


def finish(ec2: Any, config: Config, image: str, pause: Callable[[float], None]) -> Config:
    """Wait for the image, tag its snapshots, and terminate the worker that was used up for it.

    Raises RuntimeError if EC2 can't make the image.
    """
    try:
        made = wait_for(ec2, image, pause)
    except RuntimeError:
        for left in describe(ec2, image, config):
            end_worker(ec2, config, left)
        raise
    tag(ec2, snapshots_of(ec2, made), {IMAGE_OF: config["cluster_name"], "Name": made["Name"]})
    end_worker(ec2, config, made)
    return made


def end_worker(ec2: Any, config: Config, image: Config) -> None:
    """Terminate the machine of the image, if it is one that was taken out of the cluster."""
    for machine in used_up(ec2, config):
        if machine == tags_of(image).get(FROM_MACHINE):
            ec2.terminate_instances(InstanceIds=[machine])
            print(f"{machine}: terminated", flush=True)


def show(ec2: Any, config: Config) -> None:
    images = describe(ec2, None, config)
    for image in images:
        print(line_of(ec2, image))
    if not images:
        print(f"no images of {config['cluster_name']}")
    for machine in used_up(ec2, config):
        print(
            f"{machine} was taken out of the cluster for an image and still costs. --resume with "
            f"its image ends it, or: aws ec2 terminate-instances --instance-ids {machine}"
        )


def delete(ec2: Any, config: Config, image: str, yes: bool) -> None:
    """The image and its snapshots; can be repeated.

    Raises ValueError for one that this command didn't make of this cluster.
    """
    found = describe(ec2, image, config)
    ours = {IMAGE_OF: config["cluster_name"]}
    snapshots = [snapshot for one in found for snapshot in snapshots_of(ec2, one)]
    if not found:  # what an interrupted deletion has left
        left = by_description(ec2, image)
        snapshots = [one["SnapshotId"] for one in left if ours.items() <= tags_of(one).items()]
    if not found and not snapshots:
        raise ValueError(f"{image} is no image of {config['cluster_name']}; see --list")
    from_it = [{"Name": "image-id", "Values": [image]}]
    from_it += [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    groups = ec2.describe_instances(Filters=from_it)["Reservations"]
    running = sum(len(group["Instances"]) for group in groups)
    agree(
        f"{image} and {len(snapshots)} snapshots are deleted for good. Machines that run from it "
        f"go on ({running} now); no other starts from it.",
        yes,
    )
    tag(ec2, snapshots, ours)
    for one in found:
        ec2.deregister_image(ImageId=image)
        end_worker(ec2, config, one)
        print(f"deleted {image}")
    for snapshot in snapshots:
        ec2.delete_snapshot(SnapshotId=snapshot)
        print(f"deleted {snapshot}")


def report(ec2: Any, config: Config, image: Config, path: Path, write: Path | None) -> None:
    """How to use the image, as a cluster file if one is to be written."""
    print(line_of(ec2, image))
    older = [one["ImageId"] for one in describe(ec2, None, config)]
    older.remove(image["ImageId"])
    if older:
        print(f"other images of this cluster cost money too: {', '.join(older)} (--delete)")
    use = use_of(config, image["ImageId"], tags_of(image)[FROM_TYPE])
    if use.others:
        print(f"{', '.join(use.others)}: another ImageId, which stays; so do all set-up commands")
    if write is not None:
        made = f"# From {path.name} by cluster/aws_image.py: starts from {use.image}.\n"
        write.write_text(made + edited(path.read_text(), use))
        print(f"start from it: ray up {write}")
    else:
        print(f"in {path}, as --resume {use.image} --write FILE writes it:")
        print(f"ImageId of {', '.join(use.types)}: {use.image}")
        print(yaml.safe_dump({"setup_commands": list(use.setup)}, width=1000), end="")


def question(machine: Machine, cluster: str, reboot: bool) -> str:
    then = "restarted by EC2, copied" if reboot else "copied without a restart"
    if machine.kind == "worker":
        return (
            f"{machine.id} ({machine.node_type}) is taken out of {cluster}: its stages save their "
            f"epoch and go on elsewhere. It is cleaned, {then} and terminated."
        )
    return (
        f"{machine.id}, the head of {cluster}, is stopped, and with it a sweep that runs on it; "
        f"the same command continues that later. It is cleaned and {then}. It goes on costing; "
        "`ray up` starts it again, or replaces it by one from the image."
    )


def agree(what: str, yes: bool) -> None:
    """Raises ValueError if the user doesn't."""
    print(what, flush=True)
    try:
        agreed = yes or input("Confirm [y/N]: ").strip().lower() in ("y", "yes")
    except EOFError:
        agreed = False
    if not agreed:
        raise ValueError("not confirmed (--yes does), so nothing was changed")


def main(
    cluster: Annotated[Path, tyro.conf.Positional] = CLUSTER,
    *,
    name: str | None = None,
    write: Path | None = None,
    machine: str | None = None,
    keep: tuple[str, ...] = (),
    reboot: bool = True,
    yes: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    resume: str | None = None,
    show_all: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(name="list")] = False,
    remove: Annotated[str | None, tyro.conf.arg(name="delete")] = None,
) -> int:
    """Make, list or delete images.

    Args:
        cluster: the cluster file
        name: of the image; by default the cluster's name and the time
        write: cluster file to write, whose machines start from the image
        machine: id of the machine to use up
        keep: files of its home folder that may be in the image, though they are new
        reboot: EC2 restarts the machine before it copies the disk, so that no file is half
            written. Without that it can't guarantee this; Ray is stopped and all is written to
            the disk either way.
        yes: don't ask
        resume: an image that was begun: wait for it, and do what comes after it
        show_all: the cluster's images, and who may use them
        remove: an image to delete with its snapshots
    """
    config = read_cluster(cluster)
    if sum((resume is not None, show_all, remove is not None)) > 1:
        raise ValueError("give one of --resume, --list and --delete")
    ec2 = boto3.client("ec2", region_name=config["provider"]["region"])
    if show_all:
        show(ec2, config)
        return 0
    if remove is not None:
        delete(ec2, config, remove, yes)
        return 0
    if write is not None and write.resolve() == cluster.resolve():
        raise ValueError(f"--write would replace {cluster} itself; give another file")
    if resume is None:
        taken = choose(machines_of(ec2, config), machine)
        use = use_of(config, "ami-0", taken.node_type)
        if write is not None:
            edited(cluster.read_text(), use)  # before anything is done, that it can be
        name = name or f"{config['cluster_name']}-{datetime.now(UTC):%Y-%m-%d-%H%M%S}"
        check_name(ec2, name)
        agree(question(taken, config["cluster_name"], reboot), yes)
        resume = make(ec2, config, taken, name, keep, reboot)
        print(f"{resume}: begun; after an interruption: --resume {resume}", flush=True)
    elif not describe(ec2, resume, config):
        raise ValueError(f"{resume} is no image of {config['cluster_name']}; see --list")
    report(ec2, config, finish(ec2, config, resume, time.sleep), cluster, write)
    return 0


if __name__ == "__main__":
    try:
        code = tyro.cli(main, prog="python cluster/aws_image.py", description=__doc__)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except NoCredentialsError:
        print("error: no AWS credentials; give them by `aws configure`", file=sys.stderr)
        code = 2
    except (BotoCoreError, ClientError) as error:
        print(f"error: AWS says: {error}", file=sys.stderr)
        code = 1
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    sys.exit(code)
