"""A cluster file whose machines start from an image that has everything installed."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any

import yaml

MAKES_VENV = re.compile(r"\s-m venv\s")
INSTALLS = re.compile(r"\bpip install\b(?=.*\s(--editable|-e)\s)", re.DOTALL)
OFFLINE = "pip install --no-index --no-build-isolation"
"""Downloads nothing, and fails if the image lacks what constraints.txt asks for."""

Config = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """What a cluster file has to say for its machines to start from an image."""

    image: str
    types: tuple[str, ...]
    """Machine types that start from it."""
    others: tuple[str, ...]
    """Types that keep an image of their own."""
    setup: tuple[str, ...]
    """``setup_commands``; shortened only if all types start from the image."""


def use_of(config: Config, image: str, node_type: str) -> Use:
    """How to use the image of a machine of this type: wherever the same image was used before.

    Raises ValueError if the file has no such type or no image for it.
    """
    images = {
        name: settings["node_config"].get("ImageId")
        for name, settings in config["available_node_types"].items()
    }
    before = images.get(node_type)
    if before is None:
        raise ValueError(
            f"the cluster file has no ImageId for {node_type!r}, the image's machine type; "
            f"its types with one: {', '.join(n for n, i in images.items() if i) or 'none'}"
        )
    others = tuple(name for name, other in images.items() if other != before)
    setup = config.get("setup_commands", [])
    return Use(
        image=image,
        types=tuple(name for name in images if name not in others),
        others=others,
        setup=tuple(setup if others else filter(None, map(still_needed, setup))),
    )


def still_needed(command: str) -> str | None:
    """A set-up command as machines from the image need it; None if they don't."""
    if MAKES_VENV.search(command):
        return None
    if INSTALLS.search(command) and "--no-index" not in command:
        return command.replace("pip install", OFFLINE, 1)
    return command


def applied(config: Config, use: Use) -> Config:
    config = copy.deepcopy(config)
    for name in use.types:
        config["available_node_types"][name]["node_config"]["ImageId"] = use.image
    if "setup_commands" in config:
        config["setup_commands"] = list(use.setup)
    return config


def edited(text: str, use: Use) -> str:
    """The file's text with only these places changed: comments and anchors stay.

    Raises ValueError if it is written in a way that this can't change.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    types = child(root, "available_node_types")
    images = {child(child(child(types, name), "node_config"), "ImageId") for name in use.types}
    edits = [(*span(node), use.image) for node in images if node is not None]
    setup = child(root, "setup_commands")
    for node in setup.value if setup is not None and not use.others else ():
        needed = still_needed(node.value)
        if needed is None:
            edits.append((*lines_of(text, node), ""))
        elif needed != node.value:
            start, end = span(node)
            edits.append((start, end, text[start:end].replace("pip install", OFFLINE, 1)))
    changed = text
    for start, end, new in sorted(edits, reverse=True):
        changed = changed[:start] + new + changed[end:]
    if reloaded(changed) != applied(yaml.safe_load(text), use):
        raise ValueError(
            "the cluster file is written in a way that can't be edited here: give each type its "
            "own ImageId, and each set-up command its own line"
        )
    return changed


def reloaded(text: str) -> Config | None:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def child(mapping: yaml.MappingNode | None, key: str) -> Any:
    """Node of the key's value, also where it is merged in by ``<<``; None if there is none."""
    found = {} if mapping is None else {name.value: node for name, node in mapping.value}
    if key in found:
        return found[key]
    merged = found.get("<<")
    for other in merged.value if isinstance(merged, yaml.SequenceNode) else filter(None, [merged]):
        if (node := child(other, key)) is not None:
            return node
    return None


def span(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.index, node.end_mark.index


def lines_of(text: str, node: yaml.Node) -> tuple[int, int]:
    """Where the node's whole lines begin and end."""
    start, end = span(node)
    if node.end_mark.column > 0:
        end = text.find("\n", end) + 1 or len(text)
    return text.rfind("\n", 0, start) + 1, end
