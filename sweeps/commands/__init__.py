"""The commands of ``python -m sweeps``, one module each."""

COMMANDS = ("list", "smoke", "doctor", "calibrate", "storage")
