"""Pruning and retraining as a walk on a stage graph. Needs torch and numpy, never Ray."""

__version__ = "0.1.0"
