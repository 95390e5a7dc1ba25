"""A finished stage as a file to deploy: ``rewind-ray export STAGE --format pt2``.

command    what is typed; a stage's network, what is known of it, and the files
formats    safetensors, pt2, ONNX and state_dict, as bytes
plain      source of a plain PyTorch module, beside files that hold weights alone
quantise   int8
card       the model card
latency    dense and exported network, measured in turn
"""

from rewind_ray.export.formats import read_safetensors

__all__ = ["read_safetensors"]
