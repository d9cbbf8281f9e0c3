"""The published error rates: the short version of the study, on the code as it is."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

STUDY = Path(__file__).parent.parent / "studies" / "operating_characteristics" / "run.py"


def test_false_ships_guards_and_coverage_stay_on_target_in_the_short_study() -> None:
    begun = time.monotonic()
    done = subprocess.run([sys.executable, str(STUDY), "--quick"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rates on target" in done.stdout
    assert time.monotonic() - begun < 120
