"""cluster/aws_image.py against moto's AWS, and against a machine with a disk that can be read."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID, set_initial_no_auth_action_count
from moto.ec2.models import ec2_backends
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.commands import _bootstrap_config

from tests.cluster.configs import FILES, ROOT, Config, load, scripts
from tests.cluster.disk import Disk, disk_machine, why_not

pytestmark = pytest.mark.slow  # moto as AWS, and Ray's own preparation of a cluster

REGION = "us-west-2"
SECRET = "5ec2e7" * 10 + "abcd"
COMMAND = [sys.executable, ROOT / "cluster/aws_image.py"]


@pytest.fixture(scope="module")
def tool() -> SimpleNamespace:
    """The command's modules."""
    names = ("aws_image", "aws_rights", "image_disk", "image_ec2", "image_file", "image_machine")
    image, rights, disk, ec2, file, machine = scripts(*names)
    return SimpleNamespace(
        main=image.main,
        image=image,
        rights=rights,
        disk=disk,
        ec2=ec2,
        file=file,
        machine=machine,
    )


@pytest.fixture(scope="module")
def cluster_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "cluster.yaml"
    path.write_text(FILES["aws"].read_text().replace("YOUR-BUCKET", "a-bucket"))
    return path


@pytest.fixture(scope="module")
def bootstrapped(cluster_file: Path, tool: SimpleNamespace) -> Iterator[Config]:
    """What ``ray up`` makes of the file."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("HOME", str(cluster_file.parent))  # the private key goes there
        assert tool.rights.main("create", cluster=cluster_file) == 0
        yield _bootstrap_config(yaml.safe_load(cluster_file.read_text()), no_config_cache=True)


@pytest.fixture
def ec2(bootstrapped: Config) -> Iterator[Any]:
    """The account, without machines and images of other tests."""
    client = boto3.client("ec2", region_name=REGION)
    backend().snapshots.clear()  # those of Amazon's images
    yield client
    for image in client.describe_images(Owners=["self"])["Images"]:
        client.deregister_image(ImageId=image["ImageId"])
    backend().snapshots.clear()
    for group in client.describe_instances()["Reservations"]:
        client.terminate_instances(InstanceIds=[one["InstanceId"] for one in group["Instances"]])


def backend() -> Any:
    return ec2_backends[DEFAULT_ACCOUNT_ID][REGION]


def provider(config: Config) -> AWSNodeProvider:
    return AWSNodeProvider(config["provider"], config["cluster_name"])


def launch(config: Config, node_type: str, status: str = "up-to-date") -> str:
    """A machine, by Ray's own provider, with the tags that Ray gives it."""
    kind = "head" if node_type == "head" else "worker"
    settings = config["available_node_types"][node_type]["node_config"]
    tags = {
        "ray-node-type": kind,
        "ray-launch-config": "x",
        "ray-user-node-type": node_type,
        "ray-node-status": status,
        "ray-runtime-config": "hash",
    }
    (instance,) = provider(config).create_node(settings, tags, 1).values()
    return str(instance.id)


def begin(ec2: Any, tool: SimpleNamespace, instance: str, name: str, **tags: str) -> str:
    """An image as the command makes it, of a machine that needs no cleaning."""
    given = {"Name": name, tool.ec2.IMAGE_OF: "rewind-ray", tool.ec2.FROM_TYPE: "l4"} | tags
    made = ec2.create_image(
        InstanceId=instance,
        Name=name,
        TagSpecifications=[{"ResourceType": "image", "Tags": tool.ec2.pairs(given)}],
    )
    return str(made["ImageId"])


def state(ec2: Any, instance: str) -> str:
    (group,) = ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    return str(group["Instances"][0]["State"]["Name"])


# the machine


def test_a_worker_is_taken_else_the_head(
    ec2: Any, bootstrapped: Config, tool: SimpleNamespace
) -> None:
    def chosen(wanted: str | None = None) -> str:
        return tool.machine.choose(tool.machine.machines_of(ec2, bootstrapped), wanted).id

    with pytest.raises(ValueError, match="ray up"):
        chosen()
    head = launch(bootstrapped, "head")
    assert chosen() == head
    early = launch(bootstrapped, "l4", status="setting-up")
    with pytest.raises(ValueError, match=f"{early} .l4, setting-up"):
        chosen()
    assert chosen(head) == head
    with pytest.raises(ValueError, match=early):
        chosen(early)
    worker = launch(bootstrapped, "a10g")
    assert chosen() == worker
    ec2.terminate_instances(InstanceIds=[worker, early])
    assert chosen() == head
    elsewhere = bootstrapped | {"cluster_name": "another"}
    assert tool.machine.machines_of(ec2, elsewhere) == []


def test_a_key_that_is_not_here_is_told(
    ec2: Any, bootstrapped: Config, tool: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(bootstrapped, "head")
    (machine,) = tool.machine.machines_of(ec2, bootstrapped)
    shell = tool.machine.shell_on(machine, {"ssh_user": "ubuntu"})
    assert shell.ssh[-1] == f"ubuntu@{machine.address}"
    assert shell.ssh[2] == bootstrapped["auth"]["ssh_private_key"]
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(FileNotFoundError, match="ray up"):
        tool.machine.shell_on(machine, {"ssh_user": "ubuntu"})


# its disk


@contextmanager
def machine_with_a_disk(folder: Path, config: Config, cluster_file: Path) -> Iterator[Disk]:
    """As an image of Ubuntu is before it is launched; and a cluster file by which to reach it."""
    if reason := why_not(folder):
        pytest.skip(reason)
    with disk_machine(folder / "machine", Path(config["auth"]["ssh_private_key"])) as disk:
        disk.write("README", "of the image")
        disk.write(".bashrc", "# as it came\n")
        text = cluster_file.read_text().replace(
            "ssh_user: ubuntu", f"ssh_user: root\n  ssh_proxy_command: {disk.proxy_command()}"
        )
        (folder / "cluster.yaml").write_text(text)
        time.sleep(1.1)  # times of launches have no fractions
        yield disk


def set_up(disk: Disk) -> None:
    """What a head has after ``ray up`` and a sweep."""
    (disk.home / "venv").symlink_to(sys.prefix)
    disk.write(".ray/auth_token", SECRET)
    disk.write("ray_bootstrap_key.pem", "PRIVATE KEY of all machines")
    disk.write("rewind-ray/sweeps/node.py", "the code")
    disk.write("rewind-ray/rewind_ray.egg-info/PKG-INFO", "its version")
    disk.write(".rewind-ray", "export STORAGE=s3://a-bucket")
    disk.write(".bashrc", ". ~/.rewind-ray\n")
    disk.write(".bash_history", "export WANDB_API_KEY=of-somebody")
    disk.write(".cache/digits/images", "somebody's images")
    (disk.temporary / "ray/session").mkdir(parents=True)
    (disk.temporary / "ray/session/log").write_text("a log")


@contextmanager
def shell_on_a_terminal(disk: Disk) -> Iterator[subprocess.Popen[bytes]]:
    """In which somebody has typed a secret; it is in the shell's memory."""
    here, there = pty.openpty()
    inside = ["nsenter", f"--target={disk.pid}", "--all", "env", "HOME=/mnt/home", "TERM=dumb"]
    shell = subprocess.Popen(
        [*inside, "setsid", "--ctty", "--wait", "bash", "-i"],
        stdin=there,
        stdout=there,
        stderr=there,
        start_new_session=True,
    )
    try:
        os.write(here, b"TYPED=by-somebody\ntouch /tmp/typed\n")
        while not (disk.temporary / "typed").exists():
            time.sleep(0.05)
        yield shell
    finally:
        shell.kill()
        shell.wait()
        os.close(here)
        os.close(there)


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["worker", "head"])
def test_an_image_of_a_machine_that_is_set_up(
    kind: str,
    ec2: Any,
    bootstrapped: Config,
    tool: SimpleNamespace,
    cluster_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[dict[str, Any]] = []
    event = "provide-client-params.ec2.CreateImage"

    def ask(params: dict[str, Any], **_: object) -> None:
        asked.append(params)

    boto3.DEFAULT_SESSION.events.register(event, ask)
    file, baked = tmp_path / "cluster.yaml", tmp_path / "baked.yaml"
    with machine_with_a_disk(tmp_path, bootstrapped, cluster_file) as disk:
        head = launch(bootstrapped, "head")
        worker = launch(bootstrapped, "l4") if kind == "worker" else None
        set_up(disk)
        disk.write("control", "only deleted")
        (disk.home / "control").unlink()
        assert disk.holds(SECRET)

        disk.write(".netrc", "password of-somebody")
        with pytest.raises(ValueError, match=r"\.netrc"):
            tool.main(file, write=baked, yes=True)
        assert (disk.home / ".ray/auth_token").exists()
        assert set(provider(bootstrapped).non_terminated_nodes({})) == {head, worker} - {None}
        assert not ec2.describe_images(Owners=["self"])["Images"]

        capsys.readouterr()
        with shell_on_a_terminal(disk) as shell:
            assert tool.main(file, name="baked", write=baked, yes=True, keep=(".netrc",)) == 0
            assert shell.wait(timeout=10) != 0
        assert not disk.holds("by-somebody")
        for gone in (SECRET, "PRIVATE KEY", "the code", "s3://a-bucket", "WANDB", "somebody's"):
            assert not disk.holds(gone), gone
        for kept in ("of the image", "# as it came", "password of-somebody", "only deleted"):
            assert disk.holds(kept), kept
        assert not list(disk.temporary.iterdir())
        assert (disk.home / "venv/bin/python").exists()

    printed = capsys.readouterr().out
    (image,) = ec2.describe_images(Owners=["self"])["Images"]
    assert f"{image['ImageId']}  baked  available" in printed
    assert "private" in printed
    assert [params["NoReboot"] for params in asked if "DryRun" not in params] == [False]
    (snapshot,) = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert tool.ec2.tags_of(snapshot)[tool.ec2.IMAGE_OF] == "rewind-ray"
    nodes = provider(bootstrapped)
    assert nodes.non_terminated_nodes({}) == [head]
    if worker is None:  # `ray up` sets it up in full, as its hash is another
        assert nodes.node_tags(head)["ray-runtime-config"] != "hash"
    else:
        assert nodes.node_tags(head)["ray-runtime-config"] == "hash"
        assert state(ec2, worker) == "terminated"
    check_file(baked, cluster_file, image["ImageId"])


def check_file(baked: Path, cluster_file: Path, image: str) -> None:
    """Ray accepts it, and starts its machines from the image."""
    text = re.sub("\n  ssh_proxy_command.*", "", baked.read_text())
    config = yaml.safe_load(text.replace("ssh_user: root", "ssh_user: ubuntu"))
    before = yaml.safe_load(cluster_file.read_text())
    resolved = _bootstrap_config(config, no_config_cache=True)
    for name in before["available_node_types"]:
        instance = launch(resolved, name)
        groups = boto3.client("ec2", region_name=REGION).describe_instances(InstanceIds=[instance])
        assert groups["Reservations"][0]["Instances"][0]["ImageId"] == image


@pytest.mark.cluster
def test_a_worker_that_cannot_be_cleaned_ends(
    ec2: Any, bootstrapped: Config, tool: SimpleNamespace, cluster_file: Path, tmp_path: Path
) -> None:
    """A file appears in the meantime: no image of it, and no machine that nobody knows of."""
    with machine_with_a_disk(tmp_path, bootstrapped, cluster_file) as disk:
        worker = launch(bootstrapped, "l4")
        set_up(disk)
        disk.write(".ssh/rc", "echo new > ~/new")  # sshd runs it at each connection
        with pytest.raises(ValueError, match="new"):
            tool.main(tmp_path / "cluster.yaml", yes=True, keep=(".ssh/rc",))
        (disk.home / "new").unlink()
        assert (disk.home / ".ray/auth_token").exists()
        assert state(ec2, worker) == "running"
        late = '[ -e ~/.ray ] || echo late > "$HOME/late"'
        (disk.home / ".ssh/rc").write_text(late)
        with pytest.raises(ValueError, match="late"):
            tool.main(tmp_path / "cluster.yaml", yes=True, keep=(".ssh/rc",))
        assert state(ec2, worker) == "terminated"
        assert not ec2.describe_images(Owners=["self"])["Images"]


@pytest.mark.cluster
def test_a_line_with_a_secret_in_a_start_up_file_is_noticed(
    bootstrapped: Config, tool: SimpleNamespace, cluster_file: Path, tmp_path: Path
) -> None:
    with machine_with_a_disk(tmp_path, bootstrapped, cluster_file) as disk:
        shell = tool.disk.Shell(ssh=("nsenter", f"--target={disk.pid}", "--all", "bash", "-c"))
        run = tool.disk.strangers
        assert run(on_home(shell, tool), time.time() - 3600, ()) == ["README"]
        disk.write(".bashrc", "export WANDB_API_KEY=of-somebody\n")
        assert run(on_home(shell, tool), time.time() + 60, ()) == [".bashrc"]
        assert run(on_home(shell, tool), time.time() + 60, (".bashrc",)) == []


def on_home(shell: Any, tool: SimpleNamespace) -> Any:
    """The shell, with the home folder that sshd would set."""
    *words, bash, option = shell.ssh
    return tool.disk.Shell(ssh=(*words, "env", "HOME=/mnt/home", bash, option))


def test_what_is_removed_leaves_the_packages(tool: SimpleNamespace) -> None:
    mounts = load("aws")["file_mounts"]
    removed = tool.disk.removed_paths(mounts, "ubuntu")
    for mount in mounts:
        assert tool.disk.covered(mount.removeprefix("~/"), removed), mount
    assert not any(tool.disk.covered(kept, removed) for kept in tool.disk.KEPT)
    assert "data" in tool.disk.removed_paths(["/home/ubuntu/data/"], "ubuntu")
    for whole in ("~", "~/", "~/venv", "~/.ssh", "/home/ubuntu", "/"):
        with pytest.raises(ValueError, match="file_mounts"):
            tool.disk.removed_paths([whole], "ubuntu")


# the image


def test_progress_is_shown_until_it_is_there(
    ec2: Any, bootstrapped: Config, tool: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    image = begin(ec2, tool, launch(bootstrapped, "l4"), "slow")
    made = backend().amis[image]
    steps = iter(["pending", "pending", "available"])
    made.state = next(steps)

    def pause(seconds: float) -> None:
        assert seconds > 1
        made.state = next(steps)

    assert tool.ec2.wait_for(ec2, image, pause)["State"] == "available"
    assert capsys.readouterr().out.count(f"{image}: pending, 100% copied\n") == 1


def test_a_failed_image_is_told_and_its_worker_ends(
    ec2: Any, bootstrapped: Config, tool: SimpleNamespace
) -> None:
    worker = launch(bootstrapped, "l4")
    ec2.create_tags(
        Resources=[worker], Tags=tool.ec2.pairs({"ray-cluster-name": "image of rewind-ray"})
    )
    image = begin(ec2, tool, worker, "broken", **{tool.ec2.FROM_MACHINE: worker})
    backend().amis[image].state = "failed"
    with pytest.raises(RuntimeError, match=f"{image} is failed.*--delete {image}"):
        tool.image.finish(ec2, bootstrapped, image, time.sleep)
    assert state(ec2, worker) == "terminated"


def test_a_wait_that_was_interrupted_is_resumed(
    ec2: Any,
    bootstrapped: Config,
    tool: SimpleNamespace,
    cluster_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The worker that was used up ends; one that a tag only names, and works, doesn't."""
    worker, other = launch(bootstrapped, "l4"), launch(bootstrapped, "l4")
    ec2.create_tags(
        Resources=[worker], Tags=tool.ec2.pairs({"ray-cluster-name": "image of rewind-ray"})
    )
    image = begin(ec2, tool, worker, "one", **{tool.ec2.FROM_MACHINE: worker})
    false = begin(ec2, tool, other, "two", **{tool.ec2.FROM_MACHINE: other})
    assert tool.main(cluster_file, show_all=True) == 0
    assert worker in capsys.readouterr().out
    for each in (image, false):
        assert tool.main(cluster_file, resume=each, write=tmp_path / "baked.yaml") == 0
        printed = capsys.readouterr().out
        assert "--delete" in printed  # the other one costs, too
        check_file(tmp_path / "baked.yaml", cluster_file, each)
    assert state(ec2, worker) == "terminated"
    assert state(ec2, other) == "running"
    assert tool.main(cluster_file, resume=image) == 0
    printed = capsys.readouterr().out
    shown = yaml.safe_load("setup_commands:" + printed.partition("setup_commands:")[2])
    assert shown["setup_commands"] == load_file(tmp_path / "baked.yaml")["setup_commands"]


def load_file(path: Path) -> Config:
    return yaml.safe_load(path.read_text())


def test_names_that_are_taken_or_not_allowed(
    ec2: Any, bootstrapped: Config, tool: SimpleNamespace
) -> None:
    tool.ec2.check_name(ec2, "rewind-ray-2026-11-30")
    image = begin(ec2, tool, launch(bootstrapped, "l4"), "rewind-ray-2026-11-30")
    with pytest.raises(ValueError, match=image):
        tool.ec2.check_name(ec2, "rewind-ray-2026-11-30")
    with pytest.raises(ValueError, match="a:b"):
        tool.ec2.check_name(ec2, "a:b")


def test_an_image_that_others_may_use_is_seen(
    ec2: Any,
    bootstrapped: Config,
    tool: SimpleNamespace,
    cluster_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = begin(ec2, tool, launch(bootstrapped, "l4"), "shared")

    def listed() -> str:
        capsys.readouterr()
        assert tool.main(cluster_file, show_all=True) == 0
        return capsys.readouterr().out.strip()

    assert listed().endswith("private")
    friend = {"LaunchPermission": {"Add": [{"UserId": "210987654321"}]}}
    ec2.modify_image_attribute(ImageId=image, **friend)
    assert listed().endswith("SHARED WITH 210987654321")
    (snapshot,) = tool.ec2.snapshots_of(ec2, {"ImageId": image})
    ec2.modify_snapshot_attribute(
        SnapshotId=snapshot,
        Attribute="createVolumePermission",
        OperationType="add",
        GroupNames=["all"],
    )
    assert listed().endswith("SHARED WITH 210987654321, EVERYBODY")


def test_delete_takes_the_snapshots_and_only_its_own(
    ec2: Any,
    bootstrapped: Config,
    tool: SimpleNamespace,
    cluster_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = launch(bootstrapped, "l4")
    image, rest = begin(ec2, tool, machine, "mine"), begin(ec2, tool, machine, "rest")
    others = begin(ec2, tool, machine, "others", **{tool.ec2.IMAGE_OF: "another"})
    by_hand = ec2.create_image(InstanceId=machine, Name="by hand")["ImageId"]
    monkeypatch.setattr("builtins.input", lambda _: "n")
    with pytest.raises(ValueError, match="nothing was changed"):
        tool.main(cluster_file, remove=image)
    for foreign in (others, by_hand, "ami-0123456789abcdef0"):
        with pytest.raises(ValueError, match=foreign):
            tool.main(cluster_file, remove=foreign, yes=True)
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert tool.main(cluster_file, remove=image) == 0
    left = ec2.describe_images(Owners=["self"])["Images"]
    assert {one["ImageId"] for one in left} == {rest, others, by_hand}
    assert len(ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]) == 3

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    event = "before-call.ec2.DeleteSnapshot"
    boto3.DEFAULT_SESSION.events.register(event, interrupted)
    with pytest.raises(KeyboardInterrupt):
        tool.main(cluster_file, remove=rest, yes=True)
    boto3.DEFAULT_SESSION.events.unregister(event, interrupted)
    assert tool.main(cluster_file, remove=rest, yes=True) == 0
    ec2.deregister_image(ImageId=others)
    with pytest.raises(ValueError, match=others):
        tool.main(cluster_file, remove=others, yes=True)
    assert len(ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]) == 2


def from_start_to_end(tool: SimpleNamespace, config: Config, machine: str, file: Path) -> None:
    """What the command asks of AWS, with the credentials of the environment."""
    client = boto3.client("ec2", region_name=REGION)
    tool.machine.machines_of(client, config)
    tool.ec2.check_name(client, "allowed")
    tool.ec2.check_allowed(client.create_image, InstanceId=machine, Name="allowed")
    tool.ec2.check_allowed(client.terminate_instances, InstanceIds=[machine])
    tool.ec2.tag(client, [machine], {"ray-cluster-name": "image of rewind-ray"})
    image = begin(client, tool, machine, "allowed", **{tool.ec2.FROM_MACHINE: machine})
    tool.main(file, resume=image)
    tool.main(file, show_all=True)
    tool.main(file, remove=image, yes=True)


def test_the_documented_rights_are_enough_and_needed(
    ec2: Any,
    bootstrapped: Config,
    tool: SimpleNamespace,
    cluster_file: Path,
) -> None:
    page = (ROOT / "docs/cluster.md").read_text()
    for right in tool.image.RIGHTS:
        assert f"`{right.removeprefix('ec2:')}`" in page, right
    iam = boto3.client("iam")
    iam.create_user(UserName="baker")
    key = iam.create_access_key(UserName="baker")["AccessKey"]

    def works(rights: tuple[str, ...]) -> bool:
        machine = launch(bootstrapped, "l4")
        document = tool.rights.policy(tool.rights.allow(*rights, on="*"))
        iam.put_user_policy(
            UserName="baker", PolicyName="image", PolicyDocument=json.dumps(document)
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
            patch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
            patch.setattr(boto3, "DEFAULT_SESSION", None)
            flow = set_initial_no_auth_action_count(0)(from_start_to_end)
            try:
                flow(tool, bootstrapped, machine, cluster_file)
            except ClientError as error:
                assert "AccessDenied" in error.response["Error"]["Code"]
                return False
            finally:
                backend().amis = {k: a for k, a in backend().amis.items() if a.name != "allowed"}
        return True

    assert works(tool.image.RIGHTS)
    for right in tool.image.RIGHTS:
        assert not works(tuple(other for other in tool.image.RIGHTS if other != right)), right


# the file


@pytest.fixture
def text() -> str:
    return FILES["aws"].read_text()


def test_a_file_changes_in_three_places(tool: SimpleNamespace, text: str) -> None:
    use = tool.file.use_of(yaml.safe_load(text), "ami-1", "head")
    assert use.types == ("head", "l4", "a10g")
    before, after = text.splitlines(), tool.file.edited(text, use).splitlines()
    new = [line.strip() for line in after if line not in before]
    image, install = new
    assert image == "ImageId: ami-1"
    assert "--no-index --no-build-isolation" in install and "--editable ." in install
    assert len(before) - len(after) == 4  # lines of the command that makes ~/venv
    assert comments(before) == comments(after)
    again = tool.file.edited("\n".join(after), tool.file.use_of(use_config(after), "ami-2", "l4"))
    assert again == "\n".join(after).replace("ami-1", "ami-2")


def comments(lines: list[str]) -> list[str]:
    return [line for line in lines if line.lstrip().startswith("#")]


def use_config(lines: list[str]) -> Config:
    return yaml.safe_load("\n".join(lines))


def test_a_type_with_another_image_keeps_it_and_its_set_up(
    tool: SimpleNamespace, text: str
) -> None:
    text = text.replace("  a10g:\n", "  arm:\n    node_config: {ImageId: ami-arm}\n  a10g:\n")
    config = yaml.safe_load(text)
    use = tool.file.use_of(config, "ami-1", "l4")
    assert use.types == ("head", "l4", "a10g")
    assert use.others == ("arm",)
    made = yaml.safe_load(tool.file.edited(text, use))
    assert made["setup_commands"] == config["setup_commands"]
    assert made["available_node_types"]["arm"] == {"node_config": {"ImageId": "ami-arm"}}
    own = tool.file.edited(text, tool.file.use_of(config, "ami-1", "arm"))
    assert own == text.replace("ami-arm", "ami-1")


def test_files_that_cannot_be_edited_are_refused(tool: SimpleNamespace, text: str) -> None:
    config = yaml.safe_load(text)
    with pytest.raises(ValueError, match="h100"):
        tool.file.use_of(config, "ami-1", "h100")
    flow = yaml.safe_dump(config, default_flow_style=True, width=10**6)
    with pytest.raises(ValueError, match="own line"):
        tool.file.edited(flow, tool.file.use_of(config, "ami-1", "l4"))


@pytest.mark.parametrize("pin", [None, "numpy==1.0"])
def test_the_installation_downloads_nothing_and_notices_other_packages(
    pin: str | None, tool: SimpleNamespace, tmp_path: Path
) -> None:
    """By pip, in this environment; of Ray's parts only those that the tests need are in it."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    if pin is not None:
        constraints = [c for c in constraints if not c.startswith("numpy==")] + [pin]
    (tmp_path / "constraints.txt").write_text("\n".join(constraints))
    (install,) = [c for c in load("aws")["setup_commands"] if "--editable" in c]
    words = shlex.split(tool.file.still_needed(install).replace("'ray[default]'", "ray"))
    assert words[:4] == ["cd", "~/rewind-ray", "&&", "~/venv/bin/pip"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words[4:], "--dry-run"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PIP_")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == (pin is None), done.stdout + done.stderr


# the command


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([FILES["gcp"]], "is for gcp, not for aws"),
        ([ROOT / "nowhere.yaml"], "nowhere.yaml"),
        ([FILES["aws"], "--list"], "aws configure"),
        ([FILES["aws"], "--list", "--delete", "ami-1"], "one of"),
        ([FILES["aws"], "--write", FILES["aws"]], "another file"),
    ],
)
def test_what_cannot_be_done_is_told(arguments: list[Any], says: str) -> None:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=inherited | {"AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nowhere"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
