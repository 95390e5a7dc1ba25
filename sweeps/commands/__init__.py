"""The commands of ``rewind-ray``, one module each."""

COMMANDS = ("list", "smoke", "doctor", "calibrate", "status", "control", "storage")
