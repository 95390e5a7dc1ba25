"""An exception as text: what it was, where, and whether trying again may help. No torch, no Ray.

A worker reports its failures this way. The exception itself never leaves the process: to read it
back, somebody would have to unpickle it.
"""

from __future__ import annotations

import errno
import traceback
from dataclasses import dataclass
from pathlib import Path

from rewind_ray.store.ledger import Ledger
from rewind_ray.store.opening import check_writable
from rewind_ray.store.patience import is_passing
from rewind_ray.text import printable

STORAGE, LASTING, PASSING = "storage", "lasting", "passing"
"""storage: no stage can go on, the storage is full, may not be written to or is another's. lasting:
it would come again at every try. passing: it may have been the machine's."""
FULL = frozenset(
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS") if hasattr(errno, name)
)
FORBIDDEN = frozenset((errno.EACCES, errno.EPERM))
FORBIDDEN_OBJECT = ("ACCESS_DENIED", "AccessDenied", "HTTP status 403", "PERMISSION_DENIED")
"""What Arrow says of an object store, without an errno."""
LASTING_TYPES = (
    *(ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError),
    *(NotImplementedError, ImportError, RecursionError, NameError, SyntaxError),
)
"""Of a wrong setting, or a mistake in the code: training is deterministic, so they come again."""
TEXT_LIMIT, FRAMES = 1000, 2


class NotShared(OSError):
    """A worker's storage isn't the driver's: each machine of a cluster has a folder of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    kind: str
    """``STORAGE``, ``LASTING`` or ``PASSING``."""
    type: str
    """Of the exception."""
    message: str
    """Printable, ``TEXT_LIMIT`` characters at most."""
    place: str
    """Its last frames outside of other packages: ``stage.py:12 begin_, run.py:9 set_mask_``."""

    def describe(self) -> str:
        """One line."""
        what = f"{self.type}: {self.message}" if self.message else self.type
        return f"{what} ({self.place})" if self.place else what


def failure_of(error: BaseException, ledger: Ledger | None = None) -> Failure:
    """ledger: asked whether it can be written to, where a permission was missing."""
    return Failure(
        kind=_kind(error, ledger),
        type=type(error).__name__,
        message=printable(str(error).strip())[:TEXT_LIMIT],
        place=_place(error),
    )


def is_full(error: BaseException) -> bool:
    """Whether no more can be written: a full disk, a quota, a read-only file system."""
    return isinstance(error, OSError) and error.errno in FULL


def _kind(error: BaseException, ledger: Ledger | None) -> str:
    if is_full(error) or isinstance(error, NotShared):
        return STORAGE
    if isinstance(error, OSError):
        if _is_forbidden(error):  # of one file, or of the storage?
            return LASTING if ledger is None or _writable(ledger) else STORAGE
        if is_passing(error) or isinstance(error, FileNotFoundError) or error.errno is None:
            return PASSING
        return LASTING
    return LASTING if isinstance(error, LASTING_TYPES) else PASSING


def _is_forbidden(error: OSError) -> bool:
    return error.errno in FORBIDDEN or any(text in str(error) for text in FORBIDDEN_OBJECT)


def _writable(ledger: Ledger) -> bool:
    try:
        check_writable(ledger.filesystem, ledger.root)
    except OSError:
        return False
    return True


def _place(error: BaseException) -> str:
    all_frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in all_frames if "site-packages" not in frame.filename]
    frames = (own or all_frames)[-FRAMES:]
    return ", ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames)
