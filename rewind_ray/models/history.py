"""A folder with the checkpoints of a training that was not ours, one an epoch.

A file's epoch is the last whole number in its name, the ending aside, and counts the epochs that
were trained until then: ``0090.safetensors``, ``resnet18_epoch-90.pt``. The last one is the trained
network.
"""

from __future__ import annotations

import re
from pathlib import Path

from rewind_ray.errors import MissingFile, UserError
from rewind_ray.text import printable

FLAG = "--init-history"
ENDINGS = (".safetensors", ".pt", ".pth", ".bin")
"""Files with another one are left out."""

DIGITS = 9
"""Of an epoch, at most."""


def history_files(folder: str | Path) -> dict[int, Path]:
    """Epoch -> file, rising. Raises MissingFile, or UserError for names that don't say epochs."""
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise MissingFile(f"{FLAG} {folder}: there is no such folder")
    files = sorted(file for file in place.iterdir() if file.suffix in ENDINGS and file.is_file())
    if not files:
        raise MissingFile(f"{FLAG} {folder}: it has no files that end in {', '.join(ENDINGS)}")
    found: dict[int, Path] = {}
    for file in files:
        epoch = epoch_of(file)
        if epoch in found:
            raise UserError(
                f"{FLAG} {folder}: {_name(found[epoch])} and {_name(file)} are both of epoch "
                f"{epoch}, by the last number in their names; leave one of them out"
            )
        found[epoch] = file
    if max(found) == 0:
        raise UserError(
            f"{FLAG} {folder}: {_name(files[0])} is of epoch 0 and there is no later one; give a "
            "single file of trained weights by --init"
        )
    return dict(sorted(found.items()))


def epoch_of(file: Path) -> int:
    """Raises UserError for a name without a number."""
    numbers = re.findall(r"\d+", file.stem, re.ASCII)
    if not numbers:
        raise UserError(
            f"{FLAG}: the name of {_name(file)} has no number; the last one in a name is its "
            "epoch, as in 0090.safetensors: rename the file, or move it elsewhere"
        )
    if len(numbers[-1]) > DIGITS:
        raise UserError(
            f"{FLAG}: the last number in the name of {_name(file)} would be its epoch, and has "
            f"more than {DIGITS} digits; rename the file, as in 0090.safetensors"
        )
    return int(numbers[-1])


def _name(file: Path) -> str:
    return printable(file.name)
