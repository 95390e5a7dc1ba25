"""Ray's own reconciler, the core of its autoscaler, and a cloud that refuses some machines."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.instance_manager.instance_manager import InstanceManager
from ray.autoscaler.v2.instance_manager.instance_storage import InstanceStorage
from ray.autoscaler.v2.instance_manager.node_provider import (
    CloudInstance,
    CloudInstanceProviderError,
    ICloudInstanceProvider,
    LaunchNodeError,
)
from ray.autoscaler.v2.instance_manager.reconciler import Reconciler
from ray.autoscaler.v2.instance_manager.storage import InMemoryStorage
from ray.autoscaler.v2.instance_manager.subscribers.cloud_instance_updater import (
    CloudInstanceUpdater,
)
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import (
    CloudResourceMonitor,
)
from ray.autoscaler.v2.instance_manager.subscribers.threaded_ray_installer import (
    RayInstallError,
)
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import (
    ClusterResourceState,
    GangResourceRequest,
    GetClusterStatusReply,
    NodeState,
    NodeStatus,
)
from ray.core.generated.instance_manager_pb2 import NodeKind

HEAD = "i-head"


@dataclass
class Cloud(ICloudInstanceProvider):
    """Starts at once what it doesn't refuse."""

    refuses: tuple[str, ...] = ()
    attempts: Counter[str] = field(default_factory=Counter)
    """Machine type -> number asked for."""
    machines: dict[str, CloudInstance] = field(
        default_factory=lambda: {HEAD: CloudInstance(HEAD, "head", NodeKind.HEAD, True)}
    )
    errors: list[CloudInstanceProviderError] = field(default_factory=list)
    numbers: itertools.count = field(default_factory=itertools.count)

    def launch(self, shape: dict[str, int], request_id: str) -> None:
        for kind, count in shape.items():
            self.attempts[kind] += count
            if kind in self.refuses:
                now = time.time_ns()
                self.errors.append(LaunchNodeError(kind, count, request_id, now, "no capacity"))
                continue
            for _ in range(count):
                name = f"i-{next(self.numbers)}"
                self.machines[name] = CloudInstance(name, kind, NodeKind.WORKER, True, request_id)

    def terminate(self, ids: list[str], request_id: str) -> None:
        for name in ids:
            self.machines.pop(name, None)

    def get_non_terminated(self) -> dict[str, CloudInstance]:
        return dict(self.machines)

    def poll_errors(self) -> list[CloudInstanceProviderError]:
        errors, self.errors = self.errors, []
        return errors

    def running(self) -> Counter[str]:
        """Workers of each type."""
        return Counter(m.node_type for name, m in self.machines.items() if name != HEAD)


def reconcile(
    cloud: Cloud,
    config: AutoscalingConfig,
    trial: dict[str, float],
    trials: int,
    ticks: int,
    setup_fails: bool = False,
) -> list[GetClusterStatusReply]:
    """See ``rounds``."""
    replies = rounds(cloud, config, trial, trials, setup_fails)
    return list(itertools.islice(replies, ticks))


def rounds(
    cloud: Cloud,
    config: AutoscalingConfig,
    trial: dict[str, float],
    trials: int,
    setup_fails: bool = False,
) -> Iterator[GetClusterStatusReply]:
    """What the autoscaler reports of so many waiting trials after each of its rounds.

    setup_fails: the set-up of every machine does, such as the installation of a package.
    """
    updater = CloudInstanceUpdater(cloud_provider=cloud)
    monitor = CloudResourceMonitor()
    storage = InstanceStorage(cluster_id="test", storage=InMemoryStorage())
    manager = InstanceManager(storage, instance_status_update_subscribers=[updater, monitor])
    demand = [
        GangResourceRequest(requests=[ResourceRequestUtil.make(trial)]) for _ in range(trials)
    ]
    head = NodeState(
        node_id=b"0" * 28,
        instance_id=HEAD,
        ray_node_type_name="head",
        status=NodeStatus.RUNNING,
        total_resources={"node:__internal_head__": 1},
        labels={"usd-per-hour": "0.25"},
    )
    errors: list[RayInstallError] = []
    for tick in itertools.count():
        seen = ClusterResourceState(
            cluster_resource_state_version=tick,
            node_states=[head],
            pending_gang_resource_requests=demand,
        )
        state = Reconciler.reconcile(
            instance_manager=manager,
            scheduler=ResourceDemandScheduler(None),
            cloud_provider=cloud,
            cloud_resource_monitor=monitor,
            ray_cluster_resource_state=seen,
            non_terminated_cloud_instances=cloud.get_non_terminated(),
            cloud_provider_errors=cloud.poll_errors(),
            ray_install_errors=errors if setup_fails else [],
            autoscaling_config=config,
        )
        errors = [
            RayInstallError(one.instance_id, "no such package") for one in state.pending_instances
        ]
        yield GetClusterStatusReply(autoscaling_state=state, cluster_resource_state=seen)
