"""What limits the training on data that is read while it trains: reading, or the device."""

from __future__ import annotations

SECONDS = 10.0
"""Of an epoch, from which on a report is worth a line."""
SHARE = 0.1
"""Of an epoch; waiting for more of it is too much."""


def limit_of(waited_seconds: float, train_seconds: float) -> tuple[bool, str]:
    """Whether reading limits the training, and a line that says what does.

    waited_seconds: of the epoch's ``train_seconds``, in which the next batch wasn't there yet.
    """
    share = waited_seconds / train_seconds
    if share <= SHARE:
        return False, f"the device limits the training: it waited for data {share:.0%} of the time"
    return True, (
        f"reading the data limits the training: {share:.0%} of the first epoch was spent waiting "
        "for it; give each stage more cores (--cpus-per-trial), train fewer stages at once on a "
        "machine, or put the data on a faster disk"
    )
