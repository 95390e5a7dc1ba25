"""Taking a node out of a cluster: Ray puts nothing new on it."""

from __future__ import annotations

import time

from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]


def set_aside(gcs: GcsClient, node_id: str, why: str, seconds: float | None = None) -> bool:
    """Whether Ray accepts it. seconds: until the machine ends, if it will by itself.

    As preempted, which Ray never rejects; as idle it rejects it while the node is busy.
    """
    deadline = 0 if seconds is None else int(1000 * (time.time() + seconds))
    accepted, _ = gcs.drain_node(
        node_id, DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION, why[:200], deadline
    )
    return bool(accepted)
