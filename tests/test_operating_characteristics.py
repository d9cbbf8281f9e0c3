"""The published error rates: the short version of the study, on the code as it is."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

STUDY = Path(__file__).parent.parent / "studies" / "operating_characteristics" / "run.py"


def test_false_ships_guards_and_coverage_stay_on_target_in_the_short_study() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, str(STUDY), "--quick"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rates on target" in done.stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 20
