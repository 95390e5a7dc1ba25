"""``python -m benchmarks.rehearsal.metadata FILE``: what a machine of AWS asks about itself.

On the address and port at which it asks there. FILE: when the machine ends, in ISO 8601, once that
is announced.
"""

from __future__ import annotations

import sys
from datetime import datetime
from http.server import HTTPServer
from pathlib import Path

from tests.cluster.metadata import Metadata

ADDRESS = "169.254.169.254"


def main(file: Path) -> None:
    class Here(Metadata):
        @property
        def ends(self) -> datetime | None:  # type: ignore[override]
            return datetime.fromisoformat(file.read_text()) if file.exists() else None

    with HTTPServer((ADDRESS, 80), Here) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
