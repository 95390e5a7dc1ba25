"""A network in ONNX with weights and activations in int8, by ONNX Runtime's static quantisation.

Activations' ranges are those seen on training examples. Weights are scaled symmetrically, each
output channel by its largest, so that pruned ones stay exactly zero.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

EXAMPLES = 512
"""That the ranges are measured on, at most."""


def quantised(model: bytes, input_name: str, batches: Iterable[Tensor]) -> bytes:
    """model: ONNX in fp32, with one input. batches: of that input, as in training."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        whole, folded, small = (Path(folder) / f"{name}.onnx" for name in ("a", "b", "c"))
        whole.write_bytes(model)
        facts = {entry.key: entry.value for entry in onnx.load(whole).metadata_props}
        before = logging.root.level
        logging.root.setLevel(logging.ERROR)  # it advises what is done here already
        try:
            # BatchNorm is folded into the convolution before it, which takes one rounding less
            quant_pre_process(whole, folded, skip_symbolic_shape=True)
            quantize_static(
                folded,
                small,
                _Reader(input_name, first_of(batches)),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QInt8,
            )
        finally:
            logging.root.setLevel(before)
        made = onnx.load(small)
        onnx.helper.set_model_props(made, facts)
        data: bytes = made.SerializeToString()
        return data


def first_of(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Up to EXAMPLES examples."""
    left = EXAMPLES
    for batch in batches:
        yield batch[:left]
        left -= len(batch)
        if left <= 0:
            return


class _Reader:
    """What ONNX Runtime takes examples from."""

    def __init__(self, input_name: str, batches: Iterator[Tensor]) -> None:
        self._name, self._batches = input_name, batches

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch.contiguous().numpy()}
