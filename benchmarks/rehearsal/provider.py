"""A node provider of Ray's autoscaler: one file for each machine that it wants.

Ray imports it on the head. Whoever owns the folder starts a machine for each new file, and ends the
machine whose file is deleted; a file that the owner deletes is a machine that was lost.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

HEAD = "head"


class FolderProvider(NodeProvider):
    """provider_config: ``folder``; ``refuses``, the machine types of which there are none."""

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        return [
            name
            for name, wanted in self._wanted().items()
            if tag_filters.items() <= wanted["tags"].items()
        ]

    def is_running(self, node_id: str) -> bool:
        return node_id in self._wanted()

    def is_terminated(self, node_id: str) -> bool:
        return not self.is_running(node_id)

    def node_tags(self, node_id: str) -> dict[str, str]:
        tags: dict[str, str] = self._wanted().get(node_id, {"tags": {}})["tags"]
        return tags

    def internal_ip(self, node_id: str) -> str:
        return node_id

    external_ip = internal_ip

    def create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> None:
        """Raises RuntimeError for a type that is refused, in EC2's word."""
        kind = tags[TAG_RAY_USER_NODE_TYPE]
        if kind in self.provider_config["refuses"]:
            with (self._folder / "refused.log").open("a") as log:
                log.write(f"{count} {kind}\n")
            raise RuntimeError(f"InsufficientInstanceCapacity: no {kind} is to be had")
        for _ in range(count):
            wanted = {"tags": tags, "kind": kind, "resources": resources, "labels": labels}
            write(self._folder, f"i-{uuid.uuid4().hex[:8]}", wanted)

    def terminate_node(self, node_id: str) -> None:
        (self._folder / f"{node_id}.json").unlink(missing_ok=True)

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        return cluster_config

    @property
    def _folder(self) -> Path:
        return Path(self.provider_config["folder"])

    def _wanted(self) -> dict[str, dict[str, Any]]:
        tags = {
            TAG_RAY_NODE_KIND: NODE_KIND_HEAD,
            TAG_RAY_USER_NODE_TYPE: HEAD,
            TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
        }
        return {HEAD: {"tags": tags}} | read(self._folder)


def write(folder: Path, name: str, wanted: Mapping[str, Any]) -> None:
    new = folder / f"{name}.new"
    new.write_text(json.dumps(wanted))
    os.replace(new, folder / f"{name}.json")


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Machine -> what it is to be."""
    found = {}
    for file in sorted(folder.glob("i-*.json")):
        try:
            found[file.stem] = json.loads(file.read_text())
        except FileNotFoundError:  # ended meanwhile
            continue
    return found
