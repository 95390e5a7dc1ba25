"""``python -m benchmarks.rehearsal.verdict STORAGE UNDISTURBED``: what differs, as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from benchmarks.soak.verdict import compared, facts


def main(uri: str, undisturbed: str) -> None:
    found, expected = facts(uri), facts(undisturbed)
    verdict = asdict(compared(found, expected))
    print(json.dumps({"rows": len(found["rows"]), "epochs": len(found["epochs"])} | verdict))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
