"""What the machines of cluster.yaml may do on AWS, and no more: bucket, roles, policies.

Bucket, region, machine types and cluster name are read from the cluster file. The workers may use
the bucket; the head, besides, may start such machines, end those of this cluster, and give them
the workers' role.

Examples:
  python cluster/aws_rights.py show        # the two policies, as json
  python cluster/aws_rights.py create      # make what is missing, and bring the rest up to date
  python cluster/aws_rights.py delete      # all but the bucket
"""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import boto3
import tyro
import yaml
from botocore.exceptions import BotoCoreError, ClientError

CLUSTER = Path(__file__).parents[1] / "cluster.yaml"
HEAD, WORKER = "rewind-ray-head", "rewind-ray-worker"
"""Names of the roles, and of the instance profiles that hand them to machines."""
TRUST = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}} | {
    "Action": "sts:AssumeRole"
}
LOOKING = ("Instances", "InstanceTypes", "Subnets", "SecurityGroups", "KeyPairs", "Images")
INCOMPLETE = {
    "ID": "incomplete uploads",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
}
"""Rule of the bucket: uploads of lost workers end, which no listing shows and which cost money."""

Policy = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    bucket: str
    region: str
    cluster: str
    machines: tuple[str, ...]
    """The workers' instance types."""


def read_place(path: Path) -> Place:
    """Raises ValueError for a cluster file that isn't AWS's or whose bucket isn't filled in."""
    config = yaml.safe_load(path.read_text())
    if config["provider"]["type"] != "aws":
        raise ValueError(f"{path} is for {config['provider']['type']}, not for aws")
    found = re.search(r"STORAGE=s3://([^/\s']+)", " ".join(config["initialization_commands"]))
    bucket = found[1] if found else ""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise ValueError(
            f"the bucket in {path} is {bucket!r}; put the name of yours there: 3 to 63 "
            "lower-case letters, digits and hyphens"
        )
    machines = {
        node_type["node_config"]["InstanceType"]
        for name, node_type in config["available_node_types"].items()
        if name != config["head_node_type"]
    }
    return Place(
        bucket=bucket,
        region=config["provider"]["region"],
        cluster=config["cluster_name"],
        machines=tuple(sorted(machines)),
    )


def worker_policy(place: Place) -> Policy:
    """Read, write and list the bucket."""
    bucket = f"arn:aws:s3:::{place.bucket}"
    return policy(
        allow("s3:ListBucket", "s3:GetBucketLocation", on=bucket),
        allow(
            *("s3:GetObject", "s3:PutObject", "s3:DeleteObject"),
            *("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
            on=f"{bucket}/*",
        ),
    )


def head_policy(place: Place, account: str) -> Policy:
    """The workers' rights, and what Ray's autoscaler asks for."""
    ours = {"StringEquals": {"aws:ResourceTag/ray-cluster-name": place.cluster}}
    instances = f"arn:aws:ec2:{place.region}:{account}:instance/*"
    images = f"arn:aws:ssm:{place.region}::parameter/aws/service/deeplearning/*"
    statements = (
        allow(*(f"ec2:Describe{what}" for what in LOOKING), on="*"),  # can't be narrowed
        allow(
            "ec2:RunInstances",
            on="*",
            when={"StringEquals": {"aws:RequestedRegion": place.region}},
        ),
        allow(
            "ec2:RunInstances",
            on="arn:aws:ec2:*:*:instance/*",
            when={"StringNotEquals": {"ec2:InstanceType": list(place.machines)}},
        )
        | {"Effect": "Deny"},
        allow(
            "ec2:CreateTags",
            on=f"arn:aws:ec2:{place.region}:{account}:*/*",
            when={"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        ),
        allow("ec2:CreateTags", "ec2:TerminateInstances", on=instances, when=ours),
        allow(
            "iam:PassRole",
            on=f"arn:aws:iam::{account}:role/{WORKER}",
            when={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
        ),
        allow("ssm:GetParameters", on=images),
    )
    return policy(*worker_policy(place)["Statement"], *statements)


def policy(*statements: dict[str, Any]) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(*actions: str, on: str, when: dict[str, Any] | None = None) -> dict[str, Any]:
    condition = {"Condition": when} if when else {}
    return {"Effect": "Allow", "Action": list(actions), "Resource": on} | condition


def create(place: Place, policies: dict[str, Policy]) -> None:
    """Can be repeated: what is there already is kept, and its policy replaced."""
    make_bucket(place)
    iam = boto3.client("iam")
    taken = (iam.exceptions.InvalidInputException, iam.exceptions.EntityAlreadyExistsException)
    with suppress(*taken):  # an account has it once; the first spot machine would need it
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")
    for name, document in policies.items():
        with suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(policy(TRUST)))
        iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=json.dumps(document))
        with suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_instance_profile(InstanceProfileName=name)
        with suppress(iam.exceptions.LimitExceededException):  # a profile holds one role
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        print(f"role and instance profile {name}")


def make_bucket(place: Place) -> None:
    s3 = boto3.client("s3", region_name=place.region)
    elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": place.region}}
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=place.bucket, **({} if place.region == "us-east-1" else elsewhere))
    s3.put_public_access_block(
        Bucket=place.bucket,
        PublicAccessBlockConfiguration=dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"),
            True,
        ),
    )
    others = [rule for rule in lifecycle_rules(s3, place.bucket) if rule["ID"] != INCOMPLETE["ID"]]
    s3.put_bucket_lifecycle_configuration(
        Bucket=place.bucket, LifecycleConfiguration={"Rules": [*others, INCOMPLETE]}
    )
    print(f"bucket {place.bucket} in {place.region}, closed to the public")


def lifecycle_rules(s3: Any, bucket: str) -> list[dict[str, Any]]:
    try:
        return list(s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchLifecycleConfiguration":
            raise
        return []


def delete(place: Place, policies: dict[str, Policy]) -> None:
    """Can be repeated."""
    iam = boto3.client("iam")
    gone = iam.exceptions.NoSuchEntityException
    for name in policies:
        with suppress(gone):
            iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
        with suppress(gone):
            iam.delete_instance_profile(InstanceProfileName=name)
        with suppress(gone):
            iam.delete_role_policy(RoleName=name, PolicyName=name)
        with suppress(gone):
            iam.delete_role(RoleName=name)
        print(f"deleted {name}")
    print(f"kept the bucket {place.bucket}: results are in it")


def main(
    action: Annotated[Literal["show", "create", "delete"], tyro.conf.Positional],
    *,
    cluster: Path = CLUSTER,
) -> int:
    place = read_place(cluster)
    account = boto3.client("sts", region_name=place.region).get_caller_identity()["Account"]
    policies = {WORKER: worker_policy(place), HEAD: head_policy(place, account)}
    if action == "show":
        print(json.dumps(policies, indent=2))
    elif action == "create":
        create(place, policies)
    else:
        delete(place, policies)
    return 0


if __name__ == "__main__":
    try:
        code = tyro.cli(main, prog="python cluster/aws_rights.py", description=__doc__)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except (BotoCoreError, ClientError) as error:
        print(f"error: AWS says: {error}", file=sys.stderr)
        code = 1
    sys.exit(code)
