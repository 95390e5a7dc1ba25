"""cluster.yaml and cluster/aws_rights.py against moto's AWS."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count
from moto.server import ThreadedMotoServer
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

from rewind_ray.store.files import list_names, read_bytes, write_atomically
from rewind_ray.store.opening import check_writable, open_storage
from sweeps.run.capacity import Capacity, chosen_gpus, growth_in, shortage_of
from sweeps.run.cluster_watch import state_of
from tests.cluster.configs import FILES, ROOT, Config, scripts
from tests.cluster.failing_cloud import Cloud, reconcile

pytestmark = pytest.mark.slow  # moto as AWS, and Ray's own preparation of a cluster

BUCKET = "somebodys-own-bucket"
WORKERS = ("l4", "a10g")


@pytest.fixture(scope="module")
def cluster_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cluster.yaml as its user edits it: one word."""
    path = tmp_path_factory.mktemp("aws") / "cluster.yaml"
    text = FILES["aws"].read_text()
    assert text.count("YOUR-BUCKET") == 1
    path.write_text(text.replace("YOUR-BUCKET", BUCKET))
    return path


@pytest.fixture(scope="module")
def rights() -> ModuleType:
    (aws_rights,) = scripts("aws_rights")
    return aws_rights


@pytest.fixture(scope="module")
def bootstrapped(cluster_file: Path, rights: ModuleType) -> Iterator[Config]:
    """What ``ray up`` makes of the file, after ``aws_rights.py create``, in an empty account.

    On the way Ray fills in its defaults, looks up the machines and validates.
    """
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("HOME", str(cluster_file.parent))  # the private key goes there
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")  # not the file's
        assert rights.main("create", cluster=cluster_file) == 0
        config = yaml.safe_load(cluster_file.read_text())
        yield _bootstrap_config(config, no_config_cache=True)


def node(config: Config, name: str) -> dict[str, Any]:
    return config["available_node_types"][name]["node_config"]


def ec2(config: Config) -> Any:
    return boto3.client("ec2", region_name=config["provider"]["region"])


def test_gpus_are_found(bootstrapped: Config) -> None:
    types = bootstrapped["available_node_types"]
    for name, accelerator in zip(WORKERS, ("L4", "A10G"), strict=True):
        resources = types[name]["resources"]
        assert resources["GPU"] == 1
        assert resources["CPU"] == 4
        assert resources[f"accelerator_type:{accelerator}"] == 1
    assert types["head"]["resources"] == {"CPU": 0}


def test_only_ssh_is_open_to_the_world(bootstrapped: Config) -> None:
    groups = {tuple(node(bootstrapped, name)["SecurityGroupIds"]) for name in ("head", *WORKERS)}
    ((group_id,),) = groups
    (group,) = ec2(bootstrapped).describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    world, inside = [], []
    for rule in group["IpPermissions"]:
        assert not rule["Ipv6Ranges"]
        assert not rule["PrefixListIds"]
        ports = (rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort"))
        world += [ports for _ in rule["IpRanges"]]
        inside += [(ports, pair["GroupId"]) for pair in rule["UserIdGroupPairs"]]
    assert world == [("tcp", 22, 22)]
    assert inside == [(("-1", None, None), group_id)]


def test_a_narrower_rule_for_ssh_stays(bootstrapped: Config, cluster_file: Path) -> None:
    """``ray up`` once more leaves a group alone that has rules."""
    (group_id,) = node(bootstrapped, "head")["SecurityGroupIds"]
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
    world, home = ({"IpRanges": [{"CidrIp": ip}]} for ip in ("0.0.0.0/0", "192.0.2.7/32"))
    client = ec2(bootstrapped)
    client.revoke_security_group_ingress(GroupId=group_id, IpPermissions=[ssh | world])
    client.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[ssh | home])
    again = _bootstrap_config(yaml.safe_load(cluster_file.read_text()), no_config_cache=True)
    assert node(again, "head")["SecurityGroupIds"] == [group_id]
    (group,) = client.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    ranges = [r["CidrIp"] for rule in group["IpPermissions"] for r in rule["IpRanges"]]
    assert ranges == ["192.0.2.7/32"]


def test_the_key_is_made_and_private(bootstrapped: Config, cluster_file: Path) -> None:
    path = Path(bootstrapped["auth"]["ssh_private_key"])
    assert path.parent == cluster_file.parent / ".ssh"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    names = {pair["KeyName"] for pair in ec2(bootstrapped).describe_key_pairs()["KeyPairs"]}
    assert {node(bootstrapped, name)["KeyName"] for name in ("head", *WORKERS)} == names


def test_what_is_launched(bootstrapped: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Ray's own provider: a head on demand, workers as spot machines in a subnet."""
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    provider = AWSNodeProvider(bootstrapped["provider"], bootstrapped["cluster_name"])
    for name in ("head", *WORKERS):
        settings = node(bootstrapped, name)
        tags = {"ray-node-kind": "worker", "ray-launch-config": "x", "ray-user-node-type": name}
        (instance,) = provider.create_node(settings, tags, 1).values()
        (reservation,) = ec2(bootstrapped).describe_instances(InstanceIds=[instance.id])[
            "Reservations"
        ]
        (launched,) = reservation["Instances"]
        assert launched["InstanceType"] == settings["InstanceType"]
        assert launched["SubnetId"] in settings["SubnetIds"]
        assert launched["PublicIpAddress"]
        assert launched["MetadataOptions"]["HttpTokens"] == "required"
        role = "rewind-ray-head" if name == "head" else "rewind-ray-worker"
        assert launched["IamInstanceProfile"]["Arn"].endswith(f":instance-profile/{role}")
        assert launched.get("InstanceLifecycle") == (None if name == "head" else "spot")
        provider.terminate_node(instance.id)  # and not only stopped
        state = ec2(bootstrapped).describe_instances(InstanceIds=[instance.id])
        assert state["Reservations"][0]["Instances"][0]["State"]["Name"] == "terminated"


@pytest.mark.parametrize(
    ("trial", "count", "refused", "launched"),
    [
        ({"CPU": 1, "GPU": 1}, 1, (), {"l4": 1}),
        ({"CPU": 1, "GPU": 1}, 6, (), {"l4": 4, "a10g": 2}),
        ({"CPU": 1, "GPU": 1}, 8, ("l4",), {"a10g": 4}),
        ({"CPU": 1, "GPU": 1}, 8, ("a10g",), {"l4": 4}),
        ({"CPU": 1, "GPU": 1}, 8, ("l4", "a10g"), {}),
        ({"CPU": 1, "GPU": 0.25}, 8, (), {"l4": 2}),
        ({"CPU": 1}, 3, (), {"l4": 1}),
        ({"CPU": 1, "GPU": 1}, 100, (), {"l4": 4, "a10g": 4}),
    ],
)
def test_what_ray_starts_for_waiting_trials(
    bootstrapped: Config,
    trial: dict[str, float],
    count: int,
    refused: tuple[str, ...],
    launched: dict[str, int],
) -> None:
    """A trial is a placement group of one bundle; the cloud has no capacity of some types."""
    scaling = AutoscalingConfig(bootstrapped, skip_content_hash=True)
    cloud = Cloud(refuses=refused)
    last = reconcile(cloud, scaling, trial, count, ticks=10)[-1]
    assert cloud.running() == launched
    assert set(state_of(last).refused) == set(refused)


def test_gpus_are_counted_on_that_will_be_started(bootstrapped: Config) -> None:
    """Ray writes the file on the head as it is here."""
    capacity = Capacity(present=({"CPU": 0},), growth=growth_in(bootstrapped))
    assert chosen_gpus(None, capacity, 1) == 1
    assert capacity.slots(1, 1) == 8
    assert capacity.slots(1, 1 / 8) == 32  # by four CPUs each
    assert shortage_of(8, 1, capacity)


def assume(role: str) -> dict[str, str]:
    """The credentials that a machine of this role gets."""
    sts = boto3.client("sts")
    arn = f"arn:aws:iam::{sts.get_caller_identity()['Account']}:role/rewind-ray-{role}"
    return sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]


def attempts(bucket: str, credentials: dict[str, str]) -> dict[str, bool]:
    """What goes through with these credentials, where AWS looks at the policies."""
    keys = {
        "aws_access_key_id": credentials["AccessKeyId"],
        "aws_secret_access_key": credentials["SecretAccessKey"],
        "aws_session_token": credentials["SessionToken"],
        "region_name": "us-west-2",
    }
    s3, machines, iam = (boto3.client(name, **keys) for name in ("s3", "ec2", "iam"))
    there = {"Bucket": bucket, "Key": "rewind-ray/probe"}
    calls = {
        "write": lambda: s3.put_object(**there, Body=b"1"),
        "read": lambda: s3.get_object(**there),
        "list": lambda: s3.list_objects_v2(Bucket=bucket),
        "remove": lambda: s3.delete_object(**there),
        "remove bucket": lambda: s3.delete_bucket(Bucket=bucket),
        "list buckets": lambda: s3.list_buckets(),
        "look at machines": lambda: machines.describe_instances(),
        "open a port": lambda: machines.authorize_security_group_ingress(GroupName="default"),
        "add a user": lambda: iam.create_user(UserName="somebody"),
    }

    @set_initial_no_auth_action_count(0)
    def allowed(name: str) -> bool:
        try:
            calls[name]()
        except ClientError as error:
            assert "AccessDenied" in error.response["Error"]["Code"]
            return False
        return True

    return {name: allowed(name) for name in calls}


@pytest.mark.parametrize("role", ["head", "worker"])
def test_roles_reach_the_bucket_and_little_else(bootstrapped: Config, role: str) -> None:
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="somebody-elses-bucket")
    credentials = assume(role)
    ours = {name for name, went in attempts(BUCKET, credentials).items() if went}
    looks = {"look at machines"} if role == "head" else set()
    assert ours == {"write", "read", "list", "remove"} | looks
    others = {n for n, went in attempts("somebody-elses-bucket", credentials).items() if went}
    assert others == looks


def test_the_workers_rights_are_enough_for_the_storage(
    rights: ModuleType, cluster_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through Arrow, over HTTP, where policies are looked at."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        port = server.get_host_and_port()[1]
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "root")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        assert rights.main("create", cluster=cluster_file) == 0
        boto3.client("s3").create_bucket(Bucket="another-bucket")
        credentials = assume("worker")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", credentials["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", credentials["SecretAccessKey"])
        monkeypatch.setenv("AWS_SESSION_TOKEN", credentials["SessionToken"])
        monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
        where = f"rewind-ray?scheme=http&endpoint_override=127.0.0.1:{port}&region="
        filesystem, root = open_storage(f"s3://{BUCKET}/{where}us-west-2")
        check_writable(filesystem, root)
        write_atomically(filesystem, f"{root}/rows/1.json", b"{}")
        assert list_names(filesystem, f"{root}/rows") == ["1.json"]
        assert read_bytes(filesystem, f"{root}/rows/1.json") == b"{}"
        with pytest.raises(OSError, match="ACCESS_DENIED"):
            check_writable(*open_storage(f"s3://another-bucket/{where}us-east-1"))
    finally:
        server.stop()


def test_the_head_may_start_only_the_files_machines(rights: ModuleType, cluster_file: Path) -> None:
    place = rights.read_place(cluster_file)
    policy = rights.head_policy(place, "123456789012")
    by_action = {}
    for statement in policy["Statement"]:
        for action in statement["Action"]:
            by_action.setdefault(action, []).append(statement)
    (denied,) = [s for s in by_action["ec2:RunInstances"] if s["Effect"] == "Deny"]
    assert denied["Condition"] == {
        "StringNotEquals": {"ec2:InstanceType": ["g5.xlarge", "g6.xlarge"]}
    }
    (passed,) = by_action["iam:PassRole"]
    assert passed["Resource"] == "arn:aws:iam::123456789012:role/rewind-ray-worker"
    (ended,) = by_action["ec2:TerminateInstances"]
    assert ended["Condition"] == {
        "StringEquals": {"aws:ResourceTag/ray-cluster-name": "rewind-ray"}
    }
    (image,) = by_action["ssm:GetParameters"]
    name = node(yaml.safe_load(cluster_file.read_text()), "head")["ImageId"]
    folder = image["Resource"].partition(":parameter")[2].removesuffix("*")
    assert name.removeprefix("resolve:ssm:").startswith(folder)
    assert not [a for a in by_action if a.endswith("*")]


def test_the_bucket_is_closed_and_in_the_files_region(bootstrapped: Config) -> None:
    s3 = boto3.client("s3")
    assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] == "us-west-2"
    block = s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    assert len(block) == 4
    assert all(block.values())


def test_incomplete_uploads_expire_and_nothing_else(bootstrapped: Config) -> None:
    (rule,) = boto3.client("s3").get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 1
    assert "Expiration" not in rule


def test_rules_that_a_bucket_has_stay(rights: ModuleType, cluster_file: Path) -> None:
    """``create`` may be given a bucket that is in use, and be repeated."""
    place = dataclasses.replace(rights.read_place(cluster_file), bucket="a-bucket-in-use")
    old = {"ID": "old logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}}
    old |= {"Expiration": {"Days": 30}}
    with mock_aws():
        s3 = boto3.client("s3", region_name=place.region)
        there = {"CreateBucketConfiguration": {"LocationConstraint": place.region}}
        s3.create_bucket(Bucket=place.bucket, **there)
        s3.put_bucket_lifecycle_configuration(
            Bucket=place.bucket, LifecycleConfiguration={"Rules": [old]}
        )
        for _ in range(2):
            rights.make_bucket(place)
            rules = s3.get_bucket_lifecycle_configuration(Bucket=place.bucket)["Rules"]
            assert [rule["ID"] for rule in rules] == ["old logs", "incomplete uploads"]
            assert rules[0]["Expiration"] == {"Days": 30}


def test_rights_come_and_go_and_the_bucket_stays(
    rights: ModuleType, cluster_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mock_aws():
        for _ in range(2):
            assert rights.main("create", cluster=cluster_file) == 0
        iam, s3 = boto3.client("iam"), boto3.client("s3")
        s3.put_object(Bucket=BUCKET, Key="row", Body=b"1")
        for name in ("rewind-ray-head", "rewind-ray-worker"):
            profile = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
            assert [role["RoleName"] for role in profile["Roles"]] == [name]
        for _ in range(2):
            assert rights.main("delete", cluster=cluster_file) == 0
        assert iam.list_instance_profiles()["InstanceProfiles"] == []
        assert not [r for r in iam.list_roles()["Roles"] if r["RoleName"].startswith("rewind")]
        assert s3.get_object(Bucket=BUCKET, Key="row")["Body"].read() == b"1"
        capsys.readouterr()
        assert rights.main("show", cluster=cluster_file) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["rewind-ray-worker"] == rights.worker_policy(rights.read_place(cluster_file))


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (FILES["aws"], "YOUR-BUCKET"),
        (FILES["gcp"], "is for gcp, not for aws"),
        (ROOT / "nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(file: Path, says: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "cluster/aws_rights.py", "show", "--cluster", file],
        env=os.environ | {"AWS_EC2_METADATA_DISABLED": "true"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
