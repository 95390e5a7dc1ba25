"""Images and snapshots of EC2, as aws_image.py makes them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from botocore.exceptions import ClientError
from image_file import Config

IMAGE_OF, FROM_TYPE, FROM_MACHINE = (
    f"rewind-ray-{what}" for what in ("image-of", "machine-type", "machine")
)
"""Tags of an image: cluster, machine type, and the worker to be terminated after it."""
ASK_SECONDS = 15.0
UNSEEN_SECONDS = 120.0
"""For which EC2 may not know an image that it has just begun."""


def check_name(ec2: Any, name: str) -> None:
    """Raises ValueError if EC2 allows no such name, or another image has it."""
    if not re.fullmatch(r"[A-Za-z0-9()\[\] ./'@_-]{3,128}", name):
        raise ValueError(
            f"the name is {name!r}; allowed: 3 to 128 letters, digits, spaces and ()[]./-'@_"
        )
    own = [{"Name": "name", "Values": [name]}]
    taken = ec2.describe_images(Owners=["self"], Filters=own)["Images"]
    if taken:
        raise ValueError(
            f"{taken[0]['ImageId']} has the name {name!r}; give another --name, or delete it first"
        )


def check_allowed(call: Callable[..., Any], **arguments: Any) -> None:
    """Raises ClientError if EC2 would refuse this; does nothing otherwise."""
    try:
        call(DryRun=True, **arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] != "DryRunOperation":
            raise


def wait_for(ec2: Any, image: str, pause: Callable[[float], None]) -> Config:
    """Until the image can be used. Raises RuntimeError if EC2 can't make it."""
    begun, shown = time.monotonic(), ""
    while True:
        images = ec2.describe_images(Filters=[{"Name": "image-id", "Values": [image]}])["Images"]
        state = images[0]["State"] if images else "pending"
        if not images and time.monotonic() - begun > UNSEEN_SECONDS:
            raise RuntimeError(f"EC2 doesn't know {image}; see --list")
        if state == "available":
            return images[0]
        if state not in ("pending", "transient"):
            why = images[0].get("StateReason", {}).get("Message", "EC2 gives no reason")
            raise RuntimeError(
                f"{image} is {state}: {why}. Delete it (--delete {image}), and make another"
            )
        copied = [s["Progress"] for s in by_description(ec2, image) if s.get("Progress")]
        now = f"{image}: {state}, {' and '.join(copied) or '0%'} copied"
        if now != shown:
            print(now, flush=True)
            shown = now
        pause(ASK_SECONDS)


def describe(ec2: Any, image: str | None, config: Config) -> list[Config]:
    """The cluster's images that this command made, oldest first; only that one if given."""
    made = [{"Name": f"tag:{IMAGE_OF}", "Values": [config["cluster_name"]]}]
    if image is not None:
        made.append({"Name": "image-id", "Values": [image]})
    found = ec2.describe_images(Owners=["self"], Filters=made)["Images"]
    return sorted(found, key=lambda one: one["CreationDate"])


def by_description(ec2: Any, image: str) -> list[Config]:
    """Snapshots that EC2 made for the image, also before the image names them or after its end."""
    of_it = [{"Name": "description", "Values": [f"Created by CreateImage(*) for {image}*"]}]
    return list(ec2.describe_snapshots(OwnerIds=["self"], Filters=of_it)["Snapshots"])


def snapshots_of(ec2: Any, image: Config) -> list[str]:
    disks = [disk.get("Ebs", {}) for disk in image.get("BlockDeviceMappings", [])]
    named = {disk["SnapshotId"] for disk in disks if "SnapshotId" in disk}
    return sorted(named | {one["SnapshotId"] for one in by_description(ec2, image["ImageId"])})


def shared_with(ec2: Any, image: Config) -> list[str]:
    """Who, besides the account, may start machines from the image or read its snapshots."""
    asked = ec2.describe_image_attribute(ImageId=image["ImageId"], Attribute="launchPermission")
    found = list(asked["LaunchPermissions"])
    for snapshot in snapshots_of(ec2, image):
        asked = ec2.describe_snapshot_attribute(
            SnapshotId=snapshot, Attribute="createVolumePermission"
        )
        found += asked["CreateVolumePermissions"]
    return sorted(
        {"EVERYBODY" if one.get("Group") == "all" else next(iter(one.values())) for one in found}
    )


def line_of(ec2: Any, image: Config) -> str:
    size = sum(disk.get("Ebs", {}).get("VolumeSize", 0) for disk in image["BlockDeviceMappings"])
    others = shared_with(ec2, image)
    who = f"SHARED WITH {', '.join(others)}" if others else "private"
    day = image["CreationDate"][:10]
    return f"{image['ImageId']}  {image['Name']}  {image['State']}  {day}  {size} GiB disk  {who}"


def tag(ec2: Any, resources: Sequence[str], tags: dict[str, str]) -> None:
    if resources:
        ec2.create_tags(Resources=list(resources), Tags=pairs(tags))


def pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tags_of(resource: Config) -> dict[str, str]:
    return {pair["Key"]: pair["Value"] for pair in resource.get("Tags", [])}
