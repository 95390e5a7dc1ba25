"""A short soak run: nodes lost, workers and drivers killed, files damaged; the same numbers."""

import re
import subprocess
import sys

import pytest

from tests.sweeps.running import ROOT


@pytest.mark.alone
def test_faults_change_nothing(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.soak", "--faults", "4", "--seeds", "1"),
            *("--folder", str(tmp_path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (faults,) = re.findall(r"^(\d+) faults in \d+ sweeps?", done.stdout, re.MULTILINE)
    assert int(faults) >= 4
    assert "rows missing: 0, rows different: 0, weights different: 0" in done.stdout
