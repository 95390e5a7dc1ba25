"""What a sweep shows and counts of a cluster, from what Ray's own reconciler reports."""

from __future__ import annotations

import itertools
import logging
from types import SimpleNamespace

import pytest
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.v2.instance_manager import node_provider
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply, NodeStatus

from rewind_ray.errors import UserError
from sweeps.run.cluster_watch import (
    SETUPS_IN_A_ROW,
    ClusterState,
    ClusterWatch,
    Limits,
    check_prices,
    state_of,
)
from tests.cluster.configs import prepared
from tests.cluster.failing_cloud import Cloud, reconcile

GPU = {"CPU": 1, "GPU": 1}


@pytest.fixture(scope="module")
def config() -> AutoscalingConfig:
    return AutoscalingConfig(prepared("gcp"), skip_content_hash=True)


def test_machines_that_start_are_shown(config):
    state = state_of(reconcile(Cloud(), config, GPU, trials=3, ticks=3)[-1])
    assert state.starting == {"l4": 3}
    assert "3 l4 starting" in state.describe()


def test_a_refusal_is_shown_with_its_error(config, tmp_path):
    """As Ray's adapter of node providers logs it, which reports none."""
    log = tmp_path / "monitor.log"
    logging.getLogger(node_provider.__name__).addHandler(logging.FileHandler(log))
    reader = SimpleNamespace(get_cached_autoscaling_config=lambda: config)
    adapter = node_provider.NodeProviderAdapter(SoldOut({}, "test"), reader)
    adapter._launch_nodes_by_type("l4", 2, "request")
    (reply,) = reconcile(Cloud(refuses=("l4",)), config, GPU, trials=3, ticks=4)[-1:]
    watch = ClusterWatch(lambda: state_of(reply), log)
    watch.look()
    assert watch.state.refused == ("l4",)
    assert watch.waits_for().endswith("l4 refused (l4: InsufficientInstanceCapacity)")
    assert watch.says() == {"machines": 1, "waits_for": watch.waits_for(), "dollars": 0.0}


class SoldOut(NodeProvider):
    def create_node(self, node_config, tags, count):
        raise RuntimeError("InsufficientInstanceCapacity")


def test_what_no_machine_can_hold_is_shown(config):
    state = state_of(reconcile(Cloud(), config, {"CPU": 64}, trials=2, ticks=1)[-1])
    assert state.impossible == ("64 CPU",)
    assert not state.starting


def test_what_only_has_to_wait_for_a_machine_is_not_impossible():
    """Ray reports it as infeasible once it may start no more machines."""
    reply = GetClusterStatusReply()
    bundle = reply.autoscaling_state.infeasible_gang_resource_requests.add().requests.add()
    bundle.resources_bundle["CPU"] = 1
    node = reply.cluster_resource_state.node_states.add(node_id=b"1", status=NodeStatus.RUNNING)
    assert state_of(reply).impossible == ("1 CPU",)
    node.total_resources["CPU"] = 1
    assert state_of(reply).impossible == ()
    node.status = NodeStatus.DEAD
    assert state_of(reply).impossible == ("1 CPU",)


def test_set_ups_that_always_fail_end_the_sweep(config):
    """Ray itself launches again without end."""
    cloud = Cloud()
    replies = reconcile(cloud, config, GPU, trials=1, ticks=40, setup_fails=True)
    assert cloud.attempts["l4"] > SETUPS_IN_A_ROW
    watch = ClusterWatch(None)
    seen = []
    for reply in replies:
        watch.take_in(state_of(reply))
        seen.append(Limits(watch=watch).reached() is not None)
    assert seen.index(True) >= SETUPS_IN_A_ROW
    healthy = ClusterWatch(None)
    for reply in reconcile(Cloud(), config, GPU, trials=1, ticks=40):
        healthy.take_in(state_of(reply))
    assert Limits(watch=healthy).reached() is None


def test_a_machine_that_joins_forgives_those_before_it():
    """Also where Ray has forgotten a node meanwhile, so that there are no more of them."""
    watch = ClusterWatch(None)
    for number in range(SETUPS_IN_A_ROW - 1):
        lost = {f"lost {number}": "l4"}
        watch.take_in(ClusterState(nodes=frozenset({"head", "old"}), in_setup=lost))
    watch.take_in(ClusterState(nodes=frozenset({"head", "old"}), in_setup={"good": "l4"}))
    assert watch.setups_lost == SETUPS_IN_A_ROW - 1
    watch.take_in(ClusterState(nodes=frozenset({"head", "new"})))
    assert watch.setups_lost == 0


def test_money_is_counted_by_the_machines_prices(config):
    """Half an hour of the head alone, then an hour with two GPU machines and one without price."""
    (reply,) = reconcile(Cloud(), config, GPU, trials=0, ticks=1)
    alone = state_of(reply)
    assert list(alone.prices.values()) == [0.25]
    clock = itertools.chain([0, 0, 1800, 5400])
    watch = ClusterWatch(None, clock=lambda: next(clock))
    watch.take_in(alone)
    watch.take_in(ClusterState(prices={"head": 0.25, "a": 1.0, "b": 2.0, "c": None}))
    watch.take_in(ClusterState())
    assert watch.dollars == pytest.approx(0.5 * 0.25 + 1 * 3.25)
    assert Limits(watch=watch, dollars=3.5).reached() is None
    assert "--max-cost 3.3" in Limits(watch=watch, dollars=3.3).reached()


def test_a_machine_costs_before_it_joins():
    """Six minutes of set-up, which only the cluster file has a price for, then six of work."""
    clock = itertools.chain([0, 0, 360, 720])
    watch = ClusterWatch(None, clock=lambda: next(clock), type_prices={"l4": 0.8, "old": None})
    watch.take_in(ClusterState(prices={"head": 0.1}, in_setup={"a": "l4", "b": "old"}))
    watch.take_in(ClusterState(prices={"head": 0.1, "a": 0.8, "b": None}))
    assert watch.dollars == pytest.approx(0.1 * (0.1 + 0.8))
    watch.take_in(ClusterState())
    assert watch.dollars == pytest.approx(0.2 * (0.1 + 0.8))


def test_a_cost_without_prices_is_refused():
    with pytest.raises(UserError, match="usd-per-hour"):
        check_prices(ClusterWatch(lambda: ClusterState(prices={"head": None})))
    check_prices(ClusterWatch(lambda: ClusterState(prices={"head": 0.1})))
