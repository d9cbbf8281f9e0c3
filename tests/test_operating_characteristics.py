"""The published error rates: the short version of the study, on the code as it is."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

STUDIES = Path(__file__).parent.parent / "studies" / "operating_characteristics"


@pytest.mark.parametrize(
    ("study", "told"),
    [("run.py", "rates on target"), ("crossfitting.py", "12 of 12 settings on target")],
    ids=["false ships, guards and coverage", "cross-fitted recipes that learn, in three metrics"],
)
def test_error_rates_stay_on_target_in_the_short_study(study: str, told: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, str(STUDIES / study), "--quick"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert told in done.stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 20
