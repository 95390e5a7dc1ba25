"""Pruning and retraining as a walk on a stage graph. Needs torch and numpy, never Ray.

spec, retraining, schedule, protocols, ..._options, result        what a stage is: plain data
training/     a stage from its start to its row
store/        where everything is kept
tasks/        what a network is trained on and for: data, loss, metric
datasets/     batches as a pure function of (data, seed, epoch)
models/       networks by name
pruning/      masks, criteria, structures, and cutting filters out
export/       a finished stage as a file
"""

__version__ = "0.1.0"
