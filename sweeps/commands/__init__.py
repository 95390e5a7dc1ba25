"""``python -m sweeps …`` beside the recipes: list, doctor, calibrate, storage."""
