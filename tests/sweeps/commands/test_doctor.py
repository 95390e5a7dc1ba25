"""The doctor: real probes of this machine, and verdicts on facts that are bad."""

import copy
import json

import pytest

from rewind_ray.errors import UserError
from sweeps.commands.doctor import (
    Node,
    check_node,
    check_shared,
    doctor_command,
    facts_of_node,
    token_mode,
)
from sweeps.run.ray_access import keep_token_private
from tests.sweeps.running import run


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    return facts_of_node(str(tmp_path_factory.mktemp("storage")))


def verdicts(node, driver, offset=0.0, needed=None):
    examined = Node(facts=node, driver=driver, offset=offset, needed=needed)
    return {result.check: result for result in check_node("n", examined)}


def test_a_healthy_machine(facts):
    private = facts | {"token_mode": 0o600}
    found = verdicts(private, private, needed=1)
    assert {check: one.verdict for check, one in found.items() if one.verdict != "ok"} == {}
    assert {"python", "code", "packages", "gpu", "storage", "disk", "clock", "threads"} <= set(
        found
    )


def test_a_token_that_others_can_read_is_made_private(tmp_path, monkeypatch):
    token = tmp_path / "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    keep_token_private()  # there is none
    assert token_mode() is None
    token.write_text("secret")
    token.chmod(0o644)
    assert token_mode() == 0o644
    keep_token_private()
    assert token_mode() == 0o600 and token.read_text() == "secret"


@pytest.mark.parametrize(
    ("change", "check", "verdict", "words"),
    [
        ({"token_mode": 0o644}, "token", "warning", "0644"),
        ({"python": "3.9.1"}, "python", "error", "3.9.1"),
        ({"code": "0" * 8}, "code", "error", "same commit"),
        ({"packages": {"torch": "1.0", "ray": None}}, "packages", "error", "torch 1.0"),
        ({"gpus": {"listed": ["A", "B"], "usable": 1}}, "gpu", "error", "torch can use 1"),
        ({"gpus": {"listed": ["A"], "usable": 1}, "mps": False}, "mps", "warning", "-d"),
        ({"storage": {"error": "Read-only file system"}}, "storage", "error", "Read-only"),
        ({"storage": {"seconds": 9.0, "free": None}}, "storage", "warning", "9.00 s"),
        ({"storage": {"seconds": 0.1, "free": 10**6}}, "disk", "warning", "--keep referenced"),
        ({"omp_threads": "4096"}, "threads", "warning", "OMP_NUM_THREADS=4096"),
    ],
)
def test_problems_come_with_advice(facts, change, check, verdict, words):
    node = copy.deepcopy(facts)
    if "packages" in change:
        node["packages"] |= change["packages"]
    else:
        node |= change
    result = verdicts(node, facts)[check]
    assert result.verdict == verdict
    assert words in f"{result.seen} {result.advice}" and result.advice


def test_disk_is_compared_with_the_sweeps_need(facts):
    free = facts["storage"]["free"]
    assert verdicts(facts, facts, needed=free // 2)["disk"].verdict == "ok"
    assert verdicts(facts, facts, needed=free * 2)["disk"].verdict == "error"


def test_a_clock_that_is_off(facts):
    assert verdicts(facts, facts, offset=-60)["clock"].verdict == "warning"


def test_nodes_that_dont_share_the_storage():
    assert check_shared("/results", {"a": ["m", "n"], "b": ["m", "n"]}) == []
    (result,) = check_shared("/results", {"a": ["m", "n"], "b": ["n"]})
    assert (result.node, result.verdict) == ("b", "error")


def test_the_probe_leaves_nothing_behind(tmp_path):
    facts_of_node(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_storage_is_exit_code_1(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert doctor_command(storage=str(tmp_path / "file" / "storage"), json=True) == 1
    lines = json.loads(capsys.readouterr().out)
    assert [line["check"] for line in lines if line["verdict"] == "error"] == ["storage"]


def test_an_unknown_sweep_is_wrong_usage(tmp_path):
    with pytest.raises(UserError, match="no sweep 'nothing'"):
        doctor_command(storage=str(tmp_path), sweep="nothing")


@pytest.mark.slow
def test_every_node_of_a_real_cluster_is_examined(tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        result = run(
            *("sweeps", "doctor", "--storage", str(tmp_path), "--json"),
            *("--address", cluster.address),
        )
        results = json.loads(result.stdout)
        assert len([one for one in results if one["check"] == "storage"]) == 2, result.stderr
        assert {one["verdict"] for one in results} <= {"ok", "warning"}
        assert list(tmp_path.iterdir()) == []
    finally:
        cluster.shutdown()
