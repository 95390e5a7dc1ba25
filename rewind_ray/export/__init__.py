"""A finished stage as a file to deploy: ``python -m rewind_ray.export STAGE --format pt2``.

command    what is typed, and the formats: safetensors, pt2, ONNX, JSON
latency    dense and exported network, measured in turn
"""

from rewind_ray.export.command import read_safetensors

__all__ = ["read_safetensors"]
