"""The comparison setups of Wang et al. 2023, as tuples of conditions."""

from __future__ import annotations

_S1 = ("same data and network", "same compression or speedup")
_S2 = (*_S1, "same base models")
_S32 = (*_S2, "same retraining learning rates")

# Wang et al. 2023, slides, "Pruning History 101"; their "finetuning" is called retraining here
SETUPS: dict[str, tuple[str, ...]] = {
    "S1": _S1,
    "S2": _S2,
    "S3.1": (*_S2, "same retraining epochs"),
    "S3.2": _S32,
    "S4.1": (*_S32, "same pruning epochs"),
    "S4.2": (*_S32, "same pruning learning rates"),
    "SX-A": (*_S1, "same total epochs"),
    "SX-B": (*_S1, "same total FLOPs"),
}

LADDER = ("S1", "S2", "S3.1", "S3.2", "S4.1", "S4.2")
"""Each satisfies those before it: what has the same learning rates has the same epochs."""

BESIDE = ("SX-A", "SX-B")
"""They ask for nothing but S1 and the whole cost, so a base model needn't be shared."""

SHORT = {
    "S1": "same network, data and compression",
    "S2": "same base models",
    "S3.1": "same base models, same retraining epochs",
    "S3.2": "same base models, same retraining epochs and learning rates",
    "S4.1": "same base models, same retraining, same pruning epochs",
    "S4.2": "same base models, same retraining, same pruning",
    "SX-A": "same total epochs",
    "SX-B": "same total FLOPs",
}
